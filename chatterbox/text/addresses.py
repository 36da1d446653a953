"""How are web and mail addresses, file names, handles and hashtags read?

Knows no figures: digits inside an address are left to the steps that follow.
"""

import re

from chatterbox.text.lexicon import listed

_LANDS = "uk|us|eu|de|fr|es|nl|ch|se|dk|fi|pl|pt|ie|ca|au|nz|jp|cn|kr|br|mx|ru|za"
_ENDINGS = (
    "com|org|net|edu|gov|mil|int|info|biz|io|ai|app|dev|xyz|tech|cloud|online|site|store|blog|tv|"
    "co|me|" + _LANDS
)
"""Endings by which a bare `name.ending` is known as an address; others need `http` or `www`."""
_FILES = (
    "txt|pdf|docx?|xlsx?|pptx?|csv|json|xml|html?|css|js|ts|py|rs|java|cpp|sh|exe|dll|zip|tar|gz|"
    "mp3|mp4|wav|flac|ogg|jpe?g|png|gif|svg|webp|md|ya?ml|toml|ini|cfg|conf|log|bin|iso|onnx|srt|"
    "epub|tex|db|sql|bak|tmp"
)
_WORDS = listed("com org net edu gov mil int info biz app dev co me")
"""Endings of up to three letters that are said as words; others are spelled: `io`, `uk`, `xyz`."""

_LABEL = r"[A-Za-z0-9][\w-]{0,62}"
_MAIL = re.compile(
    rf"(?<![\w.+%-])(?:mailto:)?[\w.+%-]{{1,64}}+@{_LABEL}(?:\.{_LABEL}){{1,8}}", re.ASCII
)
_SCHEME = re.compile(r"(?:https?|ftps?|wss?|file|mailto):(?://)?(?=\w)", re.I)
_URL = re.compile(rf"(?<!\w)(?:{_SCHEME.pattern}|www\.)[^\s<>\"|]++", re.I)
_BARE = re.compile(
    rf"(?<![\w.@/-])(?:[A-Za-z0-9-]{{1,63}}+\.){{1,6}}(?:{_ENDINGS})(?![\w@-])(?!\.\w)"
    r"(?::\d{1,5}+)?(?:/[^\s<>\"|]*+)?"
)
_FILE = re.compile(rf"(?<=[\w)])\.(?=(?:{_FILES}|{_ENDINGS})\b)|(?<![\w.])\.(?=[A-Za-z]{{2}})")
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
    if "." in text or ":" in text:
        text = _FILE.sub(" dot ", _BARE.sub(_say, _URL.sub(_say, text)))
    if "#" in text:
        text = _DIRECTIVE.sub("hash ", text)
        text = _HASHTAG.sub(lambda m: "hashtag " + _HUMP.sub(" ", m[1]), text)
    return _HANDLE.sub("at ", text) if "@" in text else text


def _say(match: re.Match[str]) -> str:
    """Host and path sign by sign. Nobody reads the scheme, `www`, a query or a fragment aloud."""
    address = match[0].rstrip(_CLOSING)
    closing = match[0][len(address) :]
    address = re.split("[?#]", _SCHEME.sub("", address, count=1), maxsplit=1)[0].rstrip("/")
    host, slash, path = address.removeprefix("www.").partition("/")
    name, dot, ending = host.rpartition(".")
    if dot and len(ending) <= 3 and ending.isalpha() and ending not in _WORDS:
        host = name + dot + " ".join(ending.upper())
    spoken = _ESCAPED.sub(" ", host + slash + path)
    parts = (_SIGNS.get(part, part) for part in _SIGN.split(spoken))
    return " " + " ".join(parts) + closing
