// Calls to the server: JSON, uploads, errors, and streamed speech.
// Touches no element. Paths are relative, so that the page works below a proxy's prefix.

import { OPUS_RATE_HZ, OpusReader } from "./opus.js";
import { samplesOf } from "./sound.js";

const KEY = "chatterbox.key";
const UNREACHABLE = "The server cannot be reached. Is it still running?";
const CUT = "The connection was cut before the speech was complete.";

/** An error answer of the server, with its message. */
export class ServerError extends Error {
  constructor(message, { code, param, request_id: requestId, status, retryAfterS } = {}) {
    super(message);
    Object.assign(this, { code, param, requestId, status, retryAfterS });
  }
}

export const getKey = () => sessionStorage.getItem(KEY) ?? "";

/** Stores the key for this tab, without characters that a header cannot contain. */
export const setKey = (key) => sessionStorage.setItem(KEY, key.replace(/[^\x21-\x7e]/g, ""));

let model = "";

/** Selects the model for all calls, if the server has several. */
export const useModel = (name) => (model = name);

/** Makes one call. Returns an ok Response; throws ServerError, or AbortError when stopped. */
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

/** Makes a call and returns its JSON. */
export const getJson = async (path, options) => (await call(path, options)).json();

/** A form that contains one file. */
export function form(file, fields = {}) {
  const data = new FormData();
  data.append("voice_file", file, file.name ?? "recording");
  for (const [name, value] of Object.entries(fields)) if (value) data.append(name, value);
  return data;
}

/**
 * Streams speech in the format `form`, `pcm` or `opus`. Calls `onSound(samples, sampleRate)` for each
 * piece of audio and `onPart({index, of, start_s, text})` when a part of the text begins. Returns the
 * number of tokens. Uses OpenAI's call with events, because they carry the token count and errors
 * that occur after the first audio; raw PCM could only break off.
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
