"""Remove markup and keep its text: HTML, SSML, Markdown, square brackets, code, citations.

What remains is plain text, with square brackets only around the model's tags and around pauses
(`[pause:0.5s]`).
"""

import html
import re
from collections.abc import Iterator
from typing import Literal

from chatterbox.text.lexicon import words_in
from chatterbox.text.rules import Match, Step, text_after, text_before

# --- pauses --------------------------------------------------------------------------------------
MAX_PAUSE_S = 10.0
"""Longest silence in one place, as in the large speech services; a longer one is shortened."""
DEFAULT_PAUSE_S = 0.5
_STRENGTH_S = {"none": 0.0, "x-weak": 0.1, "weak": 0.25, "medium": 0.5, "strong": 1, "x-strong": 2}
_PAUSE = re.compile(r"(?i)pause(?:[: ] {0,3}+(\d{0,6}(?:\.\d{0,6})?) {0,3}+(ms|s|sec|seconds?)?)?")
PAUSE_MARK = re.compile(r"\[pause:(\d++\.\d++)s\]")
"""Matches a pause in plain text; group 1 is the seconds."""


def pause_mark(seconds: float) -> str:
    """Return the mark of a pause in plain text: whole milliseconds, at most MAX_PAUSE_S."""
    return f"[pause:{min(seconds, MAX_PAUSE_S):.3f}s]"


def _parse_pause(written: str) -> str:
    """Return the mark for `pause:300ms`, "" for text that is no pause."""
    if not (pause := _PAUSE.fullmatch(written)):
        return ""
    if pause[1] in (None, "", "."):
        return pause_mark(DEFAULT_PAUSE_S)
    return pause_mark(float(pause[1]) / (1000 if (pause[2] or "").lower() == "ms" else 1))


# --- HTML and SSML -------------------------------------------------------------------------------
elements = Step(__name__, "elements", "[<&]")
"""Replace elements and entities of HTML and SSML by their text: `<b>so</b> on` → `so on`."""
_BLOCKS, _INLINE = words_in("block elements"), words_in("inline elements")
THOUGHTS = ("think", "thinking", "thought", "reasoning")
HIDDEN = (*THOUGHTS, "script", "style", "template")
_HIDDEN = re.compile(rf"(?i)(?<!`)<(/?)({'|'.join(HIDDEN)}|details)(?![\w:-])([^<>]{{0,500}}+)>")
"""Elements that are removed with their content: thoughts of a chat model, scripts and styles of a
page; `details` only if its attributes contain `reasoning`."""
_FLAGS = "open|hidden|disabled|checked|selected|required|readonly|multiple|async|defer|controls"
_ELEMENT = re.compile(
    rf"""<(?P<end>/?)(?P<name>[A-Za-z][\w:-]{{0,30}})
        (?P<attributes>(?:\s++(?:[\w:.-]{{1,64}}+\s*+=\s*+
            (?:"[^"<>]{{0,1000}}+"|'[^'<>]{{0,1000}}+'|[^\s"'<>=/]{{1,1000}}+)|(?:{_FLAGS})\b))*+)
        \s*+/?>""",
    re.VERBOSE,
)
_BREAK = re.compile(r"""\b(time|strength)\s*+=\s*+["']?+\s*+([\w.+-]{1,16})""")
_MENTIONED = re.compile(r"`| (?:tag|element|attribute|node|block)s?\b")
"""Matches behind an element that the text talks about: `the <div> element`."""
elements.add(r"(#include) ?<([\w./+-]{1,80})>", r"\1 \2", "#include")
elements.add(r"(?s)<!--(?:(?!-->|<!--).)*+-->|<[!?][A-Za-z][^<>]{0,500}+>", " ", "<[!?]")


