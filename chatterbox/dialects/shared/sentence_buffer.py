"""Arriving text, released as whole sentences as soon as they are complete.

Pure. `text.sentence_end` decides where sentences end. Nothing that is read as one is cut in two (a
link, a formula, an element); code and thoughts are skipped as they arrive.
"""

import re
from collections.abc import Sequence

from chatterbox.text.characters import runs_on
from chatterbox.text.markup import HIDDEN, THOUGHTS, CodeBlocks, closes_fence, opened_fence
from chatterbox.text.sentence_end import STOP, ends_sentence

LEAST_WORDS = 2
"""`Oh.` alone is spoken badly: it waits for the sentence after it, unless the text is flushed."""
MOST_CHARS = 240
"""Without a stop for this long, what is there is cut at a clause or a blank. The model's own
limit is a little above (`max_segment_chars`)."""
HELD_CHARS = 600
"""Nothing is held together for longer than this."""

_CLAUSE_END = re.compile(r"(?<!\d)[,;:—]\s(?=[^\s\d])")
_BLANKS = (re.compile(r"(?<=[a-z]{2}) (?=[a-z]{2})"), re.compile(r" "))
_CLOSERS = "\"'”’)]*_"
_STOPS = ".!?…。！？\n"

_THOUGHTS = "|".join(THOUGHTS)
_FORMULA = r"[^\\]{0,500}(?:(?:\\\\|\\(?![\[\]()\\]))[^\\]{0,500}){0,60}"
_HELD: dict[str, tuple[re.Pattern[str], re.Pattern[str]]] = {
    opener: (re.compile(whole), re.compile(begun))
    for opener, whole, begun in (
        (
            "[",
            r"\[[^\[\]\n]{0,300}\](?:\((?:[^()\n]|\([^()\n]{0,200}\)){0,500}\)|(?=[^(]))",
            r"\[[^\[\]\n]{0,300}(?:\](?:\((?:[^()\n]|\([^()\n]{0,200}\)){0,500}"
            r"(?:\([^()\n]{0,200})?)?)?\Z",
        ),
        (
            "<",
            rf"<(?P<h>{_THOUGHTS})>(?:(?!</(?P=h)>)[^\n]){{0,400}}</(?P=h)>"
            rf"|<(?!(?:{_THOUGHTS})>)[/!?]?[A-Za-z][^<>\n]{{0,400}}>",
            rf"<(?:(?:{_THOUGHTS})>[^\n]{{0,400}}"
            r"|[/!?]?(?:[A-Za-z][\w:-]{0,30}(?:\s+[\w:.-]*(?:=[^<>\n]{0,300})?)?)?)\Z",
        ),
        ("`", r"(?<!\w)(`{1,3})[^`\n]{1,300}\1", r"(?<!\w)`{1,3}[^`\n]{0,300}`{0,2}\Z"),
        ("$", r"\$\$[^$]{1,500}\$\$", r"\$(?:\$[^$]{0,500}\$?)?\Z"),
        ("\\", rf"\\\[{_FORMULA}\\\]|\\\({_FORMULA}\\\)", rf"\\(?:[\[(]{_FORMULA}\\?)?\Z"),
        ("【", r"【[^【】\n]{0,200}】", r"【[^【】\n]{0,200}\Z"),
    )
}
"""First character → what is not cut in two, whole and as far as it has arrived."""
_PLACE = re.compile(rf"{STOP.pattern}|\n|(?<![.!?…])[.!?…][\"'”’)\]*_.!?…]*\Z|[\[<`$\\【]")
_MAY_OPEN = re.compile(
    r"[ \t>]*(?:[-*+] ?|\d{1,3}(?:[.)] ?)?)?[ \t]*(?:`*|~*)\Z|[ \t]*<[A-Za-z]{0,9}\Z"
)
"""A line that may yet become the beginning of code or of a thought."""
_THOUGHT = re.compile(
    rf"[ \t]*<(?P<name>{'|'.join(HIDDEN)}|details(?=[^<>\n]*reasoning))(?:\s[^<>\n]*)?>", re.I
)
_NEXT_LINE = re.compile(r"[^\S\n]{0,64}(\S?)")
_WHOLE_LINE = re.compile(r"#{1,6} |\|")
"""A heading or a row of a table: it never runs on."""
_LINE_MARK = re.compile(r"(?:[-*+•–—>#|]+|\d{1,3}[.)])(?:\s|$)")
SKIPPED_BLOCK = "```\n```\n"
"""What is left of a block of code: it is read as a pause."""


