// The list of voices, and below it the details and actions of the selected one.
// Voice names are untrusted input and are only ever inserted as text.

import { call, getJson } from "./api.js";
import { decode } from "./clip.js";
import * as dock from "./dock.js";
import { $, ask, download, el, showError } from "./dom.js";
import { Track } from "./player.js";

const FILTER_FROM = 9; // voices; below that they are seen at a glance
const SAMPLE = "This is how I sound.";
const TYPING_MS = 700; // between two letters of one word
const byName = (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true });

let voices = [];
let byDefault = "";
let known = ""; // the last answer, to tell whether anything is new
let typed = { word: "", at: 0 };

/** Loads and shows the list; `choose` is the id of the voice to select. */
export async function refreshVoices({ choose = $("voice").value } = {}) {
  const answer = await getJson("voices");
  const text = JSON.stringify(answer);
  if (text === known && choose === $("voice").value) return;
  known = text;
  byDefault = answer.default_voice;
  voices = answer.voices.sort(byName);
  const ids = voices.map((voice) => voice.voice_id);
  $("voice").replaceChildren(...groups(voices).map(([label, list]) =>
    el("optgroup", { label }, ...list.map(({ voice_id: value, name }) => el("option", { value }, name)))));
  $("voice").value = [choose, defaultId(), ids[0]].find((id) => ids.includes(id)) ?? "";
  $("filter").hidden = voices.length < FILTER_FROM;
  show();
  $("voice").dispatchEvent(new Event("change", { bubbles: true }));
}

/** The name, with a number appended if it is taken. */
export function freeName(name) {
  const taken = new Set(voices.flatMap((voice) => [voice.name, ...voice.aliases]).map((one) => one.toLowerCase()));
  let free = name;
  for (let nth = 2; taken.has(free.toLowerCase()); nth++) free = `${name} ${nth}`;
  return free;
}

const groups = (list) =>
  [["Yours", list.filter((voice) => !voice.built_in)], ["Built in", list.filter((voice) => voice.built_in)]]
    .filter(([, some]) => some.length);

const defaultId = () =>
  voices.find(({ voice_id, name, aliases }) => [voice_id, name, ...aliases].includes(byDefault))?.voice_id;

const chosen = () => voices.find(({ voice_id: id }) => id === $("voice").value);

/** The facts that code examples need: the voice's name, its id, and whether it has a recording. */
export function voiceInUse() {
  const voice = chosen();
  return voice ? { voice: voice.name, id: voice.voice_id, recorded: Boolean(voice.report) } : {};
}

function show() {
  const wanted = $("filter").hidden ? "" : $("filter").value.trim().toLowerCase();
  const shown = voices.filter(({ name, aliases, description = "" }) =>
    [name, ...aliases, description].some((word) => word.toLowerCase().includes(wanted)));
  $("voices").replaceChildren(...groups(shown).map(([label, list]) => {
    const group = el("div", { role: "group", ariaLabel: label }, el("p", { className: "group", ariaHidden: "true" }, label));
    group.append(...list.map(item));
    return group;
  }));
  $("voices").hidden = shown.length === 0;
  $("voices-none").textContent = shown.length ? "" : `There is no voice called “${$("filter").value.trim()}”.`;
  mark();
}

function item(voice) {
  const { voice_id: id, name, report, description, language, built_in: builtIn } = voice;
  const count = report?.warnings.length;
  const says = description || (builtIn ? language : report && `${report.used_duration_s.toFixed(0)} s heard`);
  const badges = [id === defaultId() && "default", count && `${count} warning${count > 1 ? "s" : ""}`].filter(Boolean);
  const option = el("div", { role: "option", id: `voice-${voices.indexOf(voice)}`, onclick: () => choose(id) },
    el("span", { className: "name" }, name), el("span", { className: "says" }, says || ""),
    ...badges.map((badge) => el("span", { className: "badge" }, badge)));
  option.dataset.id = id;
  return option;
}

/** Marks the selected voice and shows its details. */
function mark() {
  $("voices").removeAttribute("aria-activedescendant");
  for (const option of $("voices").querySelectorAll("[role=option]")) {
    const selected = option.dataset.id === $("voice").value;
    option.ariaSelected = String(selected);
    if (!selected) continue;
    $("voices").setAttribute("aria-activedescendant", option.id);
    const box = $("voices"); // scrolls the list alone, never the page
    const top = option.getBoundingClientRect().top - box.getBoundingClientRect().top;
    if (top < 0 || top > box.clientHeight - option.offsetHeight) box.scrollTop += top - box.clientHeight / 2;
  }
  showAbout();
}

function showAbout() {
  const voice = chosen();
  if (!voice) return $("about").replaceChildren();
  const open = $("about").querySelector("details")?.open ?? false;
  return $("about").replaceChildren(
    el("div", { className: "row actions" }, ...actions(voice)),
    el("details", { open }, el("summary", {}, `About ${voice.name}`), reportOf(voice)));
}

const button = (word, action, name) =>
  el("button", { type: "button", onclick: () => act(action), ariaLabel: `${word} ${name}` }, word);

function choose(id) {
  $("voice").value = id;
  $("voice").dispatchEvent(new Event("change", { bubbles: true }));
}

