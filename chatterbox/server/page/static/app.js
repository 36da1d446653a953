// Entry point: connects the page's parts, shows code examples, stores the API key.
// Each imported module is one part of the page.

import { getJson, getKey, setKey, useModel } from "./api.js";
import { showAlong, startAlong } from "./along.js";
import { showModel, startCompose } from "./compose.js";
import { startDock } from "./dock.js";
import { $, el, showError } from "./dom.js";
import { startDrawer } from "./drawer.js";
import { draftVoice, fieldsOfForm, restoreTake, showSettings, startForm } from "./form.js";
import { checkHealth, startHealth, state } from "./health.js";
import { startIntake } from "./intake.js";
import { measureLink, startLink } from "./link.js";
import { refreshVoices, startLibrary, voiceInUse } from "./library.js";
import { snippet } from "./snippets.js";
import { showWhere, startSpeaking } from "./speaking.js";
import { offerFormats, startTakes } from "./takes.js";

const COPIED_MS = 1500;
const MODEL = "chatterbox.model";
const THEME = "chatterbox.theme";
const THEMES = { system: "Colours: follow the system", light: "Colours: light", dark: "Colours: dark" };

/** Updates everything that depends on the loaded model, and the voices. */
async function showServer() {
  try {
    let models = await readModels();
    const names = models.map(({ id }) => id);
    const chosen = names.includes(localStorage.getItem(MODEL)) ? localStorage.getItem(MODEL) : names[0];
    const several = names.length > 1;
    $("model-field").hidden = !several;
    $("model").replaceChildren(...(several ? names : []).map((name) => el("option", { selected: name === chosen }, name)));
    useModel(several ? chosen : "");
    await refreshVoices({ choose: draftVoice() ?? $("voice").value }); // loads the model where it is not
    if (several) models = await readModels();
    const { settings, formats, ...model } = models.find(({ id }) => id === chosen);
    showModel(model);
    showSettings(settings);
    offerFormats(formats);
    showError($("voices-error"));
    measureLink();
  } catch (fault) {
    showError($("voices-error"), fault);
  }
}

/** The models without the aliases of other servers' models. */
async function readModels() {
  return (await getJson("v1/models")).data.filter((model, nth) => nth === 0 || model.settings || model.state);
}

async function chooseModel() {
  localStorage.setItem(MODEL, $("model").value);
  $("progress").textContent = `${$("model").value} is being loaded …`;
  await showServer();
  $("progress").textContent = "";
}

function showSnippet() {
  const kind = document.querySelector("[name=snippet]:checked").value;
  $("snippet").textContent = snippet(kind, { ...fieldsOfForm(), ...voiceInUse() });
}

/** Copies the example. The clipboard API needs https:// or localhost; elsewhere the text is selected and copied. */
async function copySnippet() {
  try {
    await navigator.clipboard.writeText($("snippet").textContent);
  } catch {
    getSelection().selectAllChildren($("snippet"));
    document.execCommand("copy");
  }
  $("copy").textContent = "Copied";
  $("copied").textContent = "Copied.";
  setTimeout(() => {
    $("copy").textContent = "Copy";
    $("copied").textContent = "";
  }, COPIED_MS);
}

function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").ariaLabel = THEMES[theme];
  $("theme").title = THEMES[theme];
  document.dispatchEvent(new Event("themechange"));
}

function nextTheme() {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
  localStorage.setItem(THEME, next);
  showTheme(next);
}

showTheme(localStorage.getItem(THEME) in THEMES ? localStorage.getItem(THEME) : "system");
$("theme").addEventListener("click", nextTheme);
startForm();
startCompose();
startDock({
  moved: (...where) => {
    showWhere(...where);
    showAlong(...where);
  },
});
startAlong();
startDrawer();
startSpeaking();
startLink();
startTakes({ onRestore: restoreTake });
startLibrary();
startIntake();
$("model").addEventListener("change", chooseModel);
$("key").value = getKey();
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey($("key").value);
  $("key-box").open = false;
  showSnippet();
  checkHealth({ anew: true });
});
for (const kind of ["input", "change"]) $("speak").addEventListener(kind, showSnippet);
for (const radio of document.querySelectorAll("[name=snippet]")) radio.addEventListener("change", showSnippet);
$("copy").addEventListener("click", copySnippet);
window.addEventListener("focus", () => {
  if (state === "ok") refreshVoices().catch((fault) => showError($("voices-error"), fault));
});
showSnippet();
startHealth({ ready: showServer });
