// The operator's drawer: load and figures from `/health` and `/metrics`, refreshed while it is open.

import { getJson } from "./api.js";
import { $, el } from "./dom.js";

const POLL_MS = 2000;
const seconds = (value) => (value ? `${value.toFixed(2)} s` : "–");

let poll = 0;

function lastRow({ ago_s: ago, route, outcome, audio_s: audio, time_to_first_audio_s: first }, nth) {
  const what = [route, outcome, audio && `${audio.toFixed(1)} s of speech`, first && `first sound after ${seconds(first)}`];
  return [`${nth ? `${nth} before` : "Last request"}, ${Math.round(ago)} s ago`, what.filter(Boolean).join(", ")];
}

function rowsOf(health, metrics) {
  const { active, queued, requests, queue_s: queue, time_to_first_audio_s: first, rtf, throughput, batch, segments, uptime_s: up, memory_bytes: memory, last } = metrics;
  const outcomes = Object.entries(requests.by_outcome).map(([name, count]) => `${name} ${count}`);
  return {
    Model: `${health.model}, ${health.precision}`,
    Speaks: health.languages?.join(", "),
    Runs: health.machine || health.device,
    Version: health.version,
    "Places busy": `${active} of ${health.places}, ${queued} waiting`,
    "Queueing time, p95": seconds(queue.p95),
    "First audio, p50": seconds(first.p50),
    "First audio, p95": seconds(first.p95),
    "RTF, mean": rtf.mean?.toFixed(2) ?? "–",
    "Speech per second": `${throughput.audio_s_per_s.toFixed(1)} s`,
    "Rows in a step": `${batch.mean_rows?.toFixed(1) ?? "–"} on average, ${batch.running_rows} now`,
    Segments: `${segments.finished} finished, ${segments.failed} failed, ${segments.retried} retried`,
    Requests: outcomes.join(", ") || "none",
    Memory: memory ? `${(memory / 2 ** 20).toFixed(0)} MB` : "",
    "Up for": `${Math.round(up / 60)} min`,
    ...Object.fromEntries(last.map(lastRow)),
  };
}

async function show() {
  clearTimeout(poll);
  if (!$("server-box").open) return;
  try {
    const answers = await Promise.all([getJson("health"), getJson("metrics")]);
    const rows = Object.entries(rowsOf(...answers)).filter(([, value]) => value);
    $("server-facts").replaceChildren(...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
    $("server-says").textContent = "";
  } catch (fault) {
    $("server-says").textContent = fault.message;
  }
  poll = setTimeout(show, POLL_MS);
}

/** Connects the drawer. */
export const startDrawer = () => $("server-box").addEventListener("toggle", show);
