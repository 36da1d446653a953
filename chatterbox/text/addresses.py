"""Reads web and mail addresses, file names, handles and hashtags."""

import re

from chatterbox.text.lexicon import ABBREVIATIONS, TITLES, listed
from chatterbox.text.neighbours import left_of, right_of

_LANDS = "uk|us|eu|de|fr|es|nl|ch|se|dk|fi|pl|pt|ie|ca|au|nz|jp|cn|kr|br|mx|ru|za"
_ENDINGS = (
    "com|org|net|edu|gov|mil|int|info|biz|io|ai|app|dev|xyz|tech|cloud|online|site|store|blog|tv|"
    "co|me|" + _LANDS
)
"""Endings by which a bare `name.ending` is known as an address; others need a path, `http` or
`www`."""
_WORDS = listed("com org net edu gov mil int info biz app dev co me")
"""Endings of up to three letters that are said as words; others are spelled: `io`, `uk`, `xyz`."""

_LABEL = r"[A-Za-z0-9][\w-]{0,62}"
_MAIL = re.compile(
    rf"(?<![\w.+%-])(?:mailto:)?[\w.+%-]{{1,64}}+@{_LABEL}(?:\.{_LABEL}){{1,8}}", re.ASCII
)
_SCHEME = re.compile(r"(?:https?|ftps?|wss?|file|mailto):(?://)?(?=\w)", re.I)
_URL = re.compile(rf"(?<!\w)(?:{_SCHEME.pattern}|www\.)[^\s<>\"|]++", re.I)
_LINKED = re.compile(r":\w|://|[wW]\.")
_BARE = re.compile(
    rf"(?<![\w.@/-])(?:[A-Za-z0-9-]{{1,63}}+\.){{1,6}}"
    rf"(?:{_ENDINGS}|{_ENDINGS.upper()}|Com|Org|Net|Edu|Gov|[a-z]{{2,12}}(?=/\w))(?![\w@-])(?!\.\w)"
    r"(?::\d{1,5}+)?(?:/[^\s<>\"|]*+)?"
)
_JOINED = re.compile(r"\.[^\W\d]")
_POINT = re.compile(r"(?<=[\w)\]])\.(?=[^\W\d])|(?<![\w.])\.(?=[a-z]{2}|[A-Z]{2,}\b)")
_NAME_BEFORE = re.compile(r"\w*$")
_WORD = re.compile(r"\w+")
_INITIALS = re.compile(r"(?:[^\W\d_]\.){2,8}(?!\w)|(?i:e\.g|i\.e|[ap]\.m|w\.r\.t)\b")
_ENDED = re.compile(r"(?<!\w)(?:(?:[A-Z]\.)+[A-Z]|(?i:e\.g|i\.e|[ap]\.m|a\.k\.a|w\.r\.t))$")
"""Initials that begin behind a point, and some that end before it."""
_CODE = re.compile(r"(?!Ma?c)[A-Z][a-z]+[A-Z]\w*|[A-Z]\w*\(")
_FILE = re.compile(r"(?:pdf|docx?|xlsx?|csv|txt|json|zip|jpe?g|png|gif|mp[34]|wav|html?|md|log)\b")
_NEAR_CHARS = 40
_HASHTAG = re.compile(r"(?<![\w&#])#(?=[^\W\d_])(\w{1,64})")
_DIRECTIVE = re.compile(r"(?<![\w&#])#(?=(?:include|define|ifn?def|endif|pragma|undef)\b)")
_HANDLE = re.compile(r"(?<![\w@])@(?=\w)")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")

_CLOSING = ".,;:!?'\")]}…*_"
"""Signs at the end of an address that belong to the sentence around it."""
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")
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


def spell_out(text: str) -> str:
    """`text` with every address, handle, hashtag and file name in words. Linear time."""
    if "@" in text:
        text = _MAIL.sub(_say, text)
    if ":" in text or "." in text:
        text = text.replace("()", "")
        text = _URL.sub(_say, text) if _LINKED.search(text) else text
        if _JOINED.search(text):
            text = _POINT.sub(_say_point, _BARE.sub(_say, text))
    if "#" in text:
        text = _DIRECTIVE.sub("hash ", text)
        text = _HASHTAG.sub(lambda m: "hashtag " + _HUMP.sub(" ", m[1]), text)
    return _HANDLE.sub("at ", text) if "@" in text else text


def _say_point(match: re.Match[str]) -> str:
    """`dot` where names are joined: before a small letter, capitals, a call. A stop stays one where
    only the blank behind it is missing (`end.Next`), and so do those of abbreviations."""
    before = left_of(match, _NEAR_CHARS)
    name, after = _NAME_BEFORE.findall(before)[0], right_of(match, _NEAR_CHARS)
    word = _WORD.findall(after)[0]
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


def _say(match: re.Match[str]) -> str:
    """Host and path sign by sign. Nobody reads the scheme, `www`, a query or a fragment aloud."""
    address = match[0].rstrip(_CLOSING)
    closing = match[0][len(address) :]
    address = re.split("[?#]", _SCHEME.sub("", address, count=1), maxsplit=1)[0].rstrip("/")
    host, slash, path = address.removeprefix("www.").partition("/")
    name, dot, ending = host.rpartition(".")
    if dot and len(ending) <= 3 and ending.isalpha():
        host = name + dot + (low if (low := ending.lower()) in _WORDS else " ".join(ending.upper()))
    spoken = _ESCAPED.sub(" ", host + slash + path)
    parts = (_SIGNS.get(part, part) for part in _SIGN.split(spoken))
    return " " + " ".join(parts) + closing
