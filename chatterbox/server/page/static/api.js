// How does the page talk to the server? Calls, refusals, and speech as it is made.
// Knows no element. Paths are relative, so that the page works below a proxy's prefix.

import { OPUS_RATE_HZ, OpusReader } from "./opus.js";
import { samplesOf } from "./sound.js";

const KEY = "chatterbox.key";
const UNREACHABLE = "The server cannot be reached. Is it still running?";
const CUT = "The connection was cut before the speech was complete.";

/** What the server refused, in its own words. */
export class ServerError extends Error {
  constructor(message, { code, param, request_id: requestId, status, retryAfterS } = {}) {
    super(message);
    Object.assign(this, { code, param, requestId, status, retryAfterS });
  }
}

export const getKey = () => sessionStorage.getItem(KEY) ?? "";

/** Keeps the key for this tab; what no header can carry is left out. */
export const setKey = (key) => sessionStorage.setItem(KEY, key.replace(/[^\x21-\x7e]/g, ""));

let model = "";

/** Which model all calls are about, where the server has several. */
export const useModel = (name) => (model = name);

/** One call. Answers a Response that is ok; throws ServerError, or AbortError when stopped. */
export async function call(path, { method = "GET", json, body, signal } = {}) {
  const headers = new Headers({ Accept: "application/json" });
  if (getKey()) headers.set("Authorization", `Bearer ${getKey()}`);
  if (json) headers.set("Content-Type", "application/json");
  const about = model && `?${new URLSearchParams({ model })}`;
  let response;
  try {
    response = await fetch(path + about, {
      method, headers, signal, body: json ? JSON.stringify(json) : body,
    });
  } catch (fault) {
    throw fault.name === "AbortError" ? fault : new ServerError(UNREACHABLE);
  }
  if (response.ok) return response;
  throw await refusal(response);
}

async function refusal(response) {
  const { status } = response;
  const facts = { status, retryAfterS: Number(response.headers.get("Retry-After")) || undefined };
  try {
    const { error } = await response.json();
    return new ServerError(error.message, { ...error, ...facts });
  } catch {
    return new ServerError(`The server answered ${status} ${response.statusText}.`, facts);
  }
}

/** The body of a call that answers JSON. */
export const getJson = async (path, options) => (await call(path, options)).json();

/** A form with one file. */
export function form(file, fields = {}) {
  const data = new FormData();
  data.append("voice_file", file, file.name ?? "recording");
  for (const [name, value] of Object.entries(fields)) if (value) data.append(name, value);
  return data;
}

/**
 * Speaks; the sound comes as `form`, `pcm` or `opus`. `onSound(samples, sampleRate)` is told of each
 * piece, `onPart({index, of, start_s, text})` that a part of the text begins. Answers the number of
 * codes. The call is OpenAI's with events, because they carry the codes, and an error that comes
 * after the first sound; raw PCM could only break off.
 */
export async function speak(fields, form, { signal, onPart = () => {}, onSound }) {
  const sse = { response_format: form, stream_format: "sse", timings: true };
  const json = { ...fields, ...sse };
  const response = await call("v1/audio/speech", { method: "POST", json, signal });
  const opus = form === "opus" ? new OpusReader() : null;
  const rate = opus ? OPUS_RATE_HZ : Number(response.headers.get("X-Sample-Rate"));
  for await (const event of eventsOf(response.body)) {
    if (event.error) throw new ServerError(event.error.message, event.error);
    if (event.type === "speech.segment") onPart(event);
    if (event.type === "speech.audio.delta") {
      const bytes = bytesOf(event.audio);
      const samples = opus ? await opus.read(bytes) : samplesOf(bytes);
      if (samples.length && !signal?.aborted) onSound(samples, rate);
    }
    if (event.type === "speech.audio.done") return event.usage.output_tokens;
  }
  throw new ServerError(CUT);
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (fault) {
      throw fault.name === "AbortError" ? fault : new ServerError(CUT);
    }
    if (part.done) return;
    const events = (waiting + part.value).split("\n\n");
    waiting = events.pop();
    for (const event of events) yield JSON.parse(event.slice("data:".length));
  }
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
