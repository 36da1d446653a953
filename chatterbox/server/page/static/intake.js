// The "New voice" sheet with three steps: record or choose, check and trim,
// name and listen. Nothing is stored before "Keep voice".

import { call, form, getJson } from "./api.js";
import { LEAST_S, check, cut, decode, speechIn } from "./clip.js";
import { isText, takeText } from "./compose.js";
import * as dock from "./dock.js";
import { $, el, showError, sleep } from "./dom.js";
import { freeName, refreshVoices, warningsOf } from "./library.js";
import { Track } from "./player.js";
import { MAX_RECORDING_S, record } from "./recorder.js";
import { Wave } from "./wave.js";

const VOICE_FILE = /\.voice$/i;
const SAMPLE = "This is how I sound. I hope that you like it.";
const COUNT_MS = 700;
const wave = new Wave($("clip"));

let file = null; // as it came
let clip = null; // decoded; null where the browser cannot
let recording = null;

const range = () => ({ start: Number($("clip-start").value), end: Number($("clip-end").value) });

function step(nth) {
  for (const n of [1, 2, 3]) {
    $(`step-${n}`).hidden = n !== nth;
    const mark = $("steps").children[n - 1];
    if (n === nth) mark.setAttribute("aria-current", "step");
    else mark.removeAttribute("aria-current");
  }
  showError($("new-error"));
  $("new-progress").textContent = "";
  const focus = { 1: "record", 2: clip ? "use" : "again", 3: "name" }[nth];
  $(focus).focus();
  if (nth === 3) $("name").select();
}

/** Opens the sheet at its first step. */
function open() {
  file = clip = null;
  $("transcript").value = "";
  $("consent").checked = false;
  if (!$("sheet").open) $("sheet").showModal();
  step(1);
}

async function take(given, name) {
  if (VOICE_FILE.test(given.name ?? "")) return send(() => getJson("voices/import", { method: "POST", body: form(given) }));
  open();
  file = given;
  $("name").value = freeName(name);
  try {
    clip = await decode(given);
  } catch {
    $("clip-box").hidden = true;
    $("clip-facts").textContent = "This browser cannot show the file. The server will say whether it can be used.";
    $("clip-problems").replaceChildren();
    $("use").disabled = false;
    return step(2);
  }
  $("clip-box").hidden = false;
  const { start, end } = speechIn(clip);
  for (const id of ["clip-start", "clip-end"]) $(id).max = clip.seconds;
  $("clip-start").value = start;
  $("clip-end").value = end;
  wave.reset(clip.seconds);
  wave.push(clip.samples, clip.sampleRate);
  wave.finish();
  step(2);
  showClip();
  if ($("use").disabled) $("again").focus();
  return null;
}

function showClip(moved) {
  const { start, end } = range();
  if (end - start < LEAST_S) {
    if (moved === "clip-start") $("clip-start").value = Math.max(0, end - LEAST_S);
    else $("clip-end").value = start + LEAST_S;
  }
  const { seconds, peak, clipped, silence, problems, usable } = check(clip, range());
  const percent = (share) => `${(100 * share).toFixed(share && share < 0.01 ? 2 : 0)}\u00a0%`;
  const words = [`${seconds.toFixed(1)} of ${clip.seconds.toFixed(1)} s`, `loudest ${percent(peak)}`, `clipped ${percent(clipped)}`, `silence ${percent(silence)}`];
  $("clip-facts").textContent = words.join(" · ");
  $("clip-problems").replaceChildren(...problems.map((text) => el("li", {}, text)));
  $("use").disabled = !usable;
  for (const id of ["clip-start", "clip-end"]) $(id).setAttribute("aria-valuetext", `${Number($(id).value).toFixed(1)} s`);
  wave.select(range());
}

/** The audio to send: the trimmed stretch, or the original file if hardly anything is cut off. */
function chosenStretch() {
  if (!clip) return file;
  const { start, end } = range();
  return start + (clip.seconds - end) < 0.5 ? file : cut(clip, { start, end });
}

function hearClip() {
  const { start, end } = range();
  const { samples, sampleRate } = clip;
  const stretch = samples.subarray(Math.round(start * sampleRate), Math.round(end * sampleRate));
  dock.player.unlock();
  dock.load(Track.of(stretch, sampleRate), { label: "The recording" });
}

