// Helpers that find, create and fill elements. Text is inserted as text only, never as markup.
// Makes no calls and keeps no state.

export const $ = (id) => document.getElementById(id);

/** Creates an element with properties and children; string children become text nodes. */
export function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Formats seconds: `1:02`, or `6.4 s` with decimals. */
export function clock(seconds, places = 0) {
  if (places && seconds < 60) return `${seconds.toFixed(places)} s`;
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** Shows an error message, or hides the element if there is none. */
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

/** Makes a group of buttons one Tab stop, with arrow keys between them. */
export function roving(place, selector) {
  const all = () => [...place.querySelectorAll(selector)];
  all().forEach((one, nth) => (one.tabIndex = nth ? -1 : 0));
  place.onkeydown = (event) => {
    const list = all();
    const at = list.indexOf(document.activeElement);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: list.length - 1 }[event.key];
    if (at < 0 || next === undefined || !list[next]) return;
    event.preventDefault();
    list[at].tabIndex = -1;
    list[next].tabIndex = 0;
    list[next].focus();
  };
}

/** Downloads a blob as a file. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Opens a dialog. Returns the text entered, true if no text was asked for, null on "Cancel". */
export function ask({ title, text = "", yes, label = "New name", name = null, danger = false }) {
  const dialog = $("ask");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-field").hidden = name === null;
  $("ask-label").textContent = label;
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

/** Resolves after a time. */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
