// What happens between "Speak" and the last sound? One utterance: asked for, heard, kept as a take.
// Nothing that is there is touched before the first sound of the new one has come.

import { speak } from "./api.js";
import * as dock from "./dock.js";
import { $, clock, showError } from "./dom.js";
import { fieldsOfForm, fieldProblem, showProblem } from "./form.js";
import { Track } from "./player.js";
import { samplesOf, wavOf } from "./sound.js";
import { addTake, labelOf } from "./takes.js";

export const CHARS_PER_S = 14; // of usual speech, before anything of a text was heard

let current = null; // the utterance that was asked for last
const making = new Set(); // all whose sound is still coming

class Utterance {
  #abort = new AbortController();
  #fields;
  #voiceName;
  #track = null;
  #marks = [];
  #seed = null;
  #sampleRate = 0;
  #began = performance.now();
  #figures = {};
  complete = false;

  constructor(fields, voiceName) {
    this.#fields = fields;
    this.#voiceName = voiceName;
  }

  async run() {
    making.add(this);
    try {
      const codes = await speak(this.#fields, {
        signal: this.#abort.signal,
        onStart: ({ seed, sampleRate }) => {
          this.#seed = seed;
          this.#sampleRate = sampleRate;
        },
        onPart: ({ index, of, start_s: start, text }) => this.#marks.push({ index, of, start, text }),
        onSound: (bytes) => this.#sound(samplesOf(bytes)),
      });
      this.complete = true;
      this.#figures.codes = codes;
      this.#figures.rtf = (this.#since / this.seconds).toFixed(2);
    } catch (fault) {
      if (fault.name !== "AbortError") throw fault;
    } finally {
      making.delete(this);
      if (this.#track) await this.#keep();
    }
  }

  get seconds() {
    return this.#track?.seconds ?? 0;
  }

  get stopped() {
    return this.#abort.signal.aborted;
  }

  /** Ends the work on the server; the sound that has come is kept. */
  stop() {
    this.#abort.abort();
  }

  get #since() {
    return (performance.now() - this.#began) / 1000;
  }

  #sound(samples) {
    if (!this.#track) this.#first();
    this.#track.push(samples);
    dock.grown(this.#track, samples);
  }

  /** Only now what was made or heard before makes room. */
  #first() {
    for (const other of making) if (other !== this) other.stop();
    this.#figures.first_audio = this.#since.toFixed(2);
    this.#track = new Track(this.#sampleRate);
    const expectedS = this.#fields.input.length / CHARS_PER_S / (this.#fields.speed ?? 1);
    const about = { label: labelOf(this.#about), marks: this.#marks, text: this.#fields.input };
    dock.load(this.#track, about, { expectedS });
  }

  get #about() {
    return { fields: this.#fields, voiceName: this.#voiceName };
  }

  async #keep() {
    dock.finished(this.#track);
    const { sampleRate } = this.#track;
    const take = await addTake({
      ...this.#about,
      seed: Number(this.#seed),
      marks: this.#marks,
      figures: this.#figures,
      complete: this.complete,
      seconds: this.seconds,
      sampleRate,
      audio: wavOf(this.#track.from(0), sampleRate),
    });
    const about = dock.loaded();
    if (dock.player.track === this.#track) Object.assign(about, { take, label: labelOf(take) });
  }
}

async function go(event) {
  event.preventDefault();
  if ($("go").disabled) return;
  showError($("speak-error"));
  for (const input of $("speak").querySelectorAll("[aria-invalid]")) input.ariaInvalid = null;
  const problem = fieldProblem();
  if (problem) return refuse(problem);
  const utterance = (current = new Utterance(fieldsOfForm(), $("voice").selectedOptions[0]?.text ?? ""));
  dock.player.unlock();
  $("stop").disabled = false;
  $("progress").textContent = "Speaking …";
  try {
    await utterance.run();
    if (current === utterance) say(utterance);
  } catch (fault) {
    refuse(fault, utterance); // an earlier one, too, may break off
  } finally {
    if (!making.size) $("stop").disabled = true;
  }
  return null;
}

function say({ seconds, stopped }) {
  const made = seconds ? `${seconds.toFixed(1)} s of speech` : "nothing";
  $("progress").textContent = stopped ? `Stopped: ${made} was made.` : `Made: ${made}.`;
}

function refuse(fault, utterance) {
  const made = utterance?.seconds;
  $("progress").textContent = made
    ? `It broke off: the first ${made.toFixed(1)} s are kept.`
    : "Nothing was made. What was there before is still there.";
  showError($("speak-error"), fault);
  showProblem(fault);
}

/** Which part of the text is heard, of how many, and how long it will go on. */
export function showWhere(position, track, { marks = [], text = "" }) {
  const nth = marks.findLastIndex(({ start }) => start <= position + 0.01);
  const words = [];
  if (dock.player.playing && nth >= 0) {
    const { of } = marks[nth];
    if (of > 1) words.push(`Part ${nth + 1} of ${of}`);
    words.push(`${clock(leftS(position, track, marks, text))} left`);
  }
  const line = words.join(" · ");
  if ($("where").textContent !== line) $("where").textContent = line;
}

/** Of what is not made yet, by the pace of what is. */
function leftS(position, track, marks, whole) {
  if (track.complete) return track.seconds - position;
  const chars = marks.reduce((sum, { text }) => sum + text.length, 0);
  const pace = chars ? Math.max(track.seconds / chars, 0.04) : 1 / CHARS_PER_S;
  return Math.max(0, track.seconds - position + Math.max(0, whole.length - chars) * pace);
}

export function stopAll() {
  for (const utterance of making) utterance.stop();
  dock.pause();
}

/** Connects the form and its buttons. */
export function startSpeaking() {
  $("speak").addEventListener("submit", go);
  $("stop").addEventListener("click", stopAll);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) stopAll();
    const wanted = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    if (wanted && event.target === $("text")) $("speak").requestSubmit();
  });
}
