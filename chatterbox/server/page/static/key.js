// Which key opens this server? Asked for in a dialog, where a page has no field for it.

import { getKey, setKey } from "./api.js";
import { el } from "./dom.js";

/** What `call` answers; while the server wants a key for it, the key is asked for. */
export async function withKey(call) {
  for (;;) {
    try {
      return await call();
    } catch (fault) {
      if (fault.status !== 401 || !(await askKey(fault))) throw fault;
    }
  }
}

/** Whether a key was given. */
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
