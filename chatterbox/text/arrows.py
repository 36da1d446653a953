"""Arrows and menu paths: `File > Print > PDF`, `A → B`, `ptr->next`.

A `>` that compares is left to the signs.
"""

import re

_ARROW = re.compile(r" ?(<?)(?:-{1,3}>|={1,3}>|→|↔)(?: ?→)*+ ?")
_BACKWARD = re.compile(r" ?(?:←|<-{1,3}(?= ?[A-Za-z])) ?")
_ABOVE = re.compile(r"(?<![-=<>]) ?(?<![-=<>] )>{1,2}(?![>=]) ?")
_WORD_BEFORE = re.compile(r"([^\W_][\w'+./-]*)[)\]]?(?:\.\.\.)?$")
_WORD_AFTER = re.compile(r"[\[(]?([^\W_][\w'+/-]*)")
_MENU = re.compile(
    r"\b(?i:go(?:es|ing)? to|open(?:ed)?|click(?:ed|ing)?|press|tap(?:ped|ping)?|select|choose"
    r"|choosing|pick|navigate|under|via|menu|settings?|preferences|options|tools|file|edit|view"
    r"|window|system|control panel|start|home|insert|format|help|accounts?|profile|privacy|general"
    r"|apps?|network|accessibility|advanced|security|layout|notifications|image|layer|filter"
    r"|terminal|extensions|admin|dashboard|plugins|appearance|data|review|developer)\b"
)
"""Words that tell of a menu near by."""
_SEVERAL = re.compile(r"[A-Z]\S* [A-Z]\S*\n|\n[A-Z]\S* [A-Z]")
_CLAUSE_END = re.compile(r"[,;:\n(]|[.!?] ")
_NEAR_CHARS = 48


def spell_out(text: str) -> str:
    """`text` with `then` between the steps of a path and `to` for other arrows. Linear time."""
    if "→" in text or "->" in text or "=>" in text or "↔" in text:
        text = _ARROW.sub(_say_arrow, text)
    if "←" in text or "<-" in text:
        text = _BACKWARD.sub(" from ", text)
    if ">" in text:
        text = _ABOVE.sub(_say_above, text)
    return text.replace("↑", " up ").replace("↓", " down ")


def _is_short(word: str) -> bool:
    """A figure or a single letter: something that is counted or compared, not a step."""
    return len(word) == 1 or word[0].isdigit()


def _around(match: re.Match[str]) -> tuple[str, str, str]:
    """The words before and behind a sign ("": none), and what else stands near in its clause."""
    text, start, end = match.string, match.start(), match.end()
    before = _CLAUSE_END.split(text[max(0, start - _NEAR_CHARS) : start])[-1]
    after = _CLAUSE_END.split(text[end : end + _NEAR_CHARS], maxsplit=1)[0]
    left, right = _WORD_BEFORE.search(before), _WORD_AFTER.match(after)
    return left[1] if left else "", right[1] if right else "", f"{before}\n{after}"


def _say_arrow(match: re.Match[str]) -> str:
    text, start, end = match.string, match.start(), match.end()
    if text[max(0, start - 1) : start] in ("", *"\n.,;:!?") or text[end : end + 1] in ("", "\n"):
        return " "
    if match[1] or "↔" in match[0]:
        return " to and from "
    left, right, near = _around(match)
    if not left or not right or _is_short(left) or _is_short(right):
        return " to "
    is_path = any(sign in near for sign in ("→", "->", "=>")) or _tells_of_menu(near)
    return ", then " if is_path else " to "


def _say_above(match: re.Match[str]) -> str:
    """`then` between two words that begin with capitals, in a path of three steps, and where the
    words before tell of a menu; any other `>` compares."""
    left, right, near = _around(match)
    if not left or not right or _is_short(right) or match[0] not in (">", " > ", " >> "):
        return match[0]
    is_path = " > " in near or " >> " in near or _tells_of_menu(near)
    if _is_short(left):
        is_step = is_path and right[0].isupper()
    else:
        titles = left[0].isupper() and right[0].isupper() and (is_path or _are_long(near))
        is_step = titles or (is_path and match[0] != ">")
    return ", then " if is_step else match[0]


def _are_long(near: str) -> bool:
    """Whether a side of the sign has several words with capitals: `Tools > Check Database`; two
    single words are compared: `Profit > Loss`."""
    return _SEVERAL.search(near) is not None


def _tells_of_menu(near: str) -> bool:
    return _MENU.search(near.partition("\n")[0]) is not None