/** Speaks a test sentence in the voice, without storing anything on the server. */
async function hearSentence() {
  await busy("A sentence is spoken …", async () => {
    dock.player.unlock();
    const [sentence] = $("text").value.match(/[^.!?。！？]{12,150}[.!?。！？]/) ?? [SAMPLE];
    const fields = { text: sentence.trim(), transcript: $("transcript").value.trim(), stream: "false" };
    const answer = await call("tts", { method: "POST", body: form(chosenStretch(), fields) });
    const { samples, sampleRate } = await decode(await answer.blob());
    dock.load(Track.of(samples, sampleRate), { label: `How ${$("name").value} sounds` });
    $("new-progress").textContent = "This is how it sounds. Keep it, or start again.";
  });
}

async function busy(words, work) {
  showError($("new-error"));
  $("new-voice").ariaBusy = "true";
  for (const id of ["register", "hear"]) $(id).disabled = true;
  $("new-progress").textContent = words;
  try {
    await work();
  } catch (fault) {
    $("new-progress").textContent = "";
    showError($("new-error"), fault);
  } finally {
    $("new-voice").ariaBusy = "false";
    for (const id of ["register", "hear"]) $(id).disabled = false;
  }
}

/** Records the speaker's consent, then registers the voice. */
async function register() {
  const name = $("name").value.trim();
  const sound = chosenStretch();
  const noted = new FormData();
  noted.append("recording", sound, sound.name ?? "recording");
  noted.append("name", name);
  noted.append("language", navigator.language || "en-US");
  await call("v1/audio/voice_consents", { method: "POST", body: noted });
  const body = form(sound, { name, transcript: $("transcript").value.trim() });
  return getJson("voices/register", { method: "POST", body });
}

const send = (work) => {
  if (!$("sheet").open) open(); // errors stand there
  return busy("The server is checking it …", async () => {
    const { message, name, warnings, voice_id: id } = await work();
    await refreshVoices({ choose: id });
    $("sheet").close();
    $("new-status").textContent = `${message} It is called “${name}” and in use now.`;
    $("new-warnings").replaceChildren(...warningsOf(warnings).children);
    $("voices-title").focus();
  });
};

async function countDown() {
  for (const count of [3, 2, 1]) {
    $("recording-status").textContent = `Recording begins in ${count} …`;
    await sleep(COUNT_MS);
  }
}

async function toggleRecording() {
  if (recording) return recording.stop();
  showError($("new-error"));
  dock.pause();
  const onLevel = (level, seconds) => {
    $("level").value = level;
    const words = `Recording: ${Math.floor(seconds)} of ${MAX_RECORDING_S} s`;
    if ($("recording-status").textContent !== words) $("recording-status").textContent = words;
  };
  try {
    recording = await record(onLevel, countDown);
  } catch (fault) {
    $("recording-status").textContent = "";
    return showError($("new-error"), fault);
  }
  $("record").textContent = "Finish recording";
  $("level").hidden = false;
  const sound = await recording.file;
  recording = null;
  $("record").textContent = "Record";
  $("level").hidden = true;
  $("recording-status").textContent = "";
  return $("sheet").open ? take(sound, "My voice") : null;
}

function chosen([given]) {
  if (!given) return;
  $("new-warnings").replaceChildren();
  if (isText(given)) takeText(given);
  else take(given, (given.name ?? "").replace(/\.\w+$/, ""));
}

function submit(event) {
  event.preventDefault();
  if ($("step-3").hidden) return;
  if ($("consent").checked) return void send(register);
  showError($("new-error"), new Error("Tick that the speaker agrees."));
  $("consent").focus();
}

function startDropping() {
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      document.body.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    chosen(event.dataTransfer.files);
  });
}

/** Connects the sheet, and dropping a file anywhere on the page. */
export function startIntake() {
  $("new").addEventListener("click", open);
  $("sheet-close").addEventListener("click", () => $("sheet").close());
  $("sheet").addEventListener("close", () => {
    recording?.stop();
    dock.pause();
  });
  $("new-voice").addEventListener("submit", submit);
  $("record").addEventListener("click", toggleRecording);
  $("choose").addEventListener("change", () => {
    chosen($("choose").files);
    $("choose").value = ""; // so that the same file can be chosen again
  });
  for (const id of ["clip-start", "clip-end"]) $(id).addEventListener("input", () => showClip(id));
  $("hear-clip").addEventListener("click", hearClip);
  $("use").addEventListener("click", () => step(3));
  $("hear").addEventListener("click", hearSentence);
  for (const id of ["again", "redo"]) $(id).addEventListener("click", open);
  startDropping();
}
