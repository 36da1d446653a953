// Splits a text that is too long for one call into pieces that end
// at a paragraph if possible, else at a line, a sentence or a word.

const ENDS = [/\n\s*\n/g, /\n/g, /[.!?…。！？]["'”’»)\]]*\s|[。！？]/g, /\s/g];
const LEAST = 1 / 3; // of what a piece may be: shorter ones are left for the next kind of end

let most = Infinity;

/** Sets the limit of one call. */
export const allow = (chars) => (most = chars);

/** The text as pieces within that limit. */
export function piecesOf(text) {
  const pieces = [];
  let rest = text;
  while (rest.length > most) {
    const end = endIn(rest.slice(0, most));
    pieces.push(rest.slice(0, end));
    rest = rest.slice(end);
  }
  pieces.push(rest);
  return pieces.filter((piece, nth) => piece.trim() || (nth === 0 && pieces.length === 1));
}

function endIn(window) {
  for (const end of ENDS) {
    const last = [...window.matchAll(end)].at(-1);
    if (last && last.index + last[0].length >= LEAST * most) return last.index + last[0].length;
  }
  return most - (/[\uD800-\uDBFF]$/.test(window) ? 1 : 0); // no character is cut in two
}
