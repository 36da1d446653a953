// How are the page's elements found, made and filled? Text becomes text only, never markup.
// Knows no call and no state.

export const $ = (id) => document.getElementById(id);

/** An element with properties and children; a child that is a string stays a string. */
export function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Shows an error in its place, or hides the place. The words are the server's. */
export function showError(place, error = null) {
  place.hidden = error === null;
  place.replaceChildren();
  if (error === null) return;
  place.append(el("strong", {}, error.message));
  const facts = [
    error.code,
    error.retryAfterS && `try again in ${error.retryAfterS} s`,
    error.requestId,
  ];
  const line = facts.filter(Boolean).join(" · ");
  if (line) place.append(el("small", {}, line));
}

/** Hands a blob to the browser as a file. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Asks in a dialog. Answers the name typed, true where none is asked for, null on "Cancel". */
export function ask({ title, text = "", yes, name = null, danger = false }) {
  const dialog = $("ask");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-field").hidden = name === null;
  $("ask-name").value = name ?? "";
  $("ask-yes").textContent = yes;
  $("ask-yes").classList.toggle("danger", danger);
  $("ask-no").onclick = () => dialog.close("");
  dialog.returnValue = "";
  dialog.showModal();
  (name === null ? $("ask-no") : $("ask-name")).focus();
  $("ask-name").select();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      if (dialog.returnValue !== "yes") return resolve(null);
      resolve(name === null ? true : $("ask-name").value);
    };
  });
}
