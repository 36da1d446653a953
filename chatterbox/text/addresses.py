"""Read web and mail addresses, file names, handles and hashtags as words."""

import re

from chatterbox.text.lexicon import ABBREVIATIONS, TITLES, any_in, spoken_in, words_in
from chatterbox.text.rules import Match, Step, text_after, text_before

read = Step(__name__, needs="[@.:#]")
"""Read addresses, file names, handles and hashtags as words: `me@a.org` → `me at a dot org`."""
_ENDINGS, _SPOKEN_ENDINGS = any_in("address endings"), words_in("spoken endings")
_LABEL = r"[A-Za-z0-9][\w-]{0,62}"
_SCHEME = r"(?i:(?:https?|ftps?|wss?|file|mailto):(?://)?(?=\w))"
_INITIALS = re.compile(r"(?:[^\W\d_]\.){2,8}(?!\w)|(?i:e\.g|i\.e|[ap]\.m|w\.r\.t)\b")
_INITIALS_BEFORE = re.compile(
    r"(?<!\w)(?:(?:[A-Z]\.)+[A-Z]|(?i:e\.g|i\.e|[ap]\.m|a\.k\.a|w\.r\.t))$"
)
_CODE = re.compile(r"(?!Ma?c)[A-Z][a-z]+[A-Z]\w*|[A-Z]\w*\(")
_FILE = re.compile(r"(?:pdf|docx?|xlsx?|csv|txt|json|zip|jpe?g|png|gif|mp[34]|wav|html?|md|log)\b")
_CLOSING = ".,;:!?'\")]}…*_"
"""Characters at the end of an address that belong to the sentence around it."""
_SIGNS = spoken_in("address signs")
_SIGN = re.compile(r"([/:@+~=&_-]|(?<!\d)\.|\.(?!\d))")
"""The keys of `_SIGNS`; a point between digits is left to `identifiers`."""


@read.rule(rf"(?a:(?<![\w.+%-])(?:mailto:)?[\w.+%-]{{1,64}}+@{_LABEL}(?:\.{_LABEL}){{1,8}})", "@")
def _say_address(match: Match) -> str:
    """me@a.org. Nobody reads the scheme, `www`, a query or a fragment aloud."""
    address = match[0].rstrip(_CLOSING)
    closing = match[0][len(address) :]
    address = re.split("[?#]", re.sub(_SCHEME, "", address, count=1), maxsplit=1)[0].rstrip("/")
    host, slash, path = address.removeprefix("www.").partition("/")
    name, dot, ending = host.rpartition(".")
    if dot and len(ending) <= 3 and ending.isalpha():
        low = ending.lower()
        host = f"{name}.{low if low in _SPOKEN_ENDINGS else ' '.join(ending.upper())}"
    spoken = re.sub("%[0-9A-Fa-f]{2}", " ", host + slash + path)
    parts = (_SIGNS.get(part, part) for part in _SIGN.split(spoken))
    return " " + " ".join(parts) + closing


read.add(r"\(\)", "", "[.:]")
read.add(rf"(?<!\w)(?:{_SCHEME}|(?i:www\.))[^\s<>\"|]++", _say_address, r":\w|://|[wW]\.")
read.add(
    rf"""(?x)
    (?<![\w.@/-])(?:[A-Za-z0-9-]{{1,63}}+\.){{1,6}}
    (?:{_ENDINGS}|{_ENDINGS.upper()}|Com|Org|Net|Edu|Gov|[a-z]{{2,12}}(?=/\w))(?![\w@-])(?!\.\w)
    (?::\d{{1,5}}+)?(?:/[^\s<>\"|]*+)?""",
    _say_address,
    r"\.[^\W\d]",
)


@read.rule(r"(?<=[\w)\]])\.(?=[^\W\d])|(?<![\w.])\.(?=[a-z]{2}|[A-Z]{2,}\b)", r"\.[^\W\d]")
def _say_point(match: Match) -> str:
    """A point is `dot` where it joins names: before a small letter, capitals or a call. It stays a
    stop where only the space behind it is missing (`end.Next`), and in abbreviations."""
    before, after = text_before(match, 40), text_after(match, 40)
    name, word = re.findall(r"\w*$", before)[0], re.findall(r"\w+", after)[0]
    if f"{name}." in ABBREVIATIONS or name in TITLES or _INITIALS_BEFORE.search(before):
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
read.add(  # #NewYear
    r"(?<![\w&#])#(?=[^\W\d_])(\w{1,64})",
    lambda m: "hashtag " + re.sub("(?<=[a-z])(?=[A-Z])", " ", m[1]),
    "#",
)
read.add(r"(?<![\w@])@(?=\w)", "at ", "@")