/** Keyboard: arrow keys select the next voice, letters search by prefix, Enter plays. */
function onKey(event) {
  const options = [...$("voices").querySelectorAll("[role=option]")];
  const at = options.findIndex((option) => option.ariaSelected === "true");
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: options.length - 1 }[event.key];
  if (event.key === "Enter" && chosen()) act(() => hear(chosen()));
  else if (next !== undefined) choose((options[next] ?? options[Math.max(at, 0)]).dataset.id);
  else if (event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey) type(event.key, options);
  else return;
  event.preventDefault();
}

function type(letter, options) {
  const now = Date.now();
  typed = { word: (now - typed.at < TYPING_MS ? typed.word : "") + letter.toLowerCase(), at: now };
  const found = options.find((option) => option.textContent.toLowerCase().startsWith(typed.word));
  if (found) choose(found.dataset.id);
}

/** The quality report as readable names and values; a model's fixed voice has none. */
function reportOf({ report, aliases, voice_id: id, description }) {
  if (!report) return el("p", {}, description || "A voice the model was trained on.");
  const percent = (share) => `${(100 * share).toFixed(share && share < 0.01 ? 2 : 0)} %`;
  const rows = {
    Who: description,
    Recording: `${report.duration_s.toFixed(1)} s at ${report.sample_rate_hz / 1000} kHz`,
    "Used by the model": `${report.used_duration_s.toFixed(1)} s from ${report.used_start_s.toFixed(1)} s on`,
    Loudness: report.loudness_lufs === null ? "too quiet to measure" : `${report.loudness_lufs} LUFS`,
    "Peak level": percent(report.peak) + " of full scale",
    Clipped: percent(report.clipped_share),
    Silence: percent(report.silence_share),
    "Also called": aliases.join(", "),
    Id: id,
  };
  const list = el("dl", { className: "report" });
  for (const [name, value] of Object.entries(rows)) {
    if (value) list.append(el("dt", {}, name), el("dd", {}, value));
  }
  return el("div", {}, warningsOf(report.warnings), list);
}

/** The sentences of "name: a sentence" strings, as a list element. */
export function warningsOf(warnings) {
  const sentences = warnings.map((warning) => warning.replace(/^\w+: /, ""));
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  return el("ul", { className: "warnings" }, ...sentences.map((text) => el("li", {}, capital(text))));
}

function actions(voice) {
  const { name, built_in: builtIn, report } = voice;
  const all = [button("▶ Hear", () => hear(voice), name)];
  if (report) all.push(button("Export", () => exportVoice(voice), name));
  if (!builtIn) all.push(button("Note", () => note(voice), name), button("Rename", () => rename(voice), name), button("Delete", () => remove(voice), name));
  return all;
}

/** Runs one action on the library and reports the outcome. */
async function act(action) {
  showError($("voices-error"));
  try {
    $("voices-status").textContent = (await action()) ?? "";
  } catch (fault) {
    showError($("voices-error"), fault);
  }
  if (document.activeElement === document.body) $("voices-title").focus(); // its entry was redrawn
}

const pathOf = ({ voice_id: id }) => `voices/${encodeURIComponent(id)}`;

/** Plays a voice's recording, or a spoken sentence for a model's fixed voice. */
async function hear(voice) {
  dock.player.unlock();
  const json = { input: SAMPLE, voice: voice.voice_id, response_format: "wav", stream: false, seed: 1 };
  const sample = () => call("v1/audio/speech", { method: "POST", json });
  const response = await (voice.report ? call(`${pathOf(voice)}/recording`) : sample());
  const { samples, sampleRate } = await decode(await response.blob());
  dock.load(Track.of(samples, sampleRate), { label: voice.report ? `Recording of ${voice.name}` : voice.name });
}

async function exportVoice(voice) {
  const response = await call(`${pathOf(voice)}/export`);
  download(await response.blob(), `${voice.name.replace(/[^\p{L}\p{N} ._-]+/gu, "-")}.voice`);
  return "The voice is exported.";
}

async function rename(voice) {
  const name = await ask({ title: "Rename voice", yes: "Rename", name: voice.name });
  if (name === null) return null;
  const { message } = await getJson(`${pathOf(voice)}/name`, { method: "PUT", json: { name } });
  await refreshVoices();
  return message;
}

async function note(voice) {
  const title = `What is ${voice.name} like, or for?`;
  const description = await ask({ title, yes: "Keep", label: "Note", name: voice.description ?? "" });
  if (description === null) return null;
  const { message } = await getJson(`${pathOf(voice)}/description`, { method: "PUT", json: { description } });
  await refreshVoices();
  return message;
}

async function remove(voice) {
  const sure = await ask({
    title: "Delete this voice?",
    text: `“${voice.name}” and its recording are removed from the server. Export it first to keep it.`,
    yes: "Delete",
    danger: true,
  });
  if (!sure) return null;
  const { message } = await getJson(pathOf(voice), { method: "DELETE" });
  await refreshVoices();
  return message;
}

/** Connects the list with the voice selector. */
export function startLibrary() {
  $("filter").addEventListener("input", show);
  $("voice").addEventListener("change", mark);
  $("voices").addEventListener("keydown", onKey);
}
