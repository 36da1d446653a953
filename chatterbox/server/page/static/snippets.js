// Code examples: the form's fields as calls in several languages and libraries.
// Quotes values for each language; never shows a key, only the variable that holds it.

import { getKey } from "./api.js";

const KEY_VARIABLE = "CHATTERBOX_API_KEY";
const base = new URL(".", location.href).href;

const shell = (value) => `'${String(value).replaceAll("'", "'\\''")}'`;
const python = (value) => (value === false ? "False" : JSON.stringify(value)); // others are written alike

/** Converts the form's OpenAI field names to the native ones, for a whole file with its true length. */
function native({ input, voice, max_tokens, id, recorded, ...rest }) {
  return { text: input, voice_id: voice, ...rest, ...(max_tokens && { max_new_tokens: max_tokens }), stream: false };
}

function curl(fields) {
  const lines = Object.entries(native(fields)).map(([name, value]) => `--form-string ${shell(`${name}=${value}`)}`);
  if (getKey()) lines.unshift(`-H "Authorization: Bearer $${KEY_VARIABLE}"`);
  return ["curl --fail-with-body -o speech.wav", ...lines, shell(`${base}tts`)].join(" \\\n  ");
}

/** The example for Windows' `cmd`, which also works in other shells: one line, all special characters escaped. */
function windows(fields) {
  const code = (sign) => `\\u${sign.charCodeAt(sign.length - 1).toString(16).padStart(4, "0")}`;
  const json = JSON.stringify(native(fields)).replace(/\\["\\]|[^ \w.,:;{}[\]"'()\\-]/g, code);
  const key = getKey() ? `-H "Authorization: Bearer %${KEY_VARIABLE}%" ` : "";
  const kind = `-H "Content-Type: application/json" ${key}`;
  return `curl --fail-with-body -o speech.wav ${kind}-d "${json.replaceAll('"', '\\"')}" "${base}tts"`;
}

function plainPython(fields) {
  const rows = Object.entries(native(fields)).map(([name, value]) => `    ${python(name)}: ${python(value)},`);
  const key = getKey() ? `\n    "Authorization": "Bearer " + os.environ["${KEY_VARIABLE}"],` : "";
  return `import json
${key && "import os\n"}import shutil
import urllib.error
import urllib.request

fields = {
${rows.join("\n")}
}
headers = {
    "Content-Type": "application/json",${key}
}
request = urllib.request.Request(${python(`${base}tts`)}, json.dumps(fields).encode(), headers)
try:
    with urllib.request.urlopen(request) as speech, open("speech.wav", "wb") as file:
        shutil.copyfileobj(speech, file)
except urllib.error.HTTPError as error:
    raise SystemExit(error.read().decode())`;
}

/** The Node example; JSON strings, even with \u2028, are valid JavaScript. */
function javaScript(fields) {
  const rows = Object.entries(native(fields)).map(([name, value]) => `    ${name}: ${JSON.stringify(value)},`);
  const key = getKey() ? `\n    Authorization: \`Bearer \${process.env.${KEY_VARIABLE}}\`,` : "";
  return `import { writeFile } from "node:fs/promises";

const response = await fetch(${JSON.stringify(`${base}tts`)}, {
  method: "POST",
  headers: {
    "Content-Type": "application/json",${key}
  },
  body: JSON.stringify({
${rows.join("\n")}
  }),
});
if (!response.ok) throw new Error(await response.text());
await writeFile("speech.wav", Buffer.from(await response.arrayBuffer()));`;
}

function openai({ input, voice, id, recorded, model = "tts-1", ...rest }) {
  const key = getKey() ? `os.environ["${KEY_VARIABLE}"]` : `"none"`;
  const extra = Object.entries({ ...rest, stream: false }).map(([name, value]) => `${python(name)}: ${python(value)}`);
  return `${getKey() ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url=${python(`${base}v1`)}, api_key=${key})
with client.audio.speech.with_streaming_response.create(
    model=${python(model)},
    voice=${python(voice)},
    input=${python(input)},
    response_format="wav",
    extra_body={${extra.join(", ")}},
) as speech:
    speech.stream_to_file("speech.wav")`;
}

function elevenLabs({ input, voice, id, seed, speed, model = "eleven_turbo_v2_5" }) {
  const more = [seed !== undefined && `seed=${seed}`, speed && `voice_settings={"speed": ${speed}}`].filter(Boolean);
  return `${getKey() ? "import os\n\n" : ""}from elevenlabs import ElevenLabs

client = ElevenLabs(base_url=${python(base.replace(/\/$/, ""))}, api_key=${getKey() ? `os.environ["${KEY_VARIABLE}"]` : `"none"`})
sound = client.text_to_speech.convert(
    voice_id=${python(/^[\w .-]+$/.test(voice) ? voice : id)},
    text=${python(input)},
    model_id=${python(model)},${more.map((argument) => `\n    ${argument},`).join("")}
)
with open("speech.mp3", "wb") as file:
    for piece in sound:
        file.write(piece)`;
}

/** The WebSocket example, also for Node; a text may be sent in any number of messages. */
function webSocket({ input, max_tokens, id, recorded, ...rest }) {
  const config = { type: "session.config", ...rest, ...(max_tokens && { max_new_tokens: max_tokens }), response_format: "mp3", file_per: "turn" };
  const key = getKey() ? `, ["chatterbox", "openai-insecure-api-key." + process.env.${KEY_VARIABLE}]` : "";
  return `// Node 22; Node 20 needs --experimental-websocket
import { writeFile } from "node:fs/promises";

const socket = new WebSocket(${JSON.stringify(`${base.replace(/^http/, "ws")}v1/audio/speech/stream`)}${key});
const send = (message) => socket.send(JSON.stringify(message));
const parts = [];
socket.binaryType = "arraybuffer";
socket.onopen = () => {
  send(${JSON.stringify(config)});
  send({ type: "input.text", text: ${JSON.stringify(input)} });
  send({ type: "input.done" });
};
socket.onmessage = ({ data }) => {
  if (typeof data !== "string") return parts.push(new Uint8Array(data));
  const message = JSON.parse(data);
  if (message.type === "error") throw new Error(message.message);
  if (message.type !== "session.done") return;
  socket.close();
  writeFile("speech.mp3", Buffer.concat(parts));
};
socket.onerror = ({ message }) => { throw new Error(message || "no connection"); };`;
}

/** The example that downloads the current voice's recording and registers it as a voice. */
function register({ voice, id, recorded }) {
  const key = getKey() ? ` -H "Authorization: Bearer $${KEY_VARIABLE}"` : "";
  const fetched = `curl --fail-with-body -o recording.flac${key} ${shell(`${base}voices/${encodeURIComponent(id)}/recording`)}\n`;
  return `${recorded ? fetched : ""}curl --fail-with-body${key} \\
  -F voice_file=@recording.flac --form-string ${shell(`name=${voice} again`)} \\
  ${shell(`${base}voices/register`)}`;
}

const KINDS = { curl, windows, python: plainPython, javascript: javaScript, openai, elevenlabs: elevenLabs, websocket: webSocket, register };

/** The example of one kind for the form's fields; `voice` is the voice's name, `id` its id. */
export const snippet = (kind, fields) => KINDS[kind](fields);
