// Server state: polls `/health` every ten seconds, more often until the server is ready.

import { getJson, getKey } from "./api.js";
import { $ } from "./dom.js";

const POLL_MS = 10_000;
const NOT_READY_POLL_MS = 2000;
const CLOSED_NOTICE = "chatterbox.notice";
const WORDS = { ok: "Ready", loading: "Loading the model", draining: "Shutting down", dead: "The engine has stopped" };
const STAGES = { downloading: "Downloading", compiling: "Compiling", opening: "Opening the model", warming: "Warming up" };

let poll = 0;
let warm = false;
let onReady = async () => {};
export let state = "loading";

/** Polls the state and schedules the next poll; `anew` forgets the previous state. */
export async function checkHealth({ anew = false } = {}) {
  clearTimeout(poll);
  const before = anew ? "" : state;
  try {
    showHealth(await getJson("health"));
  } catch (fault) {
    const [word, next] = fault.status === 401
      ? [getKey() ? "Wrong API key" : "API key needed", getKey() ? "wrong-key" : "no-key"]
      : ["Not reachable", "gone"];
    tell(next, word);
    if (fault.status === 401 && before !== next) $("key-box").open = true;
    $("key-says").textContent = next === "wrong-key" ? "The server does not know this key." : "";
  }
  const ready = state === "ok";
  $("go").disabled = !ready;
  poll = setTimeout(() => checkHealth(), ready && warm ? POLL_MS : NOT_READY_POLL_MS);
  if (ready && before !== "ok") await onReady();
}

function tell(next, word, title = "") {
  state = next;
  if ($("health").dataset.state !== next) $("health").dataset.state = next;
  if ($("health").textContent !== word) $("health").textContent = word; // announced only when it is new
  $("health").title = title;
}

function showHealth({ status, loading, model, precision, device, version, notice, fallback, active, places, queued, cloning, skipped_voices: skipped = [] }) {
  warm = !loading;
  const word = STAGES[loading?.stage] ?? WORDS[status] ?? status;
  tell(status, [word, model, precision, device].filter(Boolean).join(" · "), `Version ${version}`);
  $("loaded").hidden = !loading?.detail;
  if (loading?.done == null) $("loaded").removeAttribute("value");
  else $("loaded").value = loading.done;
  $("load").textContent = [
    loading?.detail,
    active && `${active} of ${places} places busy`,
    queued && `${queued} waiting`,
  ].filter(Boolean).join(", ");
  $("key-says").textContent = "";
  $("new").hidden = cloning === null;
  $("no-cloning").hidden = cloning !== null;
  $("transcript-box").hidden = !["optional", "required"].includes(cloning);
  const words = [notice, fallback && `Why: ${fallback}.`].filter(Boolean).join(" ");
  $("notice").hidden = !notice || sessionStorage.getItem(CLOSED_NOTICE) === words;
  $("notice-text").textContent = words;
  if (skipped.length) {
    const names = skipped.map(({ voice, reason }) => `${voice} (${reason})`).join(", ");
    $("voices-status").textContent = `Left out: ${names}`;
  }
}

/** Starts polling; calls `ready()` each time the server becomes ready. */
export function startHealth({ ready }) {
  onReady = ready;
  $("notice-close").addEventListener("click", () => {
    sessionStorage.setItem(CLOSED_NOTICE, $("notice-text").textContent);
    $("notice").hidden = true;
    $("text").focus();
  });
  document.addEventListener("visibilitychange", () => document.hidden || checkHealth());
  checkHealth();
}
