"""Which of the text that has arrived so far can be spoken now, before the rest is there?

Pure. Knows where sentences end; how they are read, `text/` knows.
"""

import re
from collections.abc import Sequence

from chatterbox.text.lexicon import ABBREVIATIONS, BARE_TITLES, TITLES

LEAST_WORDS = 2
"""`Oh.` alone is spoken badly: it waits for the sentence after it, unless the text is flushed."""
MOST_CHARS = 240
"""Without a stop for this long, what is there is cut at a clause or a blank. The model's own
limit is a little above (`max_segment_chars`)."""

_END = re.compile(r"""[.!?…]["'”’)\]*_]*(?=\s)|[。！？]|\n""")
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘]*$")
_CLAUSE_END = re.compile(r"[,;:—]\s")
_CLOSERS = "\"'”’)]*_"
_STOPS = ".!?…。！？\n"


class SentenceBuffer:
    """Text comes in at one end in pieces of any size and leaves as whole sentences, character for
    character. `least_chars`: so much must be there before the first, the second… and every later
    part leaves; none: nothing waits."""

    def __init__(self, least_chars: Sequence[int] = ()) -> None:
        self._least_chars = least_chars
        self._text = ""
        self._searched = 0  # no end of a sentence lies before it, but for `_whole`
        self._whole = 0  # so many characters are whole sentences
        self._taken = 0  # parts

    def __len__(self) -> int:
        return len(self._text)

    def feed(self, text: str, *, complete: bool = False) -> None:
        """More text. `complete`: whoever sends it has ended a sentence where it ends in a stop."""
        self._text += text
        self._search()
        if complete and self._text.rstrip().rstrip(_CLOSERS)[-1:] in tuple(_STOPS):
            self._note(len(self._text))

    def take(self, *, at_once: bool = False) -> str:
        """All whole sentences, or nothing. `at_once`: however few characters there are."""
        if not at_once and len(self._text) < self._least():
            return ""
        if not self._whole and len(self._text) > MOST_CHARS:
            self._whole = _cut(self._text)
        return self._take(self._whole)

    def flush(self) -> str:
        """All there is."""
        return self._take(len(self._text))

    def _take(self, chars: int) -> str:
        taken, self._text = self._text[:chars], self._text[chars:]
        self._searched = max(0, self._searched - chars)
        self._whole = 0
        self._taken += bool(taken)
        return taken

    def _least(self) -> int:
        if not self._least_chars:
            return 0
        return self._least_chars[min(self._taken, len(self._least_chars) - 1)]

    def _search(self) -> None:
        for match in _END.finditer(self._text, self._searched):
            if _ends_sentence(self._text, match):
                self._note(match.end())
        last_stop = max(self._text.rfind(stop) for stop in _STOPS)
        self._searched = max(self._searched, last_stop)  # it ends only where a blank follows

    def _note(self, end: int) -> None:
        if len(self._text[:end].split()) >= LEAST_WORDS:
            self._whole = max(self._whole, end)


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    if match[0][0] != ".":
        return True
    found = _LAST_WORD.search(text[: match.start()][-32:])
    word = found[0] if found else ""
    if word in BARE_TITLES or word + "." in TITLES or word in TITLES:
        return False
    if word in ABBREVIATIONS or word + "." in ABBREVIATIONS:
        return _followed_by_capital(text, match.end())
    if len(word) == 1 and word.isupper() and word != "I":
        return False  # an initial
    following = text[match.end() :].lstrip()
    return not following[:1].islower()


def _followed_by_capital(text: str, at: int) -> bool:
    following = text[at:].lstrip()
    return following[:1].isupper()


def _cut(text: str) -> int:
    """Where text without a stop is cut: after the last clause, else the last word, that fits."""
    clauses = [match.end() for match in _CLAUSE_END.finditer(text, MOST_CHARS // 3, MOST_CHARS)]
    if clauses:
        return clauses[-1]
    blank = text.rfind(" ", 1, MOST_CHARS)
    return blank + 1 if blank > 0 else MOST_CHARS
