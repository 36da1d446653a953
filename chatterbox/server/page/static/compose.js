// The text field: tag buttons, text files, and the counter.

import { $, clock, el, roving } from "./dom.js";
import { changed } from "./form.js";
import { allow, piecesOf } from "./pieces.js";
import { CHARS_PER_S } from "./speaking.js";

const PAUSE = "pause:0.5s";
const TEXT_FILE = /\.(txt|md|markdown|srt|vtt|text)$/i;
const MOST_BYTES = 4_000_000;
const IN_BRACKETS = /(?<![\w\]])\[ ?([A-Za-z][A-Za-z' -]{0,30}?) ?\](?![\[(:])/g;
const SUBTITLE_LINES = /^(WEBVTT.*|\d+|.*-->.*)$\n?/gm;

let mostChars = Infinity;
let known = []; // tags

/** Sets the loaded model's tags and the length limit. */
export function showModel({ tags, max_text_length: most }) {
  mostChars = most;
  known = tags;
  allow(most);
  const button = (tag) =>
    el("button", { type: "button", className: "tag", onclick: () => insert(`[${tag}]`) }, `[${tag}]`);
  $("tags").replaceChildren(...[PAUSE, ...tags].map(button));
  roving($("tags"), "button");
  count();
}

/** Inserts words at the cursor, adding missing spaces. */
function insert(words) {
  const { selectionStart: start, selectionEnd: end, value } = $("text");
  const before = start && !/\s/.test(value[start - 1]) ? " " : "";
  const after = /\s/.test(value[end] ?? "") ? "" : " ";
  $("text").setRangeText(before + words + after, start, end, "end");
  changed();
  $("text").focus();
}

function count() {
  const { value } = $("text");
  const chars = [...value].length;
  const speed = Number($("speed")?.value) || 1;
  const spoken = value.replace(/\[[^\]]*\]/g, "").trim().length / CHARS_PER_S / speed;
  const most = mostChars === Infinity ? "" : ` / ${mostChars}`;
  const long = spoken < 60 ? `${Math.round(spoken)} s` : `${clock(spoken)} min`;
  const pieces = chars > mostChars ? ` · sent in ${piecesOf(value).length} pieces, one after the other` : "";
  $("count").textContent = `${chars}${most} characters · about ${long}${pieces}`;
  $("tag-says").textContent = unknownTags(value).map((tag) => {
    const meant = known.find((name) => name.toLowerCase() === tag.toLowerCase());
    return meant ? `Write [${meant}] for [${tag}].` : `[${tag}] is no tag of this model: it is read out.`;
  }).join(" ");
}

/** Words in brackets that are not tags, except citations and links. */
function unknownTags(text) {
  const found = [...text.matchAll(IN_BRACKETS)].map(([, tag]) => tag);
  return [...new Set(found)].filter((tag) => !known.includes(tag) && !/^pause\b/i.test(tag));
}

/** Whether `takeText` can read the file. */
export const isText = (file) => TEXT_FILE.test(file.name ?? "") || file.type.startsWith("text/");

/** Loads a text file into the field; removes numbers and times from subtitles. */
export async function takeText(file) {
  if (file.size > MOST_BYTES) {
    $("progress").textContent = `${file.name} is too long for a text.`;
    return;
  }
  const words = (await file.text()).replaceAll("\r\n", "\n");
  $("text").value = /\.(srt|vtt)$/i.test(file.name) ? words.replace(SUBTITLE_LINES, "").trim() : words.trim();
  changed();
  $("text").focus();
  $("text").setSelectionRange(0, 0);
  $("progress").textContent = `${file.name} is in the text field.`;
}

/** Connects the text field. */
export function startCompose() {
  $("speak").addEventListener("input", count);
  $("open").addEventListener("change", () => {
    const [file] = $("open").files;
    if (file) takeText(file);
    $("open").value = "";
  });
  count();
}