@elements.rule(r"(?s).+", "(?i)<(?:/?thi|/?tho|/?rea|scr|sty|tem|det)")
def _remove_hidden(whole: Match) -> str:
    """<think>…</think>. An element that is never closed reaches to the end of the text if it opens
    a line; otherwise the text only talks about it. A thought may have begun before the text."""
    text = whole[0]
    kept, at, inside, opened = [], 0, "", 0
    for match in _HIDDEN.finditer(text):
        end, name = match[1], match[2].lower()
        if match[3].strip(" \n/") and "=" not in match[3]:
            continue  # <thinking about it>
        ends_line = text_after(match, 2).strip(" \r")[:1] in ("", "\n")
        if not inside and not end and (name != "details" or "reasoning" in match[3]):
            inside, opened = name, match.start()
        elif inside == name and end:
            kept.append(text[at:opened])
            inside, at = "", match.end()
        elif not inside and end and name in THOUGHTS and ends_line:
            kept, at = [], match.end()
    unclosed = inside and not text[:opened].rpartition("\n")[2].strip()
    return "\n\n".join([*kept, text[at : opened if unclosed else len(text)]])


elements.add(
    r"<((?:https?://|mailto:)[^<>\s]{1,2000}|[^<>\s@]{1,64}@[^<>\s@]{1,255})>", r" \1 ", "<"
)


@elements.rule(
    r"(?i)<(?P<name>su[pb])\b[^<>]{0,300}+>(?P<link><a\b[^<>]{0,300}+>)?+(?P<what>[^<>]{0,40}+)"
    r"(?:</a>)?+</(?P=name)>",
    "<[sS][uU]",
)
def _say_raised(match: Match) -> str:
    """x<sup>2</sup> as x², CO<sub>2</sub> as CO2; a raised link is a footnote."""
    what = match["what"].strip()
    if match["link"] or what[:1] == "[":
        return ""
    if match["name"].lower() == "sub":
        return what if what.isdigit() else f"_{what}"
    if re.fullmatch("[-−]?[0-9]+", what):
        return what.translate(str.maketrans("0123456789-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻"))
    if what.isalpha() and len(what) > 1:
        return what  # 1<sup>st</sup>
    return f"^{what}" if what.isalnum() else f"^{{{what}}}"


@elements.rule(r"(?s).+", "<")
def _remove_elements(whole: Match) -> str:
    """<p>Hello <b>bold</b></p>"""
    closed = frozenset(re.findall(r"</([A-Za-z][\w:-]{0,30})", whole[0]))
    return _ELEMENT.sub(lambda m: _element(m, m["name"] in closed), whole[0])


def _element(match: Match, is_closed: bool) -> str:
    """Return what replaces an element: nothing, the end of a sentence, a pause for `<break>`, or
    the name of a placeholder such as `Dear <name>`."""
    name, attributes = match["name"].lower(), match["attributes"]
    if name == "break":
        wanted = dict(_BREAK.findall(attributes))
        if "time" in wanted:
            return _parse_pause("pause:" + wanted["time"])
        return pause_mark(_STRENGTH_S.get(wanted.get("strength", "medium"), DEFAULT_PAUSE_S))
    known = is_closed or match["end"] or attributes.strip() or match[0].endswith("/>")
    if not known and name not in _BLOCKS | _INLINE and text_before(match, 1) != "<":
        return f" {match['name']} "
    if _MENTIONED.match(match.string, match.end()) and not match["end"]:
        return match["name"]
    return "\n\n" if name in _BLOCKS else ""


elements.add(r"(?<![\w)])<([A-Za-z][\w'-]{1,30}(?: [\w'-]{1,30}){1,6})>", r" \1 ", "<")
elements.add(
    r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});",
    lambda m: html.unescape(m[0]),
    "&",
)

