// Connection speed, and the audio format chosen by it or by the user.

import { $, sleep } from "./dom.js";
import { playsOpus } from "./opus.js";

const FORM = "chatterbox.form";
const PROBE = "page/style.css";
const SLOW_KBIT_S = 1000; // uncompressed speech takes 512, as events carry it

let kbitPerS = Infinity;

/** Measures the speed by fetching one of the page's files again. */
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

/** The browser's timing entry for a file, which may appear shortly after its last byte. */
async function timesOf(url) {
  for (let tries = 0; tries < 50 && !performance.getEntriesByName(url).length; tries++) await sleep(20);
  return performance.getEntriesByName(url).at(-1);
}

const isSlow = () => navigator.connection?.saveData || kbitPerS < SLOW_KBIT_S;

/** The format to request next: `opus` or `pcm`. */
export function formOfSound() {
  const wanted = $("form-of-sound").value;
  return wanted === "auto" ? (isSlow() && playsOpus() ? "opus" : "pcm") : wanted;
}

function show() {
  const speed = kbitPerS >= 10_000 ? "fast" : `${(kbitPerS / 1000).toFixed(1)} Mbit/s`;
  const form = formOfSound() === "opus" ? "Opus, a sixth of the data" : "uncompressed";
  $("form-says").textContent = `The connection: ${speed}. Speech comes as ${form}.`;
}

/** Connects the format selector. */
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
