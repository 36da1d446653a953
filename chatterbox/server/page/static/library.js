// Which voices are there, and what can be done with each? The list, its reports, its actions.
// Names are other people's words: they only ever become text.

import { call, getJson } from "./api.js";
import { $, ask, download, el, showError } from "./dom.js";

const FILTER_FROM = 9; // voices; below that they are seen at a glance

let voices = [];
let byDefault = "";

/** Asks for the list and shows it; `choose` is the id of the voice to speak with. */
export async function refreshVoices({ choose = $("voice").value } = {}) {
  const answer = await getJson("voices");
  voices = answer.voices;
  byDefault = answer.default_voice;
  const ids = voices.map((voice) => voice.voice_id);
  $("voice").replaceChildren(
    ...voices.map((voice) => el("option", { value: voice.voice_id }, voice.name)),
  );
  $("voice").value = [choose, defaultId(), ids[0]].find((id) => ids.includes(id)) ?? "";
  $("voice").dispatchEvent(new Event("change", { bubbles: true }));
  $("filter").hidden = voices.length < FILTER_FROM;
  show();
}

const defaultId = () =>
  voices.find(({ voice_id, name, aliases }) => [voice_id, name, ...aliases].includes(byDefault))?.voice_id;

function show() {
  const wanted = $("filter").hidden ? "" : $("filter").value.toLowerCase();
  const open = new Set([...$("voices").querySelectorAll("details[open]")].map((d) => d.dataset.id));
  const shown = voices.filter(({ name, aliases }) =>
    [name, ...aliases].some((known) => known.toLowerCase().includes(wanted)),
  );
  $("voices").replaceChildren(...shown.map((voice) => item(voice, open.has(voice.voice_id))));
  markChosen();
}

function markChosen() {
  for (const button of $("voices").querySelectorAll("[aria-pressed]")) {
    const chosen = button.dataset.id === $("voice").value;
    button.ariaPressed = chosen;
    button.textContent = chosen ? "In use" : "Use";
  }
}

function item(voice, open) {
  const { voice_id: id, name, report, built_in: builtIn, language } = voice;
  const count = report?.warnings.length;
  const badges = [
    id === defaultId() && "default",
    builtIn && (report ? "built in" : language),
    count && `${count} warning${count > 1 ? "s" : ""}`,
  ].filter(Boolean);
  const summary = el(
    "summary", {},
    el("span", { className: "name" }, name),
    ...badges.map((badge) => el("span", { className: "badge" }, badge)),
  );
  const use = button("Use", () => choose(id), name);
  Object.assign(use, { ariaPressed: "false", className: "use" }).dataset.id = id;
  const details = el("details", { open }, summary, reportOf(voice), actions(voice));
  details.dataset.id = id;
  return el("li", {}, details, use);
}

const button = (word, action, name) =>
  el("button", { type: "button", onclick: action, ariaLabel: `${word} ${name}` }, word);

function choose(id) {
  $("voice").value = id;
  $("voice").dispatchEvent(new Event("change", { bubbles: true }));
}

/** The report as names and values for people; a voice of the model's own has none. */
function reportOf({ report, aliases, voice_id: id, description }) {
  if (!report) return el("p", {}, description || "A voice that the model was trained with.");
  const percent = (share) => `${(100 * share).toFixed(share && share < 0.01 ? 2 : 0)} %`;
  const rows = {
    Recording: `${report.duration_s.toFixed(1)} s at ${report.sample_rate_hz / 1000} kHz`,
    "Heard by the model": `${report.used_duration_s.toFixed(1)} s from ${report.used_start_s.toFixed(1)} s on`,
    Loudness: report.loudness_lufs === null ? "too quiet to measure" : `${report.loudness_lufs} LUFS`,
    "Loudest sample": percent(report.peak) + " of full scale",
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

/** "name: a sentence" → the sentences, in a list. */
export function warningsOf(warnings) {
  const sentences = warnings.map((warning) => warning.replace(/^\w+: /, ""));
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  return el("ul", { className: "warnings" }, ...sentences.map((text) => el("li", {}, capital(text))));
}

function actions(voice) {
  const { name, built_in: builtIn, report } = voice;
  const row = el("div", { className: "row" });
  if (report) row.append(button("Export", () => act(() => exportVoice(voice)), name));
  if (!builtIn) {
    row.append(button("Rename", () => act(() => rename(voice)), name));
    row.append(button("Delete", () => act(() => remove(voice)), name));
  }
  return row;
}

/** Does one thing to the library and says how it went. */
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

async function exportVoice(voice) {
  const response = await call(`${pathOf(voice)}/export`);
  download(await response.blob(), `${voice.voice_id}.voice`);
  return "The voice is exported.";
}

async function rename(voice) {
  const name = await ask({ title: "Rename voice", yes: "Rename", name: voice.name });
  if (name === null) return null;
  const { message } = await getJson(`${pathOf(voice)}/name`, { method: "PUT", json: { name } });
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

/** Connects the list with the choice of a voice. */
export function startLibrary() {
  $("filter").addEventListener("input", show);
  $("voice").addEventListener("change", markChosen);
}
