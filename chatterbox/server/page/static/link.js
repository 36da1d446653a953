// How fast is the connection, and in which form does speech come over it? Measured, or chosen.

import { $, sleep } from "./dom.js";
import { playsOpus } from "./opus.js";

const FORM = "chatterbox.form";
const PROBE = "page/style.css";
const SLOW_KBIT_S = 1000; // uncompressed speech takes 512, as events carry it

let kbitPerS = Infinity;

/** Fetches a file of the page anew and takes the time of its body. */
export async function measureLink() {
  try {
    performance.clearResourceTimings();
    const answer = await fetch(PROBE, { cache: "no-store" });
    await answer.arrayBuffer();
    const { encodedBodySize, responseStart, responseEnd } = await timesOf(answer.url);
    kbitPerS = (8 * encodedBodySize) / (responseEnd - responseStart);
  } catch {
    return; // the server is away: what was known stays
  }
  show();
}

/** The browser's own times of a file; they may come a moment after its last byte. */
async function timesOf(url) {
  for (let tries = 0; tries < 50 && !performance.getEntriesByName(url).length; tries++) await sleep(20);
  return performance.getEntriesByName(url).at(-1);
}

const isSlow = () => navigator.connection?.saveData || kbitPerS < SLOW_KBIT_S;

/** `opus` or `pcm`: how the next speech is asked for. */
export function formOfSound() {
  const wanted = $("form-of-sound").value;
  return wanted === "auto" ? (isSlow() && playsOpus() ? "opus" : "pcm") : wanted;
}

function show() {
  const speed = kbitPerS >= 10_000 ? "fast" : `${(kbitPerS / 1000).toFixed(1)} Mbit/s`;
  const form = formOfSound() === "opus" ? "Opus, a sixth of the data" : "uncompressed";
  $("form-says").textContent = `The connection: ${speed}. Speech comes as ${form}.`;
}

/** Connects the choice. */
export function startLink() {
  const select = $("form-of-sound");
  select.querySelector("[value=opus]").disabled = !playsOpus();
  const kept = localStorage.getItem(FORM);
  if ([...select.options].some(({ value, disabled }) => value === kept && !disabled)) select.value = kept;
  select.addEventListener("change", () => {
    localStorage.setItem(FORM, select.value);
    show();
  });
  show();
}
