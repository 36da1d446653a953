"""Buffer for text that arrives in pieces; releases each sentence as soon as it is complete.

`text.sentence_end` decides where a sentence ends. Links, formulas, HTML elements and inline code
are never cut in two. Code blocks and a chat model's thoughts are dropped as they arrive.
"""

import re
from collections.abc import Sequence

from chatterbox.text.characters import runs_on
from chatterbox.text.markup import HIDDEN, THOUGHTS, CodeBlocks, closes_fence, opened_fence
from chatterbox.text.sentence_end import STOP, ends_sentence

MIN_WORDS = 2
"""Fewest words that are released without a flush. The model speaks a single word such as `Oh.`
badly, so a single word is spoken with the next sentence."""
MAX_CHARS = 240
"""Longest text without a sentence end, in characters. Longer text is cut after a clause or a word.
The limit of a segment is a little higher (`max_segment_chars`)."""
MAX_UNDECIDED_CHARS = 600
"""Most characters that are held back because their meaning depends on the text that follows (a
possible sentence end, an unclosed code fence). Longer text is treated as ordinary."""

# Where text without a sentence end is cut: after a clause, between words, at any space.
_CLAUSE_END = re.compile(r"(?<!\d)[,;:—]\s(?=[^\s\d])")
_BLANKS = (re.compile(r"(?<=[a-z]{2}) (?=[a-z]{2})"), re.compile(r" "))
_CLOSERS = "\"'”’)]*_"
_STOPS = ".!?…。！？\n"

_THOUGHTS = "|".join(THOUGHTS)
_FORMULA = r"[^\\]{0,500}(?:(?:\\\\|\\(?![\[\]()\\]))[^\\]{0,500}){0,60}"
_UNSPLITTABLE: dict[str, tuple[re.Pattern[str], re.Pattern[str]]] = {
    opener: (re.compile(complete), re.compile(incomplete))
    for opener, complete, incomplete in (
        (
            "[",  # link, or tag of the model
            r"\[[^\[\]\n]{0,300}\](?:\((?:[^()\n]|\([^()\n]{0,200}\)){0,500}\)|(?=[^(]))",
            r"\[[^\[\]\n]{0,300}(?:\](?:\((?:[^()\n]|\([^()\n]{0,200}\)){0,500}"
            r"(?:\([^()\n]{0,200})?)?)?\Z",
        ),
        (
            "<",  # element
            rf"<(?P<h>{_THOUGHTS})>(?:(?!</(?P=h)>)[^\n]){{0,400}}</(?P=h)>"
            rf"|<(?!(?:{_THOUGHTS})>)[/!?]?[A-Za-z][^<>\n]{{0,400}}>",
            rf"<(?:(?:{_THOUGHTS})>[^\n]{{0,400}}"
            r"|[/!?]?(?:[A-Za-z][\w:-]{0,30}(?:\s+[\w:.-]*(?:=[^<>\n]{0,300})?)?)?)\Z",
        ),
        # inline code, two kinds of formula, source reference
        ("`", r"(?<!\w)(`{1,3})[^`\n]{1,300}\1", r"(?<!\w)`{1,3}[^`\n]{0,300}`{0,2}\Z"),
        ("$", r"\$\$[^$]{1,500}\$\$", r"\$(?:\$[^$]{0,500}\$?)?\Z"),
        ("\\", rf"\\\[{_FORMULA}\\\]|\\\({_FORMULA}\\\)", rf"\\(?:[\[(]{_FORMULA}\\?)?\Z"),
        ("【", r"【[^【】\n]{0,200}】", r"【[^【】\n]{0,200}\Z"),
    )
}
"""First character of a construct that is never split → patterns of the complete construct and of
its beginning at the end of the text."""
_DECISION = re.compile(rf"{STOP.pattern}|\n|(?<![.!?…])[.!?…][\"'”’)\]*_.!?…]*\Z|[\[<`$\\【]")
"""Matches a possible end of a sentence, or the start of a construct in `_UNSPLITTABLE`."""
_MAY_OPEN_BLOCK = re.compile(
    r"[ \t>]*(?:[-*+] ?|\d{1,3}(?:[.)] ?)?)?[ \t]*(?:`*|~*)\Z|[ \t]*<[A-Za-z]{0,9}\Z"
)
"""Matches the start of a line that can still become a code fence or the tag of a thought."""
_THOUGHT = re.compile(
    rf"[ \t]*<(?P<name>{'|'.join(HIDDEN)}|details(?=[^<>\n]*reasoning))(?:\s[^<>\n]*)?>", re.I
)
_NEXT_LINE = re.compile(r"[^\S\n]{0,64}(\S?)")
_WHOLE_LINE = re.compile(r"#{1,6} |\|")
"""Matches a heading or a table row, whose sentence never continues on the next line."""
_LINE_MARK = re.compile(r"(?:[-*+•–—>#|]+|\d{1,3}[.)])(?:\s|$)")
SKIPPED_BLOCK = "```\n```\n"
"""Replaces a dropped code block; spoken as a pause."""


