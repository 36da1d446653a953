// What happens between "Speak" and the last sound? One utterance: asked for, drawn, heard, kept.
// Knows the form's fields and the figures; knows nothing of how voices are managed.

import { speak } from "./api.js";
import { $, showError } from "./dom.js";
import { Player, samplesOf, wavOf } from "./sound.js";
import { Wave } from "./wave.js";

const CHARS_PER_S = 14; // of usual English speech; only the waveform's first width hangs on it
const SHORTEST_GUESS_S = 2;
const NUMBERS = ["temperature", "top_p", "top_k", "repetition_penalty", "max_tokens", "speed", "seed"];
const FIELD_OF_PARAM = { input: "text", max_new_tokens: "max_tokens" };

const wave = new Wave($("wave"));
let current = null; // the utterance that is made or heard

/** What the form says: empty fields are left out, and what is no number goes as it is, so that the
 * server says what is wrong with it. */
export function fieldsOfForm() {
  const fields = { input: $("text").value, voice: $("voice").value };
  for (const name of NUMBERS) {
    const value = $(name).value.trim();
    if (value) fields[name] = Number.isNaN(Number(value)) ? value : Number(value);
  }
  return fields;
}

class Utterance {
  #abort = new AbortController();
  #player = new Player();
  #pieces = [];
  #samples = 0;
  #sampleRate = 0;
  #began = performance.now();
  #made = false;

  async run(fields) {
    const chars = fields.input.length;
    wave.reset(Math.max(SHORTEST_GUESS_S, chars / CHARS_PER_S));
    this.#follow();
    try {
      const codes = await speak(fields, {
        signal: this.#abort.signal,
        onStart: (facts) => this.#start(facts),
        onSound: (bytes) => this.#sound(bytes),
      });
      this.#figures(codes);
    } catch (fault) {
      if (fault.name !== "AbortError") {
        this.#player.stop();
        throw fault;
      }
    } finally {
      this.#made = true;
      if (this.#samples) this.#keep();
    }
  }

  get stopped() {
    return this.#abort.signal.aborted;
  }

  get seconds() {
    return this.#samples / this.#sampleRate;
  }

  /** Ends the work on the server, and the sound here. */
  stop() {
    this.#abort.abort();
    this.#player.stop();
  }

  silence() {
    this.#player.stop();
  }

  #start({ seed, sampleRate }) {
    this.#sampleRate = sampleRate;
    $("take-seed").textContent = seed;
    $("take-seed").disabled = false;
  }

  #sound(bytes) {
    if (!this.#samples) $("first-audio").textContent = this.#since();
    const samples = samplesOf(bytes);
    this.#pieces.push(bytes);
    this.#samples += samples.length;
    this.#player.push(samples, this.#sampleRate);
    wave.push(samples, this.#sampleRate);
    $("duration").textContent = `${this.seconds.toFixed(1)} s`;
  }

  #figures(codes) {
    const took = (performance.now() - this.#began) / 1000;
    $("codes").textContent = codes;
    $("rtf").textContent = (took / this.seconds).toFixed(2);
    $("duration").textContent = `${this.seconds.toFixed(2)} s`;
  }

  #since() {
    return `${((performance.now() - this.#began) / 1000).toFixed(2)} s`;
  }

  #keep() {
    const url = URL.createObjectURL(wavOf(this.#pieces, this.#sampleRate));
    URL.revokeObjectURL($("audio").src);
    $("audio").src = url;
    $("download").href = url;
    $("file").hidden = false;
    wave.finish();
  }

  /** Moves the heard part of the wave along, until all is heard. */
  #follow() {
    if (current !== this) return;
    if (!this.#player.idle || !this.#made) {
      if (this.#samples) wave.move(this.#player.position);
      requestAnimationFrame(() => this.#follow());
      return;
    }
    if (!this.stopped) wave.move(this.#samples ? this.seconds : 0);
    $("stop").disabled = true;
  }
}

async function go(event) {
  event.preventDefault();
  if ($("go").disabled) return;
  current?.stop();
  const utterance = (current = new Utterance());
  clear();
  try {
    await utterance.run(fieldsOfForm());
    if (current === utterance) say(utterance);
  } catch (fault) {
    if (current === utterance) refuse(fault);
  } finally {
    if (current === utterance) $("result").ariaBusy = "false";
  }
}

function clear() {
  $("audio").pause();
  $("file").hidden = true;
  for (const id of ["first-audio", "rtf", "duration", "codes", "take-seed"]) $(id).textContent = "–";
  $("take-seed").disabled = true;
  for (const input of $("speak").querySelectorAll("[aria-invalid]")) input.ariaInvalid = null;
  showError($("speak-error"));
  $("stop").disabled = false;
  $("result").ariaBusy = "true";
  $("progress").textContent = "Speaking …";
}

function say(utterance) {
  const made = utterance.seconds ? `${utterance.seconds.toFixed(1)} s of speech` : "nothing";
  $("progress").textContent = utterance.stopped ? `Stopped: ${made} was made.` : `Done: ${made}.`;
}

function refuse(fault) {
  $("progress").textContent = "That did not work.";
  $("stop").disabled = true;
  showError($("speak-error"), fault);
  const input = $(FIELD_OF_PARAM[fault.param] ?? fault.param);
  if (!input || !$("speak").contains(input)) return;
  input.ariaInvalid = "true";
  if ($("advanced").contains(input)) $("advanced").open = true;
  input.focus();
}

/** Connects the form, the buttons and the finished sound. */
export function startSpeaking() {
  $("speak").addEventListener("submit", go);
  $("stop").addEventListener("click", () => current?.stop());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !$("ask").open) current?.stop();
    const wanted = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    if (wanted && event.target === $("text")) $("speak").requestSubmit();
  });
  $("take-seed").addEventListener("click", () => {
    $("seed").value = $("take-seed").textContent;
    $("seed").dispatchEvent(new Event("input", { bubbles: true }));
    $("advanced").open = true;
    $("seed").focus();
  });
  $("audio").addEventListener("play", () => current?.silence());
  $("audio").addEventListener("timeupdate", () => wave.move($("audio").currentTime));
  $("wave").addEventListener("click", (event) => {
    if ($("file").hidden) return;
    $("audio").currentTime = wave.secondAt(event.offsetX);
    $("audio").play();
  });
}
