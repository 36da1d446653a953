"""Markdown, square brackets, pauses, code, citations: the marks are left away, their text stays.

Leaves plain text in which square brackets stand only around
the model's own tags and around pauses (`[pause:0.5s]`).
"""

import re
from collections.abc import Callable, Iterator
from typing import Literal

from chatterbox.text.lexicon import words
from chatterbox.text.rules import left_of, right_of

MAX_PAUSE_S = 10.0
"""Longest silence one place can ask for: SSML's own limit in the large speech services."""
DEFAULT_PAUSE_S = 0.5

_BLANKS = re.compile(" {2,}")
_Rule = tuple[str, re.Pattern[str], str]


def _rules(*rows: tuple[str, str, str]) -> tuple[_Rule, ...]:
    return tuple((signs, re.compile(pattern, re.M), put) for signs, pattern, put in rows)


_LINE_MARKS = _rules(
    ("`~", r"^ ?(?:```|~~~)[^`\n]*$", "\n"),  # code fence
    ("-*_=", r"^ ?(?:[-*_=] ?){3,}+$", "\n"),  # rule, or underline of a heading
    ("-", r"^(?=[|: ]*+-)[-:| ]++$", ""),  # second line of a table
    (">", r"^ ?>(?!=|[$€£]?\d| [$€£]?\d[^\n]{0,40}+(?<![.!?])$)[> ]*+", ""),  # quotation
    ("#", r"^ ?#{1,6} (.*)$", "\n\\1\n"),  # heading
    ("-*+•–—→>", r"^ ?(?:[-*+•–—→]|[-=]>) (?:\[[xX ]\] )?+", "\n"),  # list item, to-do item
    (".)", r"^ ?(\d{1,3})[.)] (?=\S)", "\n\\1, "),  # numbered item
    ("|", r"^ ?\|[| ]*+(.*)", "\n\\1\n"),  # row of a table, without its edge
    ("\\", r"\\([!-/:-@[-`{-~])", "\\1"),  # escaped sign
)
"""Signs of which one must be there, pattern, what is put. In this order."""
_LINK_TO = (
    r"!?\[([^\[\]\n]{0,300})\]"
    r"\((?:[^()\s]{1,2000}+|\([^()\s]{0,200}+\)){1,20}+(?: \"[^\"\n]{0,300}+\")?+\)"
)
_INLINE = _rules(
    ("[", _LINK_TO, "\\1"),
    ("|", r"<\||\|>", " "),
    ("|", r"(?<=\w) \|\| (?=\w)", " or "),
    ("|•", r" ?(?:[|•] ?)++", ", "),
    ("*", r"(?<=\d) ?\* ?(?=\d)", " times "),
    ("`", r"(?<![`\w])([A-Za-z]{1,20}+)`(?=(?:s|t|re|ve|ll|d|m)\b)", "\\1'"),
    ("~`*", r"~~|[`*]", ""),
)
_BRACKETED = re.compile(r"\[([^\[\]\n]{0,64})\]")
PAUSE = re.compile(r"pause(?:[: ] {0,3}+(\d{0,6}(?:\.\d{0,6})?) {0,3}+(ms|s|sec|seconds?)?)?", re.I)
PAUSE_MARK = re.compile(r"\[pause:(\d++\.\d++)s\]")
"""How `plain` writes a pause, with the seconds as its group."""
TAG = re.compile(r"\[[^\[\]\n]{1,64}\]")
"""What stands in brackets once `Tags.plain` has read the text."""


_LIKE_A_TAG = re.compile(r"(?<![\w\]])\[ ?([A-Za-z][A-Za-z' -]{0,30}?) ?\](?![\[(:])")


def unknown_tags(text: str, known: frozenset[str]) -> Iterator[str]:
    """What stands in brackets as a tag does, and is none: it will be read out. Neither a figure,
    a link nor an index is meant."""
    for match in _LIKE_A_TAG.finditer(text):
        if match[1] not in known and not match[1].lower().startswith("pause"):
            yield match[1]


