"""Reads web and mail addresses, file names, handles and hashtags."""

import re

from chatterbox.text.lexicon import ABBREVIATIONS, TITLES, any_in, word_set
from chatterbox.text.rules import Step, text_after, text_before

_ENDINGS = any_in("address endings")
_WORDS = word_set("com org net edu gov mil int info biz app dev co me")
"""Endings of up to three letters that are said as words; others are spelled: `io`, `uk`, `xyz`."""

_LABEL = r"[A-Za-z0-9][\w-]{0,62}"
_SCHEME = r"(?i:(?:https?|ftps?|wss?|file|mailto):(?://)?(?=\w))"
_INITIALS = re.compile(r"(?:[^\W\d_]\.){2,8}(?!\w)|(?i:e\.g|i\.e|[ap]\.m|w\.r\.t)\b")
_ENDED = re.compile(r"(?<!\w)(?:(?:[A-Z]\.)+[A-Z]|(?i:e\.g|i\.e|[ap]\.m|a\.k\.a|w\.r\.t))$")
"""Initials that begin behind a point, and some that end before it."""
_CODE = re.compile(r"(?!Ma?c)[A-Z][a-z]+[A-Z]\w*|[A-Z]\w*\(")
_FILE = re.compile(r"(?:pdf|docx?|xlsx?|csv|txt|json|zip|jpe?g|png|gif|mp[34]|wav|html?|md|log)\b")
_NEAR_CHARS = 40

_CLOSING = ".,;:!?'\")]}…*_"
"""Signs at the end of an address that belong to the sentence around it."""
_SIGNS = {
    ".": "dot",
    "/": "slash",
    "-": "dash",
    "_": "underscore",
    ":": "colon",
    "@": "at",
    "+": "plus",
    "~": "tilde",
    "=": "equals",
    "&": "and",
}
_SIGN = re.compile(r"([/:@+~=&_-]|(?<!\d)\.|\.(?!\d))")
"""Those of `_SIGNS`; a point between digits is left to a version or an IP address."""

read = Step(__name__, needs="[@.:#]")
"""Every address, handle, hashtag and file name."""


@read.rule(rf"(?a:(?<![\w.+%-])(?:mailto:)?[\w.+%-]{{1,64}}+@{_LABEL}(?:\.{_LABEL}){{1,8}})", "@")
def _say(match: re.Match[str]) -> str:
    """Host and path sign by sign. Nobody reads the scheme, `www`, a query or a fragment aloud."""
    address = match[0].rstrip(_CLOSING)
    closing = match[0][len(address) :]
    address = re.split("[?#]", re.sub(_SCHEME, "", address, count=1), maxsplit=1)[0].rstrip("/")
    host, slash, path = address.removeprefix("www.").partition("/")
    name, dot, ending = host.rpartition(".")
    if dot and len(ending) <= 3 and ending.isalpha():
        host = name + dot + (low if (low := ending.lower()) in _WORDS else " ".join(ending.upper()))
    spoken = re.sub("%[0-9A-Fa-f]{2}", " ", host + slash + path)
    parts = (_SIGNS.get(part, part) for part in _SIGN.split(spoken))
    return " " + " ".join(parts) + closing


read.add(r"\(\)", "", "[.:]")
read.add(rf"(?<!\w)(?:{_SCHEME}|(?i:www\.))[^\s<>\"|]++", _say, r":\w|://|[wW]\.")
read.add(
    r"(?<![\w.@/-])(?:[A-Za-z0-9-]{1,63}+\.){1,6}"
    rf"(?:{_ENDINGS}|{_ENDINGS.upper()}|Com|Org|Net|Edu|Gov|[a-z]{{2,12}}(?=/\w))(?![\w@-])(?!\.\w)"
    r"(?::\d{1,5}+)?(?:/[^\s<>\"|]*+)?",
    _say,
    r"\.[^\W\d]",
)


@read.rule(r"(?<=[\w)\]])\.(?=[^\W\d])|(?<![\w.])\.(?=[a-z]{2}|[A-Z]{2,}\b)", r"\.[^\W\d]")
def _say_point(match: re.Match[str]) -> str:
    """`dot` where names are joined: before a small letter, capitals, a call. A stop stays one where
    only the blank behind it is missing (`end.Next`), and so do those of abbreviations."""
    before, after = text_before(match, _NEAR_CHARS), text_after(match, _NEAR_CHARS)
    name, word = re.findall(r"\w*$", before)[0], re.findall(r"\w+", after)[0]
    if f"{name}." in ABBREVIATIONS or name in TITLES or _ENDED.search(before):
        return ". " if len(word) > 1 else "."
    if not name[:-1].strip("0123456789") and _INITIALS.match(f"{name[-1:]}.{after}"):
        return match[0]
    if name.isdigit():
        is_name = _FILE.match(after) is not None
    elif word.isupper():
        is_name = len(word) > 1 and (len(word) < 5 or not name.isupper())
    else:
        is_name = word[0].islower() or word[0] == "_" or _CODE.match(after) is not None
    return " dot " if is_name else match[0]


read.add(r"(?<![\w&#])#(?=(?:include|define|ifn?def|endif|pragma|undef)\b)", "hash ", "#")


@read.rule(r"(?<![\w&#])#(?=[^\W\d_])(\w{1,64})", "#")
def _say_hashtag(match: re.Match[str]) -> str:
    """#NewYear → hashtag New Year."""
    return "hashtag " + re.sub("(?<=[a-z])(?=[A-Z])", " ", match[1])


read.add(r"(?<![\w@])@(?=\w)", "at ", "@")
