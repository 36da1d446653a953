// Which program would do the same? The form's fields as curl, Python, JavaScript and OpenAI calls.
// Knows quoting; never shows a key, only the variable that would hold it.

import { getKey } from "./api.js";

const KEY_VARIABLE = "CHATTERBOX_API_KEY";
const base = new URL(".", location.href).href;

const shell = (value) => `'${String(value).replaceAll("'", "'\\''")}'`;
const python = (value) => (value === false ? "False" : JSON.stringify(value)); // others are written alike

/** The form's names are OpenAI's; these are the native ones. A file gets its true length. */
function native({ input, voice, max_tokens, ...rest }) {
  return { text: input, voice_id: voice, ...rest, ...(max_tokens && { max_new_tokens: max_tokens }), stream: false };
}

function curl(fields) {
  const lines = Object.entries(native(fields)).map(([name, value]) => `--form-string ${shell(`${name}=${value}`)}`);
  if (getKey()) lines.unshift(`-H "Authorization: Bearer $${KEY_VARIABLE}"`);
  return ["curl --fail-with-body -o speech.wav", ...lines, shell(`${base}tts`)].join(" \\\n  ");
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

/** For Node: \u2028 and the like are the same in JSON and in JavaScript. */
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

function openai({ input, voice, ...rest }) {
  const key = getKey() ? `os.environ["${KEY_VARIABLE}"]` : `"none"`;
  const extra = Object.entries({ ...rest, stream: false }).map(([name, value]) => `${python(name)}: ${python(value)}`);
  return `${getKey() ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url=${python(`${base}v1`)}, api_key=${key})
with client.audio.speech.with_streaming_response.create(
    model="chatterbox",
    voice=${python(voice)},
    input=${python(input)},
    response_format="wav",
    extra_body={${extra.join(", ")}},
) as speech:
    speech.stream_to_file("speech.wav")`;
}

const KINDS = { curl, python: plainPython, javascript: javaScript, openai };

/** The program of one kind: `curl`, `python`, `javascript` or `openai`. */
export const snippet = (kind, fields) => KINDS[kind](fields);