class Tags:
    """The sounds that a model knows, exact and case-sensitive. Users write `[laugh]` or `<laugh>`;
    what is no tag is read as other brackets are."""

    def __init__(self, names: frozenset[str] = frozenset()) -> None:
        self.names = names
        one = "|".join(map(re.escape, sorted(names))) or "(?!)"
        self._angled = re.compile(rf"<({one}) ?/?>")
        self._kept = re.compile(rf"(?P<keep>\[(?:{one}|pause:\d++\.\d++s)\])|[\[\]]")

    def bracketed(self, text: str) -> str:
        """`<laugh>` as `[laugh]`, but for elements that are closed."""
        if "<" not in text:
            return text
        return self._angled.sub(lambda m: m[0] if f"</{m[1]}>" in text else f"[{m[1]}]", text)

    def plain(self, text: str) -> str:
        """Markdown and square brackets taken away, their text kept. Tags stay as they are, pauses
        are written as PAUSE_MARK reads them. `text` is in the characters of
        `characters.readable`."""
        text = _BLANKS.sub(" ", text)
        for signs, pattern, put in (*_LINE_MARKS, *_INLINE):
            if any(sign in text for sign in signs):
                text = pattern.sub(put, text)
        if "[" not in text and "]" not in text:
            return text
        text = _BRACKETED.sub(lambda m: m[0] if m[1] in self.names else _bracketed(m), text)
        return self._kept.sub(lambda m: f" {m[0]} " if m["keep"] else " ", text)


def pause_mark(seconds: float) -> str:
    """A pause as it stands in plain text: whole milliseconds, at most MAX_PAUSE_S."""
    return f"[pause:{min(seconds, MAX_PAUSE_S):.3f}s]"


def _bracketed(match: re.Match[str]) -> str:
    inner = match[1]
    pause = PAUSE.fullmatch(inner)
    if pause:
        return pause_mark(pause_seconds(pause))
    if len(inner) > 1:
        return f" {inner} "
    is_index = inner != "s" and left_of(match, 1).isalnum() and not right_of(match).isalnum()
    return f" {inner} " if is_index else inner  # `x[i]`; `[s]he` and `word[s]` are one word


def pause_seconds(pause: re.Match[str]) -> float:
    """The silence that a match of PAUSE asks for."""
    figure, unit = pause[1], pause[2]
    if not figure or figure == ".":
        return DEFAULT_PAUSE_S
    return float(figure) / (1000 if unit and unit.lower() == "ms" else 1)


# --- fenced code ---------------------------------------------------------------------------------
CodeBlocks = Literal["skip", "speak"]

SKIPPED_PAUSE_S = 0.3
"""What is heard of a block that is skipped."""

_OPENS = re.compile(r"[ \t>]*+(?:[-*+] |\d{1,3}[.)] )?+[ \t]*+(`{3,}+(?![^\n]*`)|~{3,}+)")


def opened_fence(line: str) -> str:
    """The fence with which `line` opens a block of code, or nothing. Inside a list or a quotation,
    too; but ```` ```this``` ```` is code inside a sentence."""
    found = _OPENS.match(line)
    return found[1] if found else ""


def closes_fence(line: str, fence: str) -> bool:
    """Whether `line` ends the block that `fence` opened."""
    written = line.strip().lstrip("> \t")
    return len(written) >= len(fence) and not written.strip(fence[0])


def skipped(text: str) -> str:
    """`text` with a short pause for each block of code; one that is not closed goes to the end."""
    if "```" not in text and "~~~" not in text:
        return text
    kept: list[str] = []
    fence = ""
    for line in text.splitlines(keepends=True):
        if fence:
            fence = "" if closes_fence(line, fence) else fence
        elif fence := opened_fence(line):
            kept.append(f"\n{pause_mark(SKIPPED_PAUSE_S)}\n")
        else:
            kept.append(line)
    return "".join(kept)


