// The list of takes: play, download, restore, compare.
// The list is stored in the browser; only other formats need the server.

import { call } from "./api.js";
import { askCompare } from "./compare.js";
import * as dock from "./dock.js";
import { $, clock, download, el, showError } from "./dom.js";
import { dropTake, keepTake, readTakes, starTake, takes } from "./keep.js";
import { Track } from "./player.js";
import { samplesOfWav } from "./sound.js";

const FORMAT = "chatterbox.format";
const FIRST_WORDS = 5;
const JOINABLE = ["mp3", "aac", "pcm", "ulaw", "alaw"]; // one file behind the other is a file
const compared = new Set(); // ids of the two that are ticked

let restore = () => {};

/** Stores a take and shows it in the list. */
export async function addTake(take) {
  const kept = await keepTake(take);
  show();
  return kept;
}

/** The dock's label for a take. */
export const labelOf = ({ id, voiceName, fields }) =>
  `${id ? `Take ${id}: ` : ""}${voiceName}, “${shortened(fields.input)}”`;

const shortened = (text) => (text.length > 60 ? `${text.slice(0, 58).trimEnd()}…` : text);

/** A file name such as `slt-on-the-first-clear.mp3`: letters and digits of any script, hyphens for the rest. */
function fileName({ voiceName, fields }, format) {
  const words = fields.input.split(/\s+/).slice(0, FIRST_WORDS).join(" ");
  const plain = `${voiceName} ${words}`.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-");
  return `${plain.slice(0, 60).replace(/^-|-$/g, "") || "speech"}.${format === "opus" ? "ogg" : format}`;
}

export const trackOf = async (take) => Track.of(await samplesOfWav(take.audio), take.sampleRate);

async function hear(take) {
  dock.player.unlock();
  dock.load(await trackOf(take), { label: labelOf(take), marks: take.marks, take });
}

/** WAV is stored already; the server generates other formats from the same text, voice and seed, and also
 * the WAV of a take that was streamed as Opus. */
async function fetchFile(take) {
  const { edited, form, pieces } = take;
  showError($("takes-error"));
  const wanted = $("format").value;
  const possible = !edited && (pieces.length === 1 || JOINABLE.includes(wanted)); // a part said anew has another seed
  const format = possible ? wanted : "wav";
  try {
    if (!possible || (format === "wav" && form === "pcm")) {
      download(take.audio, fileName(take, format));
      $("takes-status").textContent = format === wanted ? "" : "This take was assembled from parts, so it is saved as WAV.";
      return;
    }
    $("takes-status").textContent = `The server makes the ${format} file …`;
    const files = [];
    for (const input of pieces) {
      const json = { ...take.fields, input, response_format: format, stream: false };
      files.push(await (await call("v1/audio/speech", { method: "POST", json })).blob());
    }
    download(new Blob(files), fileName(take, format));
    $("takes-status").textContent = "The file is there.";
  } catch (fault) {
    $("takes-status").textContent = "";
    showError($("takes-error"), fault);
  }
}

async function star(take, button) {
  await starTake(take);
  button.ariaPressed = String(take.star);
}

async function forget(take) {
  await dropTake(take.id);
  compared.delete(take.id);
  show();
  $("takes-title").focus();
}

function item(take) {
  const { id, voiceName, fields, seconds, at, complete, figures, form } = take;
  const act = (word, title, action) =>
    el("button", { type: "button", onclick: action, ariaLabel: `${title} ${id}` }, word);
  const tick = el("input", { type: "checkbox", checked: compared.has(id), ariaLabel: `Compare take ${id}` });
  tick.addEventListener("change", () => {
    if (tick.checked) compared.add(id);
    else compared.delete(id);
    showCompare();
  });
  const keep = act("★", "Keep take", () => star(take, keep));
  keep.ariaPressed = String(Boolean(take.star));
  keep.title = "Keep this take when newer ones arrive";
  const when = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const facts = [
    when,
    complete ? "" : "stopped",
    take.edited && "a part said anew",
    figures.first_audio && `first audio ${figures.first_audio} s`,
    figures.rtf && `RTF ${figures.rtf}`,
    figures.codes && `${figures.codes} tokens`,
    form === "opus" && "came as Opus",
    fields.model,
    !take.edited && `seed ${fields.seed}`,
  ];
  return el(
    "li", {},
    el("button", { type: "button", className: "round", onclick: () => hear(take), ariaLabel: `Play take ${id}` }, "▶"),
    el("div", { className: "grow" },
      el("p", { className: "said" },
        el("span", { className: "name" }, `${id} · ${voiceName}`), `“${shortened(fields.input)}” `,
        el("span", { className: "nowrap" }, clock(seconds, 1))),
      el("p", { className: "hint" }, facts.filter(Boolean).join(" · "))),
    el("div", { className: "row tools" },
      act("Download", "Download take", () => fetchFile(take)),
      act("Restore", "Restore text, voice and settings of take", () => restore(take)),
      keep,
      act("✕", "Forget take", () => forget(take)),
      el("label", { className: "tick" }, tick, "A/B")),
  );
}

function show() {
  const all = takes();
  for (const id of compared) if (!all.some((take) => take.id === id)) compared.delete(id);
  $("takes").replaceChildren(...all.map(item));
  $("takes-empty").hidden = all.length > 0;
  $("takes-head").hidden = all.length === 0;
  showCompare();
}

const pair = () => {
  const ticked = takes().filter(({ id }) => compared.has(id));
  return ticked.length ? ticked : takes().slice(0, 2);
};

function showCompare() {
  $("compare").disabled = pair().length !== 2;
}

/** Offers the server's formats for download. */
export function offerFormats(formats) {
  $("format").replaceChildren(...formats.map((name) => el("option", {}, name)));
  const wanted = localStorage.getItem(FORMAT);
  $("format").value = formats.includes(wanted) ? wanted : "wav";
}

/** Shows the takes; `onRestore(take)` restores one into the form. */
export async function startTakes({ onRestore }) {
  restore = onRestore;
  $("compare").addEventListener("click", () => askCompare(pair()));
  $("format").addEventListener("change", () => localStorage.setItem(FORMAT, $("format").value));
  offerFormats(["wav"]);
  await readTakes();
  show();
}
