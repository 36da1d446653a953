"""Citations and reference links: what points to a source is left away, an index is kept.

Works on text as it was sent: some of the brackets (`【】`) are no known characters later.
"""

import re
from collections.abc import Callable

from chatterbox.text.lexicon import listed
from chatterbox.text.markup import PAUSE, Tags

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
_ARRAYS = listed(
    "array arr list lst matrix vector vec tuple dict string str items args argv nums buf buffer"
)
_NEEDS_FIGURE = listed(
    "in of from to by is are be and or see equals interval range between set sequence return "
    "returns print prints output outputs gives yields like contains ref refs reference references "
    "with than as eq equation figure page step"
)
"""Words that a figure in brackets belongs to."""
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
    before = text[max(0, start - 24) : start]
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