class SentenceBuffer:
    """Collects pieces of text of any size and releases whole sentences, character for character.

    Only thoughts, and code blocks unless `code_blocks` is "speak", are dropped. `min_chars[n]` is
    the number of characters that must be buffered before part `n` is released; further parts use
    the last number. By default there is no minimum.

        >>> buffer = SentenceBuffer()
        >>> buffer.feed("Ask Dr. Smith. He kn")
        >>> buffer.take()
        'Ask Dr. Smith.'
        >>> buffer.flush()
        ' He kn'
    """

    def __init__(self, min_chars: Sequence[int] = (), *, code_blocks: CodeBlocks = "skip") -> None:
        self.min_chars = min_chars
        self._skips_code = code_blocks == "skip"
        self._released = 0  # number of parts
        self.reset()

    def reset(self) -> None:
        """Drop the text and close an open block, so that the next text is parsed independently."""
        self._closer = self._text = ""  # closer: end of the block being dropped
        self._parsed = 0  # characters whose sentence ends are decided
        self._line = 0  # start of the line being parsed; negative if its start was released
        self._complete = 0  # characters in complete sentences
        self._words = self._counted = 0  # words in the first `_counted` characters

    def __len__(self) -> int:
        return len(self._text)

    def feed(self, text: str, *, complete: bool = False) -> None:
        """Append text. `complete`: a stop at its end ends a sentence, whatever text follows."""
        self._text += text
        while self._parse_next():
            pass
        end = self._end()
        if complete and self._text[:end].rstrip().rstrip(_CLOSERS).endswith(tuple(_STOPS)):
            self._end_sentence(end)

    def take(self, *, at_once: bool = False) -> str:
        """Release all complete sentences; "" if there are none. `at_once` ignores `min_chars`."""
        minimum = next(iter(self.min_chars[self._released :] or self.min_chars[-1:]), 0)
        if not at_once and len(self._text) < minimum:
            return ""
        if not self._complete and not self._closer and len(self._text) > MAX_CHARS:
            self._complete = _find_cut(self._text, self._parsed)
        return self._release(self._complete)

    def flush(self) -> str:
        """Release all text. A code block or thought that is still open continues to be dropped."""
        return self._release(self._end())

    def is_blank(self) -> bool:
        """Whether a flush would release only whitespace."""
        return not self._text[: self._end()].strip()

    def _end(self) -> int:
        return self._parsed if self._closer else len(self._text)

    def _release(self, chars: int) -> str:
        released, self._text = self._text[:chars], self._text[chars:]
        if chars > self._parsed:
            self._parsed = chars
            self._line = released.rfind("\n") + 1 or self._line
        self._parsed -= chars
        self._line -= chars
        self._complete = self._words = self._counted = 0
        self._released += bool(released)
        return released

    def _end_sentence(self, end: int) -> None:
        """Mark `[:end]` as complete if it has MIN_WORDS. Counts each word once."""
        if not self._complete:
            self._words += len(self._text[self._counted : end].split())
            self._counted = end
        if self._complete or self._words >= MIN_WORDS:
            self._complete = max(self._complete, end)

    # --- the parser: each step returns True to continue, False to wait for more text

    def _parse_next(self) -> bool:
        if self._closer:
            return self._skip_thought() if self._closer[0] == "<" else self._skip_code()
        if self._parsed == self._line and (continues := self._parse_line_start()) is not None:
            return continues
        match = _DECISION.search(self._text, self._parsed)
        if match is None:
            self._parsed = len(self._text)
            return False
        if match[0] == "\n":
            return self._parse_line_end(match.start())
        if match[0][0] in _UNSPLITTABLE:
            return self._parse_unsplittable(match.start())
        stop = STOP.match(self._text, match.start())
        ends = ends_sentence(self._text, stop) if stop else None
        if ends is None:
            waits = len(self._text) - match.start() < MAX_UNDECIDED_CHARS
            self._parsed = match.start() if waits else len(self._text)
            return False
        if ends:
            self._end_sentence(match.end())
        self._parsed = match.end()
        return True

    def _parse_line_start(self) -> bool | None:
        """Open a code block or a thought. Returns None for an ordinary line."""
        text, start = self._text, self._parsed
        if _MAY_OPEN_BLOCK.match(text, start, start + MAX_UNDECIDED_CHARS):
            return False
        if thought := _THOUGHT.match(text, start):
            self._open_thought(thought)
            return True
        fence = opened_fence(text[start : start + MAX_UNDECIDED_CHARS]) if self._skips_code else ""
        if not fence:
            return None
        end = text.find("\n", start)
        if end < 0:
            return False if len(text) - start < MAX_UNDECIDED_CHARS else None
        self._end_sentence(start)
        self._closer = fence
        self._text = text[:start] + text[end + 1 :]
        return True

    def _open_thought(self, opener: re.Match[str]) -> None:
        self._parsed = opener.start()
        self._end_sentence(self._parsed)
        self._closer = f"</{opener['name'].lower()}>"
        self._text = self._text[: self._parsed] + self._text[opener.end() :]

    def _skip_code(self) -> bool:
        text, start = self._text, self._parsed
        while (end := text.find("\n", start)) >= 0:
            if closes_fence(text[start:end], self._closer):
                self._closer = ""
                self._text = text[: self._parsed] + SKIPPED_BLOCK + text[end + 1 :]
                self._parsed += len(SKIPPED_BLOCK)
                self._line = self._parsed
                return True
            start = end + 1
        self._text = text[: self._parsed] + text[start:]
        return False

    def _skip_thought(self) -> bool:
        end, length = self._text.lower().find(self._closer, self._parsed), len(self._closer)
        rest = end + length if end >= 0 else max(self._parsed, len(self._text) - length)
        self._text = self._text[: self._parsed] + self._text[rest:]
        if end >= 0:
            self._closer = ""
        return end >= 0

    def _parse_line_end(self, end: int) -> bool:
        """End the sentence at a line break, unless the sentence continues on the next line."""
        following = _NEXT_LINE.match(self._text, end + 1)
        assert following is not None, "the pattern also matches an empty string"
        line = self._text[max(0, self._line) : end].strip()
        if line and line[-1] not in ".!?:" and not _WHOLE_LINE.match(line):
            if not following[1] and following.end() == len(self._text):
                self._parsed = end
                return False
            sent = max(0, -self._line)  # characters of this line already released
            next_line = self._text[following.start(1) : following.start(1) + 8]
            if following[1] and not _LINE_MARK.match(next_line) and runs_on(line, next_line, sent):
                self._parsed = self._line = end + 1
                return True
        self._parsed = self._line = end + 1
        self._end_sentence(self._parsed)
        return True

    def _parse_unsplittable(self, start: int) -> bool:
        thought = _THOUGHT.match(self._text, start)
        if thought and (thought["name"] == "details" or self._text.startswith("\n", thought.end())):
            self._open_thought(thought)
            return True
        complete, incomplete = _UNSPLITTABLE[self._text[start]]
        found = complete.match(self._text, start)
        if found is None and incomplete.match(self._text, start):
            self._parsed = start
            return False
        self._parsed = found.end() if found else start + 1
        if found and "\n" in found[0]:
            self._line = start + found[0].rindex("\n") + 1
        return True


def _find_cut(text: str, parsed: int) -> int:
    """Return where to cut text without a sentence end: after the last clause within MAX_CHARS, or
    else the last word. Text after `parsed` is undecided and not cut. Returns 0 to wait for text."""
    if parsed < MAX_CHARS // 3:
        return 0
    limit = min(parsed, MAX_CHARS)
    for pattern, minimum in ((_CLAUSE_END, MAX_CHARS // 3), *((blank, 1) for blank in _BLANKS)):
        cuts = [match.end() for match in pattern.finditer(text, minimum, limit)]
        if cuts:
            return cuts[-1]
    return limit
