// The dock at the bottom: one player, always in view, with position and volume.
// Uses tracks and their marks only; independent of the server and of stored takes.

import { $, clock } from "./dom.js";
import { Player } from "./player.js";
import { Wave } from "./wave.js";

const ARROW_S = 2; // that an arrow key moves
const SHORTEST_S = 2;

export const player = new Player();
const wave = new Wave($("wave"));
let shown = null; // what is loaded: {label, marks, …}
let onMove = () => {};

/** Loads a track and seeks to a second; `expectedS` is the estimated length of a track that is
 * still being generated. `about` has the `label`, and the `marks` of its sentences. */
export function load(track, about, { at = 0, expectedS = 0, play = true } = {}) {
  shown = about;
  player.load(track, at);
  wave.reset(track.complete ? track.seconds : Math.max(SHORTEST_S, expectedS));
  wave.push(track.from(0), track.sampleRate);
  if (track.complete) wave.finish();
  $("dock").hidden = false;
  $("now").textContent = about.label;
  if (play) player.play();
  show();
}

/** Call after adding audio to the loaded track. */
export function grown(track, samples) {
  if (player.track !== track) return;
  player.grown();
  wave.push(samples, track.sampleRate);
  show();
}

/** Call when the track is complete. */
export function finished(track) {
  track.complete = true;
  if (player.track === track) wave.finish();
}

/** The loaded track, as given to `load`. */
export const loaded = () => shown;

export function pause() {
  player.pause();
  show();
}

export function seek(second) {
  player.seek(second);
  show();
}

function toggle() {
  if (player.playing) player.pause();
  else player.play();
  show();
}

function show() {
  const { track } = player;
  if (!track) return;
  if (player.playing && player.ended) player.pause();
  const word = player.playing ? "Pause" : "Play";
  if ($("play").ariaLabel !== word) {
    $("play").ariaLabel = word;
    $("play").dataset.state = player.playing ? "playing" : "paused";
  }
  const { position } = player;
  wave.move(position);
  $("seek").max = wave.seconds;
  $("seek").value = position;
  $("seek").setAttribute("aria-valuetext", `${clock(position)} of ${clock(track.seconds)}`);
  $("clock").textContent = `${clock(position)} / ${clock(track.seconds)}${track.complete ? "" : " …"}`;
  onMove(position, track, shown);
}

function follow() {
  if (player.playing) show();
  requestAnimationFrame(follow);
}

/** Connects the dock; calls `moved(position, track, about)` during playback. */
export function startDock({ moved }) {
  onMove = moved;
  $("play").addEventListener("click", toggle);
  $("seek").addEventListener("input", () => seek(Number($("seek").value)));
  $("seek").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -ARROW_S, ArrowDown: -ARROW_S, ArrowRight: ARROW_S, ArrowUp: ARROW_S }[event.key];
    if (!by) return;
    event.preventDefault();
    seek(player.position + by);
  });
  $("volume").value = player.volume;
  $("volume").addEventListener("input", () => (player.volume = Number($("volume").value)));
  follow();
}
