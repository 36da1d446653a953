"""Markdown, square brackets and pauses: the marks are left away, their text stays.

Knows no numbers and no abbreviations. Leaves plain text in which square brackets stand only around
the model's tags and around pauses (`[pause:0.5s]`).
"""

import re

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
    text, start, end = match.string, match.start(), match.end()
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    is_index = inner != "s" and before.isalnum() and not after.isalnum()
    return f" {inner} " if is_index else inner  # `x[i]`; `[s]he` and `word[s]` are one word


def pause_seconds(pause: re.Match[str]) -> float:
    """The silence that a match of PAUSE asks for."""
    figure, unit = pause[1], pause[2]
    if not figure or figure == ".":
        return DEFAULT_PAUSE_S
    return float(figure) / (1000 if unit and unit.lower() == "ms" else 1)
