"""A streaming parser of multipart forms (RFC 7578): passes parts on as they come, keeps none."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from chatterbox.errors import InvalidBody, UnsupportedMediaType

MAX_BOUNDARY_BYTES = 256
"""RFC 2046 allows 70; some clients take a few more."""
MAX_HEAD_BYTES = 8 * 1024
"""The headers of one part: a name and a file's name."""
_PADDING_BYTES = 64
_PLAIN_ENCODINGS = (b"", b"7bit", b"8bit", b"binary")
UTF8, LATIN1 = "utf-8", "latin-1"
_CHARSETS = {"utf8": UTF8, "usascii": UTF8, "ascii": UTF8, "iso88591": LATIN1, "latin1": LATIN1}
"""Labels without their dashes. Python knows some hundred more; some of them take seconds for the
text of one field."""
_OPTION = re.compile(
    rb';[ \t]*(?:([\w!#$%&\'*+.^`|~-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]*))[ \t]*)?',
    re.DOTALL,
)
_ESCAPED = re.compile(rb'\\(["\\])')
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")


def charset_of(label: bytes) -> str:
    """The codec of UTF-8, ASCII or Latin-1. Raises UnsupportedMediaType for any other label."""
    word = label.decode("latin-1").lower().replace("-", "").replace("_", "")
    if word not in _CHARSETS:
        raise UnsupportedMediaType("Text is read as UTF-8 here; send it in that encoding.")
    return _CHARSETS[word]


def text_of(data: bytes | bytearray, charset: str) -> str:
    """The text. What is not UTF-8 comes from an old client, and is Latin-1."""
    try:
        return data.decode(charset)
    except UnicodeDecodeError:
        return data.decode(LATIN1)


def header_options(value: bytes) -> tuple[str, dict[bytes, bytes]]:
    """A header such as `form-data; name="x"` as its first word and its options. Raises InvalidBody
    for one that cannot be read."""
    kind = value.partition(b";")[0]
    at = len(kind)
    options: dict[bytes, bytes] = {}
    while at < len(value):
        found = _OPTION.match(value, at)
        if found is None:
            raise InvalidBody("A Content-Type or Content-Disposition header cannot be read.")
        at = found.end()
        if found[1] is not None:
            given = found[3] if found[2] is None else _ESCAPED.sub(rb"\1", found[2])
            options.setdefault(found[1].lower(), given)
    return kind.strip().lower().decode("latin-1"), options


@dataclass(frozen=True, slots=True)
class Part:
    """The head of one part. `filename` None: it is a field; `charset` None: it names none."""

    name: bytes
    filename: bytes | None
    charset: str | None


class Splitter:
    """Takes a body as it comes and tells its parts."""

    def __init__(self, boundary: bytes) -> None:
        if not 1 <= len(boundary) <= MAX_BOUNDARY_BYTES:
            raise InvalidBody("The multipart body has no boundary, or one that is too long.")
        self.done = False  # the last boundary has come
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # so that the first boundary is like the others
        self._found = self._parse()

    def feed(self, data: bytes) -> Iterator[Part | bytes]:
        """The head of each part, then its content in pieces. What stands before the first part
        comes as content too. Raises InvalidBody and UnsupportedMediaType."""
        if not self.done:
            self._buffer += data
            yield from iter(partial(next, self._found), None)

    def _parse(self) -> Iterator[Part | bytes | None]:
        """None where more must come first."""
        buffer = self._buffer
        while True:
            while (at := buffer.find(self._delimiter)) < 0:
                sure = len(buffer) - len(self._delimiter) + 1
                if sure > 0:
                    yield self._take(sure)
                yield None
            yield self._take(at, len(self._delimiter))
            while not buffer.startswith(b"--"):
                if (end := buffer.find(b"\r\n", 0, _PADDING_BYTES)) >= 0:
                    break
                self._check_length(_PADDING_BYTES)
                yield None
            else:
                self.done = True
                return
            if self._take(end).strip(b" \t"):
                raise InvalidBody("The multipart body cannot be read: a boundary has no end.")
            while (end := buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)) < 0:
                self._check_length(MAX_HEAD_BYTES)
                yield None
            yield _part(self._take(end, 4))

    def _take(self, count: int, skip: int = 0) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[: count + skip]
        return taken

    def _check_length(self, most: int) -> None:
        if len(self._buffer) >= most:
            raise InvalidBody("The multipart body cannot be read: the head of a part is too long.")


def _part(head: bytes) -> Part:
    headers = {}
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    if headers.get(b"content-transfer-encoding", b"").lower() not in _PLAIN_ENCODINGS:
        raise UnsupportedMediaType("Parts of a form are sent as they are, not encoded.")
    kind, options = header_options(headers.get(b"content-disposition", b""))
    if kind != "form-data" or b"name" not in options:
        raise InvalidBody('A part of the form has no Content-Disposition with a "name".')
    filename = options.get(b"filename")
    if b"filename*" in options:
        extended = _extended(options[b"filename*"])
        filename = extended if filename is None else filename
    charset = None
    if filename is None:
        label = header_options(headers.get(b"content-type", b""))[1].get(b"charset")
        charset = None if label is None else charset_of(label)
    return Part(options[b"name"], filename, charset)


def _extended(value: bytes) -> bytes:
    """RFC 8187: `UTF-8''percent-encoded`, as UTF-8."""
    label, _, rest = value.partition(b"'")
    encoded = rest.partition(b"'")[2]
    plain = _PERCENT.sub(lambda found: bytes.fromhex(found[1].decode("ascii")), encoded)
    return text_of(plain, charset_of(label)).encode("utf-8")
