// How is a text sent that is longer than one call may be? In pieces, one after the other, which end
// with a paragraph where one ends, else with a line, a sentence, a word.

const ENDS = [/\n\s*\n/g, /\n/g, /[.!?…。！？]["'”’»)\]]*\s|[。！？]/g, /\s/g];
const LEAST = 1 / 3; // of what a piece may be: shorter ones are left for the next kind of end

let most = Infinity;

/** The most that one call takes. */
export const allow = (chars) => (most = chars);

/** The text in pieces that one call takes each. */
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