class SentenceBuffer:
    """Text comes in at one end in pieces of any size and leaves as whole sentences, character for
    character, but for code (unless it is to be spoken) and thoughts, which are left away.
    `least_chars`: so much must be there before the first, the second… and every later part leaves;
    none: nothing waits."""

    def __init__(
        self, least_chars: Sequence[int] = (), *, code_blocks: CodeBlocks = "skip"
    ) -> None:
        self._least_chars = least_chars
        self._skips_code = code_blocks == "skip"
        self._text = ""
        self._at = 0  # all before it is decided
        self._line = 0  # where the line of `_at` begins; below 0: so much of it has left
        self._whole = 0  # so many characters are whole sentences
        self._words = 0  # as far as `_counted`
        self._counted = 0
        self._taken = 0  # parts
        self._closer = ""  # of the code or the thought that is being skipped

    def __len__(self) -> int:
        return len(self._text)

    def feed(self, text: str, *, complete: bool = False) -> None:
        """More text. `complete`: whoever sends it has ended a sentence where it ends in a stop."""
        self._text += text
        while self._step():
            pass
        if complete and self._text[: self._end()].rstrip().rstrip(_CLOSERS)[-1:] in tuple(_STOPS):
            self._note(self._end())

    def take(self, *, at_once: bool = False) -> str:
        """All whole sentences, or nothing. `at_once`: however few characters there are."""
        if not at_once and len(self._text) < self._least():
            return ""
        if not self._whole and not self._closer and len(self._text) > MOST_CHARS:
            self._whole = _cut(self._text, self._at)
        return self._take(self._whole)

    def flush(self) -> str:
        """All there is; code and thoughts go on being skipped."""
        return self._take(self._end())

    def is_blank(self) -> bool:
        """Whether a flush would give blanks."""
        return not self._text[: self._end()].strip()

    def close(self) -> None:
        """After a flush: nothing of what was sent so far concerns what comes next."""
        self._closer = self._text = ""
        self._at = self._line = self._whole = self._words = self._counted = 0

    def _end(self) -> int:
        return self._at if self._closer else len(self._text)

    def _take(self, chars: int) -> str:
        taken, self._text = self._text[:chars], self._text[chars:]
        if chars > self._at:
            self._at = chars
            self._line = taken.rfind("\n") + 1 or self._line
        self._at -= chars
        self._line -= chars
        self._whole = self._words = self._counted = 0
        self._taken += bool(taken)
        return taken

    def _least(self) -> int:
        return next(iter(self._least_chars[self._taken :] or self._least_chars[-1:]), 0)

    def _note(self, end: int) -> None:
        """A sentence ends here; the first words are counted, each once."""
        if not self._whole:
            self._words += len(self._text[self._counted : end].split())
            self._counted = end
        if self._whole or self._words >= LEAST_WORDS:
            self._whole = max(self._whole, end)

    # --- one thing after the other, as far as it can be told

    def _step(self) -> bool:
        """Decide on the next place of the text; False: more text is needed."""
        if self._closer:
            return self._skip_thought() if self._closer[0] == "<" else self._skip_code()
        if self._at == self._line and (waits := self._open_line()) is not None:
            return waits
        match = _PLACE.search(self._text, self._at)
        if match is None:
            self._at = len(self._text)
            return False
        if match[0] == "\n":
            return self._end_line(match.start())
        if match[0][0] in _HELD:
            return self._hold(match.start())
        stop = STOP.match(self._text, match.start())
        ends = ends_sentence(self._text, stop) if stop else None
        if ends is None:
            waits = len(self._text) - match.start() < HELD_CHARS
            self._at = match.start() if waits else len(self._text)
            return False
        if ends:
            self._note(match.end())
        self._at = match.end()
        return True

    def _open_line(self) -> bool | None:
        """Code and thoughts begin with their line. None: this one is an ordinary line."""
        text, start = self._text, self._at
        if _MAY_OPEN.match(text, start, start + HELD_CHARS):
            return False
        if thought := _THOUGHT.match(text, start):
            self._open_thought(thought)
            return True
        fence = opened_fence(text[start : start + HELD_CHARS]) if self._skips_code else ""
        if not fence:
            return None
        end = text.find("\n", start)
        if end < 0:
            return False if len(text) - start < HELD_CHARS else None
        self._note(start)
        self._closer = fence
        self._text = text[:start] + text[end + 1 :]
        return True

    def _open_thought(self, opener: re.Match[str]) -> None:
        self._at = opener.start()
        self._note(self._at)
        self._closer = f"</{opener['name'].lower()}>"
        self._text = self._text[: self._at] + self._text[opener.end() :]

    def _skip_code(self) -> bool:
        text, start = self._text, self._at
        while (end := text.find("\n", start)) >= 0:
            if closes_fence(text[start:end], self._closer):
                self._closer = ""
                self._text = text[: self._at] + SKIPPED_BLOCK + text[end + 1 :]
                self._at += len(SKIPPED_BLOCK)
                self._line = self._at
                return True
            start = end + 1
        self._text = text[: self._at] + text[start:]
        return False

    def _skip_thought(self) -> bool:
        end, length = self._text.lower().find(self._closer, self._at), len(self._closer)
        rest = end + length if end >= 0 else max(self._at, len(self._text) - length)
        self._text = self._text[: self._at] + self._text[rest:]
        if end >= 0:
            self._closer = ""
        return end >= 0

    def _end_line(self, end: int) -> bool:
        """A line break ends a sentence unless the line runs on in the next."""
        following = _NEXT_LINE.match(self._text, end + 1)
        assert following is not None, "it may be empty"
        line = self._text[max(0, self._line) : end].strip()
        if line and line[-1] not in ".!?:" and not _WHOLE_LINE.match(line):
            if not following[1] and following.end() == len(self._text):
                self._at = end
                return False
            taken = max(0, -self._line)  # characters of this line that have left already
            next_line = self._text[following.start(1) : following.start(1) + 8]
            if following[1] and not _LINE_MARK.match(next_line) and runs_on(line, next_line, taken):
                self._at = self._line = end + 1
                return True
        self._at = self._line = end + 1
        self._note(self._at)
        return True

    def _hold(self, start: int) -> bool:
        thought = _THOUGHT.match(self._text, start)
        if thought and (thought["name"] == "details" or self._text.startswith("\n", thought.end())):
            self._open_thought(thought)
            return True
        whole, begun = _HELD[self._text[start]]
        found = whole.match(self._text, start)
        if found is None and begun.match(self._text, start):
            self._at = start
            return False
        self._at = found.end() if found else start + 1
        if found and "\n" in found[0]:
            self._line = start + found[0].rindex("\n") + 1
        return True


def _cut(text: str, held: int) -> int:
    """Where text without a stop is cut: after the last clause, else the last word, that fits; not
    inside what is `held` together from there on. 0: nowhere yet."""
    if held < MOST_CHARS // 3:
        return 0
    most = min(held, MOST_CHARS)
    for pattern, least in ((_CLAUSE_END, MOST_CHARS // 3), *((blank, 1) for blank in _BLANKS)):
        places = [match.end() for match in pattern.finditer(text, least, most)]
        if places:
            return places[-1]
    return most