# --- Markdown ------------------------------------------------------------------------------------
_plain = Step(__name__)
"""Replace the marks of Markdown by their text: `see [the shop](https://a.org)` → `see the shop`."""
_plain.add(" {2,}", " ", "  ")
for _signs, _pattern, _put in (
    ("[`~]", r"^ ?(?:```|~~~)[^`\n]*$", "\n"),  # code fence
    ("[-*_=]", r"^ ?(?:[-*_=] ?){3,}+$", "\n"),  # rule, or underline of a heading
    ("-", r"^(?=[|: ]*+-)[-:| ]++$", ""),  # second line of a table
    (">", r"^ ?>(?!=|[$€£]?\d| [$€£]?\d[^\n]{0,40}+(?<![.!?])$)[> ]*+", ""),  # quotation
    ("#", r"^ ?#{1,6} (.*)$", "\n\\1\n"),  # heading
    ("[-*+•–—→>]", r"^ ?(?:[-*+•–—→]|[-=]>) (?:\[[xX ]\] )?+", "\n"),  # list item, to-do item
    ("[.)]", r"^ ?(\d{1,3})[.)] (?=\S)", "\n\\1, "),  # numbered item
    (r"\|", r"^ ?\|[| ]*+(.*)", "\n\\1\n"),  # row of a table, without its edge
    (r"\\", r"\\([!-/:-@[-`{-~])", "\\1"),  # escaped sign
    (
        r"\]\(",
        r"!?\[([^\[\]\n]{0,300})\]"
        r"\((?:[^()\s]{1,2000}+|\([^()\s]{0,200}+\)){1,20}+(?: \"[^\"\n]{0,300}+\")?+\)",
        "\\1",
    ),  # link, picture
    (r"\|", r"<\||\|>", " "),
    (r"\|", r"(?<=\w) \|\| (?=\w)", " or "),
    ("[|•]", r" ?(?:[|•] ?)++", ", "),
    (r"\*", r"(?<=\d) ?\* ?(?=\d)", " times "),
    ("`", r"(?<![`\w])([A-Za-z]{1,20}+)`(?=(?:s|t|re|ve|ll|d|m)\b)", "\\1'"),
    ("[~`*]", r"~~|[`*]", ""),
):
    _plain.add(f"(?m){_pattern}", _put, _signs)


def unknown_tags(text: str, known: frozenset[str]) -> Iterator[str]:
    """Yield words in brackets that look like tags but are not `known`, so that they will be spoken.
    Numbers, links and indexes do not look like tags."""
    for tag in re.findall(r"(?<![\w\]])\[ ?([A-Za-z][A-Za-z' -]{0,30}?) ?\](?![\[(:])", text):
        if tag not in known and not tag.lower().startswith("pause"):
            yield tag


_REFERENCE = re.compile(r"(?<![\w\])])!?\[([^\[\]\n]{2,300})\]\[([^\[\]\n]{0,60})\]")


class Tags:
    """Names of the sounds that a model knows. Users write `[laugh]` or `<laugh>`, exactly."""

    def __init__(self, names: frozenset[str] = frozenset()) -> None:
        self.names = names
        one = "|".join(map(re.escape, sorted(names))) or "(?!)"
        self._angled = re.compile(rf"<({one}) ?/?>")
        self._kept = re.compile(rf"(?P<keep>\[(?:{one}|pause:\d++\.\d++s)\])|[\[\]]")

    def to_brackets(self, text: str) -> str:
        """Replace `<laugh>` by `[laugh]`, unless the text closes it as an element."""
        return self._angled.sub(lambda m: m[0] if f"</{m[1]}>" in text else f"[{m[1]}]", text)

    def remove_citations(self, text: str) -> str:
        """Remove citations (`[1][2]`, ` [1, 2]`, `【…】`) and the targets of links. `[text][1]`
        keeps its text, `array[5]` and `[0, 1]` keep their numbers. Linear time."""
        text = _chat_citations(text)
        if "][" in text:
            text = _REFERENCE.sub(self._reference, text)
        return _citations(text)

    def _reference(self, match: Match) -> str:
        named = any(t in self.names or _PAUSE.fullmatch(t) for t in match.groups())
        return match[0] if named or not any(c.isalpha() for c in match[1]) else match[1]

    def strip_markdown(self, text: str) -> str:
        """Remove Markdown and square brackets, keep their text and the tags, and write pauses as
        PAUSE_MARK reads them. `text` comes from `characters.normalise_characters`."""
        text = _plain(text)
        if "[" not in text and "]" not in text:
            return text
        text = re.sub(r"\[([^\[\]\n]{0,64})\]", self._bracketed, text)
        return self._kept.sub(lambda m: f" {m[0]} " if m["keep"] else " ", text)

    def _bracketed(self, match: Match) -> str:
        inner = match[1]
        if inner in self.names:
            return match[0]
        if pause := _parse_pause(inner):
            return pause
        is_index = (
            inner != "s" and text_before(match, 1).isalnum() and not text_after(match).isalnum()
        )
        # `x[i]`; `[s]he` and `word[s]` are one word
        return f" {inner} " if len(inner) > 1 or is_index else inner