# --- citations and reference links ---------------------------------------------------------------
_SOURCE = re.compile(
    r"(?i)[ \xa0]?(?:【(?=[^【】\n]{0,200}[\d†])[^【】\n]{0,200}】"
    r"|:contentReference(?=\[oaicite)|\[oaicite:[^\[\]\n]{0,20}\](?:\{[^{}\n]{0,20}\})?"
    r"|\[citation needed\]|\[\^\w{1,20}\^?\](?::(?= ))?)"
)
"""As chat models write them: 【4:0†file.pdf】, `:contentReference[oaicite:0]{index=0}`, `[^1]`."""
_DEFINITION = re.compile(
    r"(?m)^ {0,3}\[[^\[\]\n]{1,100}\]:[ \t]{0,3}<?(?:[a-z]{2,10}:|www\.|#|\S{0,100}/)[^\n]*$"
)
"""`[1]: https://…`, alone on a line."""
_REFERENCE = re.compile(r"(?<![\w\])])!?\[([^\[\]\n]{2,300})\]\[([^\[\]\n]{0,60})\]")
_NUMBERED_LINK = re.compile(r"\[?(\[\d{1,3}\])\]?\([^()\s]{1,2000}+(?: \"[^\"\n]{0,300}+\")?\)")
_MARKS = re.compile(
    r"(?:[ \xa0]?\[\d{1,3}(?:[ \xa0]?[,;–-][ \xa0]?\d{1,3}){0,20}\]"
    r"(?:,(?: and)?(?=[ \xa0]?\[\d)| and(?= \[\d))?)+"
)
_FIGURES = re.compile(r"\d+")
_WORD_BEFORE = re.compile(r"(\w*)[ \xa0]?$")
_ARRAYS = words("arrays")
_NEEDS_FIGURE = words("needs figure")
_NAME = re.compile(r"\w|[a-z]+(?:_\w*|[0-9]+|[A-Z]\w*)|\w+_\w*")
_USED = re.compile(r" ?[=+*<]|\.[a-z_]+[(\[]|[(\[]")
"""What stands behind an element of an array, not behind a citation."""


def but_for(tags: Tags) -> Callable[[str], str]:
    """The rule, for texts that may hold these tags."""

    def reference(match: re.Match[str]) -> str:
        named = any(t in tags.names or PAUSE.fullmatch(t) for t in (match[1], match[2]))
        return match[0] if named or not any(c.isalpha() for c in match[1]) else match[1]

    def without_citations(text: str) -> str:
        """Citations (`[1][2]`, ` [1, 2]`, `【…】`) and definitions of links taken away, `[text][1]`
        as its text; `array[5]` and `[0, 1]` keep their figures. Linear time."""
        if "[" not in text and "【" not in text:
            return text
        text = _DEFINITION.sub("", _SOURCE.sub("", text))
        return _MARKS.sub(_mark, _NUMBERED_LINK.sub(r"\1", _REFERENCE.sub(reference, text)))

    return without_citations


def _mark(match: re.Match[str]) -> str:
    """Nothing for a citation, the figures with blanks round them for an index or a list."""
    text, start, end = match.string, match.start(), match.end()
    figures = [int(figure) for figure in _FIGURES.findall(match[0])]
    before = left_of(match, 24)
    found = _WORD_BEFORE.search(before)
    word = found[1] if found else ""
    if match[0][0] == "[" and word:  # touches a word
        is_index = word in _ARRAYS or bool(_NAME.fullmatch(word) or _USED.match(text, end))
    else:
        needs_figure = word.lower() in _NEEDS_FIGURE | _ARRAYS
        follows_sign = before.rstrip()[-1:] in ("=", "(", ":", "+", "*", "/", "<", ">", "]")
        opens = not text[text.rfind("\n", 0, start) + 1 : start].strip() and len(figures) > 1
        is_index = opens or needs_figure or follows_sign or figures != sorted(figures)
    if is_index or 0 in figures:
        return re.sub(r"[\[\]]+", " ", match[0])
    return ""
