"""HTML and SSML: elements that are left away, elements that end a sentence, pauses.

Works on text as it was sent; leaves neither tags nor entities.
"""

import html
import re

from chatterbox.text.lexicon import words
from chatterbox.text.markup import DEFAULT_PAUSE_S, PAUSE, pause_mark, pause_seconds

_STRENGTH_S = {"none": 0.0, "x-weak": 0.1, "weak": 0.25, "medium": 0.5, "strong": 1, "x-strong": 2}

_COMMENT = re.compile(r"<!--(?:(?!-->|<!--).)*+-->|<[!?][A-Za-z][^<>]{0,500}+>", re.DOTALL)
_LINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]{1,2000}|[^<>\s@]{1,64}@[^<>\s@]{1,255})>")
_FLAGS = "open|hidden|disabled|checked|selected|required|readonly|multiple|async|defer|controls"
_INCLUDE = re.compile(r"(#include) ?<([\w./+-]{1,80})>")
_ELEMENT = re.compile(
    rf"""<(?P<end>/?)(?P<name>[A-Za-z][\w:-]{{0,30}})
        (?P<attributes>(?:\s++(?:[\w:.-]{{1,64}}+\s*+=\s*+
            (?:"[^"<>]{{0,1000}}+"|'[^'<>]{{0,1000}}+'|[^\s"'<>=/]{{1,1000}}+)|(?:{_FLAGS})\b))*+)
        \s*+/?>""",
    re.VERBOSE,
)
_CLOSED = re.compile(r"</([A-Za-z][\w:-]{0,30})")
_ATTRIBUTE = re.compile(r"""\b(time|strength)\s*+=\s*+["']?+\s*+([\w.+-]{1,16})""")
_MENTIONED = re.compile(r"`| (?:tag|element|attribute|node|block)s?\b")
"""What stands behind an element that the text speaks of."""
_BLOCKS = words("block elements")

_INLINE = words("inline elements")

THOUGHTS = ("think", "thinking", "thought", "reasoning")
HIDDEN = (*THOUGHTS, "script", "style", "template")
_HIDDEN = re.compile(rf"(?i)(?<!`)<(/?)({'|'.join(HIDDEN)}|details)(?![\w:-])([^<>]{{0,500}}+)>")
"""Elements that are left away with all that is in them: a chat model's thoughts, a page's code;
`details` only where its attributes say `reasoning`."""
_RAISED = re.compile(
    r"(?i)<(?P<name>su[pb])\b[^<>]{0,300}+>(?P<link><a\b[^<>]{0,300}+>)?+(?P<what>[^<>]{0,40}+)"
    r"(?:</a>)?+</(?P=name)>"
)
_FIGURES = re.compile("[-−]?[0-9]+")
_PLACEHOLDER = re.compile(r"(?<![\w)])<([A-Za-z][\w'-]{1,30}(?: [\w'-]{1,30}){1,6})>")
_SUPERSCRIPT = str.maketrans("0123456789-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def without_elements(text: str) -> str:
    """HTML and SSML taken away, their text kept; `<break time="1s"/>` becomes a pause; entities
    (`&amp;`) become what they stand for."""
    if "<" in text:
        text = _without_hidden(_COMMENT.sub(" ", _INCLUDE.sub(r"\1 \2", text)))
        closed = frozenset(_CLOSED.findall(text))
        text = _ELEMENT.sub(
            lambda m: _element(m, closed), _RAISED.sub(_raised, _LINK.sub(r" \1 ", text))
        )
        text = _PLACEHOLDER.sub(r" \1 ", text)
    return _ENTITY.sub(lambda m: html.unescape(m[0]), text) if "&" in text else text


def _without_hidden(text: str) -> str:
    """`_HIDDEN` elements taken away. One that is never closed reaches to the end where it opens a
    line, else it is only spoken of; a thought may have been opened before the text began."""
    kept, at, inside, opened = [], 0, "", 0
    for match in _HIDDEN.finditer(text):
        end, name = match[1], match[2].lower()
        if match[3].strip(" \n/") and "=" not in match[3]:
            continue  # <thinking about it>
        if not inside and not end and (name != "details" or "reasoning" in match[3]):
            inside, opened = name, match.start()
        elif inside == name and end:
            kept.append(text[at:opened])
            inside, at = "", match.end()
        elif not inside and end and name in THOUGHTS and _ends_line(text, match.end()):
            kept, at = [], match.end()
    if inside and not text[:opened].rpartition("\n")[2].strip():
        return "\n\n".join([*kept, text[at:opened]])
    return "\n\n".join([*kept, text[at:]])


def _ends_line(text: str, at: int) -> bool:
    return text[at : at + 2].strip(" \r")[:1] in ("", "\n")


def _raised(match: re.Match[str]) -> str:
    """x<sup>2</sup> as x², CO<sub>2</sub> as CO2; a raised link is a note."""
    what = match["what"].strip()
    if match["link"] or what[:1] == "[":
        return ""
    if match["name"].lower() == "sub":
        return what if what.isdigit() else f"_{what}"
    if _FIGURES.fullmatch(what):
        return what.translate(_SUPERSCRIPT)
    if what.isalpha() and len(what) > 1:
        return what  # 1<sup>st</sup>
    return f"^{what}" if what.isalnum() else f"^{{{what}}}"


def _is_placeholder(match: re.Match[str], name: str) -> bool:
    """`Dear <name>`: no element of HTML or SSML."""
    return not (
        match["end"]
        or match.string[match.start() - 1 : match.start()] == "<"
        or match["attributes"].strip()
        or match[0].endswith("/>")
        or name in _BLOCKS
        or name in _INLINE
    )


def _element(match: re.Match[str], closed: frozenset[str]) -> str:
    name = match["name"].lower()
    if name == "break":
        wanted = dict(_ATTRIBUTE.findall(match["attributes"]))
        if "time" not in wanted:
            return pause_mark(_STRENGTH_S.get(wanted.get("strength", "medium"), DEFAULT_PAUSE_S))
        pause = PAUSE.fullmatch("pause:" + wanted["time"])
        return pause_mark(pause_seconds(pause)) if pause else ""
    if match["name"] not in closed and _is_placeholder(match, name):
        return f" {match['name']} "
    if _MENTIONED.match(match.string, match.end()) and not match["end"]:
        return match["name"]
    return "\n\n" if name in _BLOCKS else ""
