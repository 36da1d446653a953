// The API key dialog, for pages without a key field.

import { getKey, setKey } from "./api.js";
import { el } from "./dom.js";

/** Runs `call`; asks for the key as long as the server requires one. */
export async function withKey(call) {
  for (;;) {
    try {
      return await call();
    } catch (fault) {
      if (fault.status !== 401 || !(await askKey(fault))) throw fault;
    }
  }
}

/** Asks for a key; returns whether one was entered. */
function askKey({ message }) {
  const says = getKey() ? message : "This server asks for a key.";
  const key = el("input", { id: "key", type: "password", autocomplete: "off", spellcheck: false, required: true });
  const dialog = el("dialog", { ariaLabel: "API key" },
    el("form", { method: "dialog" },
      el("h2", {}, "API key"), el("p", { role: "status" }, says),
      el("label", { htmlFor: "key" }, "Key, kept until this tab is closed"), key,
      el("div", { className: "row end" },
        el("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        el("button", { className: "primary", value: "set" }, "Set"))));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      if (dialog.returnValue === "set") setKey(key.value);
      dialog.remove();
      resolve(dialog.returnValue === "set");
    };
  });
}
