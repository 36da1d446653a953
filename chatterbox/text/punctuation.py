"""Sets stops, dashes and line ends.

What comes out has one blank between words, one stop in a place, no parentheses, and a sentence's
stop at the end of each line.
"""

import re

from chatterbox.text.characters import is_speakable
from chatterbox.text.markup import TAG

_WRAPPED_CHARS = 60
"""A line at least this long that ends without a stop was wrapped by an editor (they wrap at 60 to
80); a shorter one is a heading, an address or a verse."""

_UNFINISHED = re.compile(
    r"(?:^| )(?:a|an|the|of|to|and|or|in|on|at|by|for|from|with|as|is|are|was|were|that|this|his"
    r"|her|its|their|our|my|your)$"
)
"""No line ends here but by wrapping."""
_BLANKS = re.compile(" {2,}")
_PLURAL = re.compile(r"\((?<=\w.)(e?s)\)")
_TOUCHING_NAME = re.compile(
    r"\((?<=[\w)].)(\w|[ivx]{1,4}|one|two|three|four|five|six|seven|eight|nine|ten)\)"
)
"""The letter or figure of a clause, `501(c)(3)`; figures are words by then."""
_AFTER_STOP = re.compile(r"[()](?:(?<=[,.!?;:]\))|(?<=[,.!?;:] \())")
_CLOSING = re.compile(r" ?\)(?= ?\w)")
_DASHES = re.compile(r" ?[-–—](?: ?[-–—])*+ ?")
_LOOSE_HYPHEN = re.compile(r"-(?:(?<!\w-)-*|-*(?!\w))")
_CLUSTER = re.compile(r"(?: [,.!?;:]|[,.!?;:](?= ?[,.!?;:]))(?: ?[,.!?;:])*+")
_DASHED_STOP = re.compile(r" — ?(?=[,.!?;:])|(?<=[,.!?;:]) ?—(?= )")
_TOUCHING = re.compile(r"[,.!?;:](?=[\w\[])")
_LEADING = " ,.!?;:—-"
_TRAILING = " ,;:—-"


def squeezed(text: str) -> str:
    """Runs of blanks to one."""
    return _BLANKS.sub(" ", text) if "  " in text else text


def runs_on(previous: str, line: str, earlier: int = 0) -> bool:
    """Whether an editor has wrapped `previous`, so that it goes on in `line`. `earlier`: characters
    of the same line before `previous`."""
    return previous[-1] not in ".!?:" and (
        len(previous) + earlier >= _WRAPPED_CHARS
        or line[0].islower()
        or _UNFINISHED.search(previous[-8:]) is not None
    )


def unwrapped(text: str) -> str:
    """One line per paragraph: lines that an editor wrapped are joined, blank lines dropped."""
    joined: list[str] = []
    previous = ""
    for written in squeezed(text).split("\n"):
        line = written.strip()
        if line:
            joined.append((" " if previous and runs_on(previous, line) else "\n") + line)
        previous = line
    return "".join(joined).lstrip("\n")


def tidy(text: str) -> str:
    """Lines of words with clean stops; lines without words are dropped. Linear time."""
    if "(" in text or ")" in text:
        text = _TOUCHING_NAME.sub(r" \1 ", _PLURAL.sub(r"\1", text))
        text = _AFTER_STOP.sub("", text)
        text = _CLOSING.sub(", ", text).replace("(", ", ").replace(")", " ")
    text = squeezed(text.replace("…", ", "))
    if "-" in text or "—" in text or "–" in text:
        text = _LOOSE_HYPHEN.sub(" ", _DASHES.sub(_one_dash, text))
        text = squeezed(text)
        text = _DASHED_STOP.sub("", text) if "—" in text else text
    text = squeezed(_TOUCHING.sub(r"\g<0> ", _CLUSTER.sub(_one_stop, text)))
    return "\n".join(_with_tags([_ended(line) for line in text.split("\n") if is_speakable(line)]))


def _one_dash(match: re.Match[str]) -> str:
    """A run of dashes as one; hyphens that touch a word stay."""
    run = match[0]
    is_dash = "–" in run or "—" in run or "--" in run or (run[0] == " " and run[-1] == " ")
    return " — " if is_dash else run


def _one_stop(match: re.Match[str]) -> str:
    """The one stop that a run of them amounts to."""
    marks = set(match[0]) - {" "}
    asked = "".join(mark for mark in "?!" if mark in marks)
    if asked:
        return asked
    if "." in marks:
        if "," in marks:
            return ","  # an abbreviation's stop inside a sentence
        return "..." if match[0].count(".") > 1 else "."
    return next(mark for mark in match[0] if mark != " ")


def _ended(line: str) -> str:
    """Begins with a word, ends with a stop; a line of tags alone has none."""
    line = line.lstrip(_LEADING).rstrip(_TRAILING)
    if not is_speakable(TAG.sub("", line)):
        return " ".join(TAG.findall(line))
    return line if line[-1] in ".!?" else line + "."


def _with_tags(lines: list[str]) -> list[str]:
    """Lines of tags alone join the line after them, at the end the line before."""
    joined: list[str] = []
    tags = ""
    for line in lines:
        if line[-1] == "]":
            tags = f"{tags}{line} "
        else:
            joined.append(tags + line)
            tags = ""
    if tags:
        joined[-1:] = [" ".join([*joined[-1:], tags.rstrip()])]
    return joined
