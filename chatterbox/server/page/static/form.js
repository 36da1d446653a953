// The form: reads, checks, saves and restores text, voice and settings.
// The settings, their bounds and defaults come from the server.

import { $, el } from "./dom.js";
import { keepDraft, readDraft } from "./keep.js";

const SETTINGS = {
  speed: ["Speed", "Faster or slower, at the same pitch.", 0.05],
  temperature: ["Temperature", "Higher: livelier and less predictable. Lower: steadier.", 0.05],
  top_p: ["Top p", "Higher: rarer sounds are allowed too. 1: all.", 0.01],
  top_k: ["Top k", "How many candidate sounds to draw from at each step. 0: all."],
  min_p: ["Min p", "Higher: unlikely sounds are left out. 0: none is.", 0.01],
  repetition_penalty: ["Repetition penalty", "Higher: less stuttering; too high cuts vowels short.", 0.05],
  penalty_window: ["Penalty window", "How many of the last tokens the penalty looks at. 0: all."],
  max_tokens: ["Longest segment", "Maximum speech tokens for one segment of the text."],
};
const SEED = { minimum: 0, maximum: 2 ** 32 - 1 };
const FIELD_OF_PARAM = { input: "text", max_new_tokens: "max_tokens" };
const PRESETS = { "The model's own": 1, Steady: 0.75, Lively: 1.3, Exact: 1 }; // of the default temperature

let bounds = {};
let wantedVoice = null; // of the draft, until the list of voices has come

const names = () => [...Object.keys(bounds), "seed"];

/** The form's values; empty fields are omitted and left to the server. */
export function fieldsOfForm() {
  const fields = { input: $("text").value, voice: $("voice").value };
  if ($("model").value) fields.model = $("model").value;
  for (const name of names()) {
    const value = $(name)?.value.trim();
    if (value) fields[name] = Number(value);
  }
  return fields;
}

/** A random seed. The page always sends one, so that any take can be reproduced. */
export const drawnSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** The first invalid field as an error, or null. */
export function fieldProblem() {
  for (const name of names()) {
    const { minimum, maximum } = bounds[name] ?? SEED;
    const value = $(name).value.trim();
    const number = Number(value);
    if (value && !(number >= minimum && number <= maximum)) {
      const word = SETTINGS[name]?.[0] ?? "Seed";
      return Object.assign(new Error(`${word}: a number from ${minimum} to ${maximum}.`), { param: name });
    }
  }
  return null;
}

/** Marks the field of an error and focuses it. */
export function showProblem({ param }) {
  const input = $(FIELD_OF_PARAM[param] ?? param);
  if (!input || !$("speak").contains(input)) return;
  input.ariaInvalid = "true";
  if ($("advanced").contains(input)) $("advanced").open = true;
  input.focus();
}

/** Creates the fields for the loaded model's settings. */
export function showSettings(settings) {
  const draft = { ...readDraft().settings, ...values() };
  bounds = settings;
  for (const place of ["speed-field", "fields"]) $(place).replaceChildren();
  for (const [name, [word, says, step]] of Object.entries(SETTINGS)) {
    if (bounds[name]) $(name === "speed" ? "speed-field" : "fields").append(field(name, word, says, step));
  }
  fill(draft);
}

function field(name, word, says, step) {
  const { minimum, maximum, default: usual } = bounds[name];
  const rounded = Number(usual.toFixed(3));
  const input = el("input", { id: name, name, autocomplete: "off", inputMode: "decimal", placeholder: rounded });
  input.setAttribute("aria-describedby", `${name}-says`);
  const label = el("label", { htmlFor: name }, word);
  const hint = el("small", { id: `${name}-says` }, `${says} ${minimum} to ${maximum}; the model's own: ${rounded}.`);
  const row = el("div", { className: "setting" }, label, input);
  if (step) {
    const marks = el("datalist", { id: `${name}-usual` }, el("option", { value: rounded }));
    const slider = el("input", { type: "range", min: minimum, max: maximum, step, ariaLabel: `${word}, slider` });
    slider.setAttribute("list", marks.id);
    slider.addEventListener("input", () => {
      input.value = slider.value;
      input.dispatchEvent(new Event("input", { bubbles: true }));
    });
    input.slide = () => (slider.value = input.value || rounded);
    input.addEventListener("input", input.slide);
    input.slide();
    row.append(slider, marks);
  }
  row.append(hint);
  return row;
}

const values = () => Object.fromEntries(names().map((name) => [name, $(name)?.value]).filter(([, value]) => value));

function fill(settings) {
  for (const name of names()) {
    $(name).value = settings[name] ?? "";
    $(name).slide?.();
  }
  changed();
}

/** Notifies draft, counter and code examples that a field has changed. */
export const changed = () => $("speak").dispatchEvent(new Event("input", { bubbles: true }));

/** Restores a take's text, voice, settings and seed. */
export function restoreTake({ fields: { input, voice, model, ...settings }, voiceName }) {
  $("text").value = input;
  if (model && model !== $("model").value && [...$("model").options].some(({ value }) => value === model)) {
    wantedVoice = voice;
    $("model").value = model;
    $("model").dispatchEvent(new Event("change"));
  }
  const there = wantedVoice === voice || [...$("voice").options].some(({ value }) => value === voice);
  if (there && !wantedVoice) {
    $("voice").value = voice;
    $("voice").dispatchEvent(new Event("change", { bubbles: true }));
  }
  fill(settings);
  $("advanced").open = true;
  $("text").focus();
  $("progress").textContent = there ? "The take was restored into the form." : `The voice “${voiceName}” no longer exists; the other fields were restored.`;
}

/** The draft's voice, to be selected once the list is loaded. */
export function draftVoice() {
  const voice = wantedVoice;
  wantedVoice = null;
  return voice;
}

/** Restores the draft and saves it from now on. */
export function startForm() {
  const draft = readDraft();
  if (draft.text !== undefined) $("text").value = draft.text;
  wantedVoice = draft.voice ?? null;
  $("seed").value = draft.settings?.seed ?? "";
  for (const kind of ["input", "change"]) {
    $("speak").addEventListener(kind, () => {
      const voice = wantedVoice ?? $("voice").value;
      keepDraft({ text: $("text").value, voice, settings: { ...readDraft().settings, ...all() } });
    });
  }
  $("presets").append(...Object.entries(PRESETS).map(([word, share]) =>
    el("button", { type: "button", onclick: () => preset(word, share) }, word)));
}

const all = () => Object.fromEntries(names().map((name) => [name, $(name)?.value ?? ""]));

/** "Exact" sets a fixed seed, so that a text always sounds the same. */
function preset(word, share) {
  const { default: usual, maximum } = bounds.temperature;
  const { speed, seed = word === "Exact" ? String(drawnSeed()) : "" } = values();
  const temperature = share === 1 ? "" : String(Math.min(maximum, Math.round(usual * share * 20) / 20));
  fill({ seed, speed, temperature });
}
