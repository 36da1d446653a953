"""What in the text is notation rather than words: HTML, SSML, Markdown, square brackets?

Knows no numbers and no abbreviations. Leaves plain text in which square brackets stand only around
the model's own tags and around pauses (`[pause:0.5s]`).
"""

import html
import re

from chatterbox.text.lexicon import listed

TAGS = listed(
    "angry fear surprised whispering advertisement dramatic narration crying happy sarcastic "
    "sigh shush cough groan sniff gasp chuckle laugh"
) | {"clear throat"}
"""The 19 tags of Chatterbox Turbo, without brackets (added tokens of its `tokenizer.json`).
Exact and case-sensitive; the model spells out any other."""

MAX_PAUSE_S = 10.0
"""Longest silence one place can ask for: SSML's own limit in the large speech services."""
DEFAULT_PAUSE_S = 0.5
_STRENGTH_S = {"none": 0.0, "x-weak": 0.1, "weak": 0.25, "medium": 0.5, "strong": 1, "x-strong": 2}

_COMMENT = re.compile(r"<!--(?:(?!-->|<!--).)*+-->|<[!?][A-Za-z][^<>]{0,500}+>", re.DOTALL)
_LINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]{1,2000}|[^<>\s@]{1,64}@[^<>\s@]{1,255})>")
_ELEMENT = re.compile(
    r"""<(?P<end>/?)(?P<name>[A-Za-z][\w:-]{0,30})
        (?P<attributes>(?:\s++[\w:.-]{1,64}+\s*+=\s*+
            (?:"[^"<>]{0,1000}+"|'[^'<>]{0,1000}+'|[^\s"'<>=/]{1,1000}+))*+)
        \s*+/?>""",
    re.VERBOSE,
)
_ATTRIBUTE = re.compile(r"""\b(time|strength)\s*+=\s*+["']?+\s*+([\w.+-]{1,16})""")
_BLOCKS = listed(
    "article blockquote br dd div dl dt figcaption h1 h2 h3 h4 h5 h6 hr li ol p paragraph pre s "
    "section sentence table td th tr ul"
)
"""Elements whose edge ends a sentence; `s` is SSML's sentence."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")

_BLANKS = re.compile(" {2,}")
_LINE_MARKS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.MULTILINE), put)
    for pattern, put in (
        (r"^ ?(?:```|~~~)[^`\n]*$", "\n"),  # code fence
        (r"^ ?(?:[-*_=] ?){3,}+$", "\n"),  # rule, or underline of a heading
        (r"^ ?\|?+ ?:?+--++[-:| ]*+$", ""),  # second line of a table
        (r"^ ?>[> ]*+", ""),  # quotation
        (r"^ ?#{1,6} (.*)$", "\n\\1\n"),  # heading
        (r"^ ?[-*+•–—] (?:\[[xX ]\] )?+", "\n"),  # list item, to-do item
        (r"^ ?(\d{1,3})[.)] (?=\S)", "\n\\1, "),  # numbered item
        (r"^ ?\| ?| ?\| ?$", ""),  # edge of a table row
    )
)
_LINK_TO = (
    r"!?\[([^\[\]\n]{0,300})\]"
    r"\((?:[^()\s]{1,2000}+|\([^()\s]{0,200}+\)){1,20}+(?: \"[^\"\n]{0,300}+\")?+\)"
)
_INLINE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), put)
    for pattern, put in (
        (_LINK_TO, "\\1"),
        (r"(?<=[\w.,;:!?\"')])\[\d{1,3}+\]|\[\^\w{1,20}+\]", ""),  # note, as in `word.[3]`
        (r"<\||\|>", " "),
        (r" \|+ |•", ", "),
        (r"(?<=\d) ?\* ?(?=\d)", " times "),
        (r"~~|[`*|]", ""),
    )
)
_BRACKETED = re.compile(r"\[([^\[\]\n]{0,64})\]")
_PAUSE = re.compile(
    r"pause(?:[: ] {0,3}+(\d{0,6}(?:\.\d{0,6})?) {0,3}+(ms|s|sec|seconds?)?)?", re.I
)
_TAG_OR_BRACKET = re.compile(
    r"(?P<keep>\[(?:" + "|".join(sorted(TAGS)) + r"|pause:\d++\.\d++s)\])|[\[\]]"
)
PAUSE_MARK = re.compile(r"\[pause:(\d++\.\d++)s\]")
"""How `plain` writes a pause, with the seconds as its group."""
TAG = re.compile(r"\[(?:" + "|".join(sorted(TAGS)) + r")\]")


def without_elements(text: str) -> str:
    """HTML and SSML taken away, their text kept; `<break time="1s"/>` becomes a pause; entities
    (`&amp;`) become what they stand for."""
    if "<" in text:
        text = _LINK.sub(r" \1 ", _COMMENT.sub(" ", text))
        text = _ELEMENT.sub(_element, text)
    return _ENTITY.sub(lambda m: html.unescape(m[0]), text) if "&" in text else text


def plain(text: str) -> str:
    """Markdown and square brackets taken away, their text kept. Tags stay as they are, pauses are
    written as PAUSE_MARK reads them. `text` is in the characters of `characters.readable`."""
    text = _BLANKS.sub(" ", text)
    for pattern, put in _LINE_MARKS:
        text = pattern.sub(put, text)
    for pattern, put in _INLINE:
        text = pattern.sub(put, text)
    if "[" not in text and "]" not in text:
        return text
    text = _BRACKETED.sub(_bracketed, text)
    return _TAG_OR_BRACKET.sub(lambda m: f" {m[0]} " if m["keep"] else " ", text)


def pause_mark(seconds: float) -> str:
    """A pause as it stands in plain text: whole milliseconds, at most MAX_PAUSE_S."""
    return f"[pause:{min(seconds, MAX_PAUSE_S):.3f}s]"


def _element(match: re.Match[str]) -> str:
    name = match["name"].lower()
    if name == "break":
        wanted = dict(_ATTRIBUTE.findall(match["attributes"]))
        if "time" not in wanted:
            return pause_mark(_STRENGTH_S.get(wanted.get("strength", "medium"), DEFAULT_PAUSE_S))
        pause = _PAUSE.fullmatch("pause:" + wanted["time"])
        return pause_mark(_seconds(pause)) if pause else ""
    return "\n\n" if name in _BLOCKS else ""


def _bracketed(match: re.Match[str]) -> str:
    inner = match[1]
    if inner in TAGS:
        return match[0]
    pause = _PAUSE.fullmatch(inner)
    if pause:
        return pause_mark(_seconds(pause))
    return inner if len(inner) == 1 else f" {inner} "  # `[s]he` is one word


def _seconds(pause: re.Match[str]) -> float:
    figure, unit = pause[1], pause[2]
    if not figure or figure == ".":
        return DEFAULT_PAUSE_S
    return float(figure) / (1000 if unit and unit.lower() == "ms" else 1)
