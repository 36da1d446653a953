// Read-along: shows a take's text part by part, highlights the one playing, seeks, regenerates one.

import { speak } from "./api.js";
import * as dock from "./dock.js";
import { $, el, roving, showError } from "./dom.js";
import { drawnSeed } from "./form.js";
import { Track } from "./player.js";
import { wavOf } from "./sound.js";
import { addTake, labelOf } from "./takes.js";

const QUIET = 0.01; // below it, the end of a piece counts as its pause

let marks = null; // that are shown
let current = -1;

/** Highlights the part that is playing; parts of speech still being generated are added as they come. */
export function showAlong(position, _track, about) {
  const given = about.marks ?? [];
  $("along").hidden = given.length === 0;
  if (given !== marks) {
    marks = given;
    current = -1;
    $("pieces").replaceChildren();
  }
  for (let nth = $("pieces").children.length; nth < marks.length; nth++) {
    const go = () => {
      dock.seek(marks[nth].start);
      dock.player.play();
    };
    $("pieces").append(el("button", { type: "button", onclick: go }, marks[nth].text.trim()), " ");
    if (nth === 0 || nth === marks.length - 1) roving($("pieces"), "button");
  }
  $("anew").disabled = !about.take || current < 0;
  const nth = marks.findLastIndex(({ start }) => start <= position + 0.01);
  if (nth === current) return;
  current = nth;
  [...$("pieces").children].forEach((piece, i) => {
    if (i !== nth) return piece.removeAttribute("aria-current");
    piece.setAttribute("aria-current", "true");
    $("pieces").scrollTop = piece.offsetTop - $("pieces").clientHeight / 3;
    return null;
  });
}

/** The number of samples of the pause at the end of a stretch. */
function pauseOf(samples) {
  const last = samples.findLastIndex((sample) => Math.abs(sample) >= QUIET);
  return samples.length - 1 - last;
}

/** Regenerates the part that is playing, and keeps the result as a new take. */
async function sayAnew() {
  const { take } = dock.loaded();
  const { track } = dock.player;
  const nth = current;
  const [from, to] = [take.marks[nth].start, take.marks[nth + 1]?.start ?? track.seconds].map((s) => Math.round(s * track.sampleRate));
  const old = track.from(from, to);
  const said = [];
  showError($("takes-error"));
  $("anew").disabled = true;
  $("takes-status").textContent = "The part is regenerated …";
  try {
    const fields = { ...take.fields, input: take.marks[nth].text.trim(), seed: drawnSeed() };
    await speak(fields, take.form ?? "pcm", { onSound: (samples) => said.push(samples) });
    const whole = new Track(track.sampleRate);
    const parts = [track.from(0, from), ...said, new Float32Array(pauseOf(old)), track.from(to)];
    for (const samples of parts) whole.push(samples);
    whole.complete = true;
    const longer = whole.seconds - track.seconds;
    const moved = take.marks.map((mark, i) => ({ ...mark, start: mark.start + (i > nth ? longer : 0) }));
    const audio = wavOf(whole.from(0), whole.sampleRate);
    const kept = await addTake({ ...take, marks: moved, seconds: whole.seconds, edited: true, figures: {}, audio });
    dock.load(whole, { label: labelOf(kept), marks: kept.marks, take: kept }, { at: from / whole.sampleRate });
    $("takes-status").textContent = `Part ${nth + 1} is regenerated: take ${kept.id}.`;
  } catch (fault) {
    $("takes-status").textContent = "";
    showError($("takes-error"), fault);
  }
}

/** Connects the "Regenerate this part" button. */
export const startAlong = () => $("anew").addEventListener("click", sayAnew);
