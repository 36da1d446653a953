// What does the page do? Connects its parts, says how the server is, keeps the key.
// Each part answers its own question: see the imports.

import { getJson, getKey, setKey } from "./api.js";
import { $, showError } from "./dom.js";
import { startIntake } from "./intake.js";
import { refreshVoices, startLibrary } from "./library.js";
import { snippet } from "./snippets.js";
import { fieldsOfForm, startSpeaking } from "./speaking.js";

const NOT_READY_POLL_MS = 2000;
const COPIED_MS = 1500;

let poll = 0;

/** Asks how the server is, again and again until it is ready. */
async function checkHealth() {
  clearTimeout(poll);
  const before = $("health").dataset.state;
  try {
    showHealth(await getJson("health"));
  } catch (fault) {
    $("health").dataset.state = "gone";
    $("health").textContent = fault.status === 401 ? "API key needed" : "Not reachable";
    if (fault.status === 401) $("key-box").open = true;
  }
  const ready = $("health").dataset.state === "ok";
  $("go").disabled = !ready;
  if (!ready) poll = setTimeout(checkHealth, NOT_READY_POLL_MS);
  else if (before !== "ok") await showVoices();
}

function showHealth({ status, model, precision, device, version, notice, fallback, cloning, skipped_voices: skipped = [] }) {
  $("health").dataset.state = status;
  $("health").textContent = [status === "ok" ? "Ready" : status, model, precision, device].filter(Boolean).join(" · ");
  $("health").title = `Version ${version}`;
  $("new-voice").hidden = cloning === null;
  $("transcript-box").hidden = !["optional", "required"].includes(cloning);
  const words = [notice, fallback && `Why: ${fallback}.`].filter(Boolean).join(" ");
  $("notice").hidden = !notice;
  $("notice").textContent = words;
  if (skipped.length) {
    const names = skipped.map(({ voice, reason }) => `${voice} (${reason})`).join(", ");
    $("voices-status").textContent = `Left out: ${names}`;
  }
}

async function showVoices() {
  try {
    await refreshVoices();
    showError($("voices-error"));
  } catch (fault) {
    showError($("voices-error"), fault);
  }
}

function showSnippet() {
  const kind = document.querySelector("[name=snippet]:checked").value;
  $("snippet").textContent = snippet(kind, fieldsOfForm());
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

startSpeaking();
startLibrary();
startIntake();
$("key").value = getKey();
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey($("key").value);
  $("key-box").open = false;
  $("health").dataset.state = "loading";
  showSnippet();
  checkHealth();
});
for (const kind of ["input", "change"]) $("speak").addEventListener(kind, showSnippet);
for (const radio of document.querySelectorAll("[name=snippet]")) radio.addEventListener("change", showSnippet);
$("copy").addEventListener("click", copySnippet);
document.addEventListener("visibilitychange", () => document.hidden || checkHealth());
showSnippet();
checkHealth();
