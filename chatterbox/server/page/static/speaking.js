// One utterance, from "Speak" to the stored take: requests, plays and stores it.
// Earlier takes and playback stay untouched until the new utterance's first audio arrives.

import { speak } from "./api.js";
import * as dock from "./dock.js";
import { $, clock, showError, sleep } from "./dom.js";
import { drawnSeed, fieldsOfForm, fieldProblem, showProblem } from "./form.js";
import { formOfSound, measureLink } from "./link.js";
import { piecesOf } from "./pieces.js";
import { Track } from "./player.js";
import { wavOf } from "./sound.js";
import { addTake, labelOf } from "./takes.js";

export const CHARS_PER_S = 14; // of usual speech, before anything of a text was heard
const BETWEEN_S = 0.3; // of silence between two pieces of a long text
const MOST_RETRIES = 20;

let current = null; // the utterance that was asked for last
const making = new Set(); // all whose sound is still coming

class Utterance {
  #abort = new AbortController();
  #fields;
  #voiceName;
  #pieces;
  #form = formOfSound();
  #track = null;
  #marks = [];
  #began = performance.now();
  #figures = { codes: 0 };
  complete = false;

  constructor(fields, voiceName) {
    this.#fields = fields;
    this.#voiceName = voiceName;
    this.#pieces = piecesOf(fields.input);
  }

  async run() {
    making.add(this);
    try {
      for (const nth of this.#pieces.keys()) await this.#patiently(nth);
      this.complete = true;
      this.#figures.rtf = (this.#since / this.seconds).toFixed(2);
    } catch (fault) {
      if (fault.name !== "AbortError") throw fault;
    } finally {
      making.delete(this);
      if (this.#track) await this.#keep();
      if (dock.player.waited) measureLink();
    }
  }

  get seconds() {
    return this.#track?.seconds ?? 0;
  }

  get stopped() {
    return this.#abort.signal.aborted;
  }

  /** Stops the work on the server; keeps the audio received so far. */
  stop() {
    this.#abort.abort();
  }

  get #since() {
    return (performance.now() - this.#began) / 1000;
  }

  /** Speaks one piece; retries if the server is full between two pieces. */
  async #patiently(nth) {
    const before = this.seconds;
    for (let again = 0; ; again++) {
      try {
        return await this.#say(nth);
      } catch (fault) {
        if (nth === 0 || !fault.retryAfterS || again === MOST_RETRIES || this.seconds > before) throw fault;
        await sleep(1000 * fault.retryAfterS);
        this.#abort.signal.throwIfAborted();
      }
    }
  }

  async #say(nth) {
    const input = this.#pieces[nth];
    const begun = this.#marks.length;
    const left = this.#pieces.slice(nth + 1).join("").length;
    const said = this.#fields.input.length - left;
    let offset = this.seconds;
    this.#figures.codes += await speak({ ...this.#fields, input }, this.#form, {
      signal: this.#abort.signal,
      onPart: ({ of: parts, start_s: start, text }) => {
        if (nth && this.#marks.length === begun) {
          this.#sound(new Float32Array(BETWEEN_S * this.#track.sampleRate));
          offset = this.seconds;
        }
        const of = Math.round((begun + parts) * (1 + left / said));
        this.#marks.push({ of, about: left > 0, start: offset + start, text });
      },
      onSound: (samples, sampleRate) => {
        this.#track ??= this.#first(sampleRate);
        this.#sound(samples);
      },
    });
  }

  #sound(samples) {
    this.#track.push(samples);
    dock.grown(this.#track, samples);
  }

  /** Replaces the previous playback, at the first audio of the new utterance. */
  #first(sampleRate) {
    for (const other of making) if (other !== this) other.stop();
    this.#figures.first_audio = this.#since.toFixed(2);
    const track = new Track(sampleRate);
    const expectedS = this.#fields.input.length / CHARS_PER_S / (this.#fields.speed ?? 1);
    const about = { label: labelOf(this.#about), marks: this.#marks, text: this.#fields.input };
    dock.load(track, about, { expectedS });
    return track;
  }

  get #about() {
    return { fields: this.#fields, voiceName: this.#voiceName };
  }

  async #keep() {
    dock.finished(this.#track);
    const { sampleRate } = this.#track;
    const take = await addTake({
      ...this.#about,
      pieces: this.#pieces,
      form: this.#form,
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
  const utterance = (current = new Utterance({ seed: drawnSeed(), ...fieldsOfForm() }, $("voice").selectedOptions[0]?.text ?? ""));
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
    ? `Generation stopped early: the first ${made.toFixed(1)} s are kept.`
    : "No audio was generated. Your earlier takes are unchanged.";
  showError($("speak-error"), fault);
  showProblem(fault);
}

/** Shows which part of the text is playing, of how many, and the time left. */
export function showWhere(position, track, { marks = [], text = "" }) {
  const nth = marks.findLastIndex(({ start }) => start <= position + 0.01);
  const words = [];
  if (dock.player.playing && nth >= 0) {
    const { of, about } = track.complete ? { of: marks.length } : marks.at(-1);
    if (of > 1) words.push(`Part ${nth + 1} of ${about ? "about " : ""}${of}`);
    words.push(`${clock(leftS(position, track, marks, text))} left`);
  }
  const line = words.join(" · ");
  if ($("where").textContent !== line) $("where").textContent = line;
}

/** Estimates the remaining time from the pace of the completed parts. */
function leftS(position, track, marks, whole) {
  if (track.complete) return track.seconds - position;
  const { start } = marks.at(-1);
  const chars = marks.slice(0, -1).reduce((sum, { text }) => sum + text.length, 0);
  const pace = chars ? start / chars : 1 / CHARS_PER_S;
  return Math.max(track.seconds, start + (whole.length - chars) * pace) - position;
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
