// How does a recording become a voice? Chosen, dropped or spoken; listened to, named, registered.
// Knows nothing of formats: the server reads what it reads, and says so where it does not.

import { call, form, getJson } from "./api.js";
import { isText, takeText } from "./compose.js";
import { $, showError } from "./dom.js";
import { refreshVoices, warningsOf } from "./library.js";
import { MAX_RECORDING_S, record } from "./recorder.js";

const VOICE_FILE = /\.voice$/i;

let draft = null; // the recording that waits to be registered
let recording = null;

function take(file, name) {
  reset();
  if (VOICE_FILE.test(file.name ?? "")) return send(() => importVoice(file));
  draft = file;
  $("preview").src = URL.createObjectURL(file);
  $("name").value = name;
  $("draft").hidden = false;
  $("name").focus();
  $("name").select();
  return null;
}

/** Back to the empty form. */
function reset() {
  draft = null;
  URL.revokeObjectURL($("preview").src);
  $("preview").removeAttribute("src");
  $("draft").hidden = true;
  $("transcript").value = "";
  $("new-warnings").replaceChildren();
  $("new-status").textContent = "";
  showError($("new-error"));
}

async function importVoice(file) {
  return getJson("voices/import", { method: "POST", body: form(file) });
}

async function register() {
  const body = form(draft, { name: $("name").value.trim(), transcript: $("transcript").value.trim() });
  return (await call("voices/register", { method: "POST", body })).json();
}

/** Sends a voice and shows what the server says of it. */
async function send(work) {
  showError($("new-error"));
  $("new-voice").ariaBusy = "true";
  $("register").disabled = true;
  $("new-status").textContent = "The server listens to it …";
  try {
    const { message, name, warnings, voice_id: id } = await work();
    await refreshVoices({ choose: id });
    reset();
    $("new-status").textContent = `${message} It is called “${name}” and in use now.`;
    $("new-warnings").replaceChildren(...warningsOf(warnings).children);
    $("new-title").focus(); // what had the focus is gone
  } catch (fault) {
    $("new-status").textContent = "";
    showError($("new-error"), fault);
  } finally {
    $("new-voice").ariaBusy = "false";
    $("register").disabled = false;
  }
}

async function toggleRecording() {
  if (recording) return recording.stop();
  reset();
  try {
    recording = await record((level, seconds) => {
      $("level").value = level;
      $("recording-status").textContent = `Recording: ${Math.floor(seconds)} of ${MAX_RECORDING_S} s`;
    });
  } catch (fault) {
    return showError($("new-error"), fault);
  }
  $("record").textContent = "Finish recording";
  $("drop").classList.add("busy");
  $("recording").hidden = false;
  const file = await recording.file;
  recording = null;
  $("record").textContent = "Record";
  $("drop").classList.remove("busy");
  $("recording").hidden = true;
  return take(file, "My voice");
}

function chosen(files) {
  const [file] = files;
  if (file && isText(file)) takeText(file);
  else if (file) take(file, file.name.replace(/\.\w+$/, ""));
}

/** Connects the form; a file may be dropped anywhere on the page. */
export function startIntake() {
  $("new-voice").addEventListener("submit", (event) => {
    event.preventDefault();
    if (draft) send(register);
  });
  $("discard").addEventListener("click", () => {
    reset();
    $("choose").focus();
  });
  $("record").addEventListener("click", toggleRecording);
  $("choose").addEventListener("change", () => {
    chosen($("choose").files);
    $("choose").value = ""; // so that the same file can be chosen again
  });
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      $("drop").classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    $("drop").classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    chosen(event.dataTransfer.files);
  });
}
