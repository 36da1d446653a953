// Blind comparison of two takes, switched at the same position and revealed afterwards.

import * as dock from "./dock.js";
import { $ } from "./dom.js";
import { labelOf, trackOf } from "./takes.js";

const LETTERS = ["a", "b"];

/** Opens the comparison; which take is A is random. */
export async function askCompare(pair) {
  const takes = Math.random() < 0.5 ? pair : [...pair].reverse();
  const tracks = await Promise.all(takes.map(trackOf));
  dock.pause();
  const hear = (nth) => {
    const at = dock.loaded()?.compare ? dock.player.position : 0;
    const second = at >= tracks[nth].seconds - 0.1 ? 0 : at;
    dock.load(tracks[nth], { label: `A or B: ${LETTERS[nth].toUpperCase()}`, compare: true }, { at: second });
    LETTERS.forEach((letter, i) => ($(`hear-${letter}`).ariaPressed = String(i === nth)));
  };
  const prefer = (nth) => {
    const other = takes[1 - nth];
    $("compare-says").textContent = `You prefer take ${takes[nth].id} (${labelOf(takes[nth])}) to take ${other.id}.`;
  };
  LETTERS.forEach((letter, nth) => {
    $(`hear-${letter}`).onclick = () => hear(nth);
    $(`hear-${letter}`).ariaPressed = "false";
    $(`prefer-${letter}`).onclick = () => prefer(nth);
  });
  $("compare-says").textContent = "";
  $("compare-close").onclick = () => $("compare-box").close();
  $("compare-box").onclose = () => dock.pause();
  $("compare-box").showModal();
  $("hear-a").focus();
}
