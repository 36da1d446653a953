// What does the page do? Connects its parts, shows programs, keeps the key.
// Each part answers its own question: see the imports.

import { getJson, getKey, setKey } from "./api.js";
import { showAlong, startAlong } from "./along.js";
import { showModel, startCompose } from "./compose.js";
import { startDock } from "./dock.js";
import { $, showError } from "./dom.js";
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
const THEME = "chatterbox.theme";
const THEMES = { system: "Colours: as the system", light: "Colours: light", dark: "Colours: dark" };

/** What hangs on the loaded model, and the voices. */
async function showServer() {
  try {
    const [model] = (await getJson("v1/models")).data;
    showModel(model);
    showSettings(model.settings);
    offerFormats(model.formats);
    await refreshVoices({ choose: draftVoice() ?? $("voice").value });
    showError($("voices-error"));
    measureLink();
  } catch (fault) {
    showError($("voices-error"), fault);
  }
}

function showSnippet() {
  const kind = document.querySelector("[name=snippet]:checked").value;
  $("snippet").textContent = snippet(kind, { ...fieldsOfForm(), ...voiceInUse() });
}

/** The clipboard belongs to https:// and localhost; elsewhere the text is selected and copied. */
async function copySnippet() {
  try {
    await navigator.clipboard.writeText($("snippet").textContent);
  } catch {
    getSelection().selectAllChildren($("snippet"));
    document.execCommand("copy");
  }
  $("copy").textContent = "Copied";
  $("copied").textContent = "The program is copied.";
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
