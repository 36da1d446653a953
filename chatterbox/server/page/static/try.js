// The "Try" button of an example: makes the call and shows status and response.
// A call is a path and JSON; audio responses get a player.

import { call } from "./api.js";
import { el, showError } from "./dom.js";

const MOST_SHOWN = 4000;

async function answerOf(response) {
  const kind = response.headers.get("Content-Type") ?? "";
  if (kind.startsWith("audio/")) {
    const src = URL.createObjectURL(await response.blob());
    return el("audio", { controls: true, src });
  }
  const text = await response.text();
  const shown = kind.startsWith("application/json") ? pretty(text) : text;
  return el("pre", {}, shown.length > MOST_SHOWN ? `${shown.slice(0, MOST_SHOWN)} …` : shown);
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text; // lines of JSON
  }
}

/** A button and the element for the response; nothing if the page cannot make the call. */
export function tryIt(method, example) {
  if (!example) return [];
  const place = el("div", { role: "status" });
  const button = el("button", { type: "button" }, "Try it");
  button.onclick = async () => {
    button.disabled = true;
    try {
      const json = example.json ?? undefined;
      const response = await call(example.path.slice(1) || "./", { method: method.toUpperCase(), json });
      place.replaceChildren(el("p", { className: "hint" }, `${response.status} ${response.statusText}`), await answerOf(response));
    } catch (fault) {
      const error = el("p", { className: "error" });
      showError(error, fault);
      place.replaceChildren(error);
    }
    button.disabled = false;
  };
  return [button, place];
}