# --- fenced code ---------------------------------------------------------------------------------
CodeBlocks = Literal["skip", "speak"]

SKIPPED_PAUSE_S = 0.3
"""The pause in place of a block of code that is skipped."""

_OPENS = re.compile(r"[ \t>]*+(?:[-*+] |\d{1,3}[.)] )?+[ \t]*+(`{3,}+(?![^\n]*`)|~{3,}+)")


def opened_fence(line: str) -> str:
    """Return the fence with which `line` opens a block of code, also in a list or a quotation, ""
    for any other line. ```` ```this``` ```` is code inside a sentence."""
    found = _OPENS.match(line)
    return found[1] if found else ""


def closes_fence(line: str, fence: str) -> bool:
    """Whether `line` ends the block that `fence` opened."""
    written = line.strip().lstrip("> \t")
    return len(written) >= len(fence) and not written.strip(fence[0])


def skip_code_blocks(text: str) -> str:
    """Replace blocks of code by a short pause. A block that is not closed reaches to the end."""
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
_chat_citations = Step(__name__, needs=r"[\[【]")
"""Remove the citations of chat models: `So it is.【4:0†a.pdf】` → `So it is.`"""
_citations = Step(__name__, needs=r"\[")
"""Remove citations, keep indexes and lists: `Fact [3, 4] in x[0]` → `Fact in x zero`."""
_ARRAYS, _NEEDS_NUMBER = words_in("arrays"), words_in("needs number")
_NAME = re.compile(r"\w|[a-z]+(?:_\w*|[0-9]+|[A-Z]\w*)|\w+_\w*")
_USED = re.compile(r" ?[=+*<]|\.[a-z_]+[(\[]|[(\[]")
"""Matches behind an element of an array, not behind a citation."""
_chat_citations.add(  # 【4:0†file.pdf】, `:contentReference[oaicite:0]{index=0}`, `[^1]`
    r"(?i)[ \xa0]?(?:【(?=[^【】\n]{0,200}[\d†])[^【】\n]{0,200}】"
    r"|:contentReference(?=\[oaicite)|\[oaicite:[^\[\]\n]{0,20}\](?:\{[^{}\n]{0,20}\})?"
    r"|\[citation needed\]|\[\^\w{1,20}\^?\](?::(?= ))?)",
    "",
)
_chat_citations.add(  # `[1]: https://…`, alone on a line
    r"(?m)^ {0,3}\[[^\[\]\n]{1,100}\]:[ \t]{0,3}<?(?:[a-z]{2,10}:|www\.|#|\S{0,100}/)[^\n]*$",
    "",
    r"\]:",
)
_citations.add(  # a numbered link
    r"\[?(\[\d{1,3}\])\]?\([^()\s]{1,2000}+(?: \"[^\"\n]{0,300}+\")?\)", r"\1", r"\]\("
)


@_citations.rule(
    r"(?:[ \xa0]?\[\d{1,3}(?:[ \xa0]?[,;–-][ \xa0]?\d{1,3}){0,20}\]"
    r"(?:,(?: and)?(?=[ \xa0]?\[\d)| and(?= \[\d))?)+"
)
def _say_mark(match: Match) -> str:
    """Nothing for a citation; the numbers, with spaces around them, for an index or a list."""
    text, start = match.string, match.start()
    values = [int(value) for value in re.findall(r"\d+", match[0])]
    before = text_before(match, 24)
    found = re.search(r"(\w*)[ \xa0]?$", before)
    word = found[1] if found else ""
    if match[0][0] == "[" and word:  # touches a word
        used = _NAME.fullmatch(word) or _USED.match(text, match.end())
        is_index = word in _ARRAYS or used is not None
    else:
        follows_sign = before.rstrip()[-1:] in tuple("=(:+*/<>]")
        opens = not text[text.rfind("\n", 0, start) + 1 : start].strip() and len(values) > 1
        needed = word.lower() in _NEEDS_NUMBER | _ARRAYS
        is_index = opens or needed or follows_sign or values != sorted(values)
    return re.sub(r"[\[\]]+", " ", match[0]) if is_index or 0 in values else ""
