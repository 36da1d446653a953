"""Streaming parser for multipart forms (RFC 7578).

Fields stay in memory. The one accepted file stays in memory while it is small, then moves to disk.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from functools import partial
from tempfile import SpooledTemporaryFile
from urllib.parse import unquote_to_bytes

from chatterbox.errors import (
    BodyTooLarge,
    InvalidBody,
    InvalidValue,
    StorageFull,
    UnknownField,
    UnsupportedMediaType,
    excerpt,
)
from chatterbox.server.admission_control import ByteBudget, Take

MAX_BOUNDARY_BYTES = 256
"""RFC 2046 allows 70; some clients use a few more."""
MAX_HEAD_BYTES = 8 * 1024
"""Limit for the headers of one part, which hold the names of the field and the file."""
_PADDING_BYTES = 64
_PLAIN_ENCODINGS = (b"", b"7bit", b"8bit", b"binary")
UTF8, LATIN1 = "utf-8", "latin-1"
_CHARSETS = {"utf8": UTF8, "usascii": UTF8, "ascii": UTF8, "iso88591": LATIN1, "latin1": LATIN1}
"""Accepted charset labels, without dashes. Some of Python's codecs take seconds for one field."""
_OPTION = re.compile(
    rb';[ \t]*(?:([\w!#$%&\'*+.^`|~-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]*))[ \t]*)?',
    re.DOTALL,
)
_ESCAPED = re.compile(rb'\\(["\\])')
MAX_PARTS = 32
"""Limit for the fields, and for the files, of one form: twice the fields of any call here."""
CHARSET_FIELD = "_charset_"
"""HTML's form field that names the encoding of all other fields."""
IN_MEMORY_BYTES = 64 * 1024
"""A file moves from memory to disk at this size."""


def codec_name(label: bytes) -> str:
    """Return Python's name of UTF-8, ASCII or Latin-1. Raises UnsupportedMediaType for others."""
    word = label.decode("latin-1").lower().replace("-", "").replace("_", "")
    if word not in _CHARSETS:
        raise UnsupportedMediaType("This charset is not supported; send text as UTF-8.")
    return _CHARSETS[word]


def decode_text(data: bytes | bytearray, charset: str) -> str:
    """Decode text. Bytes that are not UTF-8 come from old clients, and are read as Latin-1."""
    try:
        return data.decode(charset)
    except UnicodeDecodeError:
        return data.decode(LATIN1)


def parse_header(value: bytes) -> tuple[str, dict[bytes, bytes]]:
    """Split a header such as `form-data; name="x"` into value and options. Raises InvalidBody."""
    kind = value.partition(b";")[0]
    at = len(kind)
    options: dict[bytes, bytes] = {}
    while at < len(value):
        match = _OPTION.match(value, at)
        if match is None:
            raise InvalidBody("A Content-Type or Content-Disposition header cannot be read.")
        at = match.end()
        if match[1] is not None:
            option = match[3] if match[2] is None else _ESCAPED.sub(rb"\1", match[2])
            options.setdefault(match[1].lower(), option)
    return kind.strip().lower().decode("latin-1"), options


@dataclass(frozen=True, slots=True)
class PartHead:
    """The parsed headers of one part."""

    name: bytes
    filename: bytes | None  # None: the part is a field, not a file
    charset: str | None  # None: not declared


class MultipartParser:
    """Splits a body into part heads and content while it arrives."""

    def __init__(self, boundary: bytes) -> None:
        if not 1 <= len(boundary) <= MAX_BOUNDARY_BYTES:
            raise InvalidBody("The multipart body has no boundary, or one that is too long.")
        self.is_complete = False  # the last boundary has arrived
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # so that the first boundary is like all others
        self._events = self._parse()

    def feed(self, data: bytes) -> Iterator[PartHead | bytes]:
        """Yield the head of each part, then its content in pieces. Bytes before the first part
        are yielded too. Raises InvalidBody and UnsupportedMediaType."""
        if not self.is_complete:
            self._buffer += data
            yield from iter(partial(next, self._events), None)

    def _parse(self) -> Iterator[PartHead | bytes | None]:
        """Yield heads and content, and None when more data is needed."""
        buffer = self._buffer
        while True:
            while (at := buffer.find(self._delimiter)) < 0:
                content_bytes = len(buffer) - len(self._delimiter) + 1
                if content_bytes > 0:
                    yield self._take(content_bytes)
                yield None
            yield self._take(at, len(self._delimiter))
            while not buffer.startswith(b"--"):
                if (end := buffer.find(b"\r\n", 0, _PADDING_BYTES)) >= 0:
                    break
                self._check_length(_PADDING_BYTES)
                yield None
            else:
                self.is_complete = True
                return
            if self._take(end).strip(b" \t"):
                raise InvalidBody("The multipart body cannot be read: text follows a boundary.")
            while (end := buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)) < 0:
                self._check_length(MAX_HEAD_BYTES)
                yield None
            yield _parse_head(self._take(end, 4))

    def _take(self, count: int, skip: int = 0) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[: count + skip]
        return taken

    def _check_length(self, limit: int) -> None:
        if len(self._buffer) >= limit:
            raise InvalidBody("The multipart body cannot be read: the head of a part is too long.")


def _parse_head(head: bytes) -> PartHead:
    headers = {}
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    if headers.get(b"content-transfer-encoding", b"").lower() not in _PLAIN_ENCODINGS:
        raise UnsupportedMediaType("Send the parts of a form without a transfer encoding.")
    kind, options = parse_header(headers.get(b"content-disposition", b""))
    if kind != "form-data" or b"name" not in options:
        raise InvalidBody('A part of the form has no Content-Disposition with a "name".')
    filename = options.get(b"filename")
    if (extended := options.get(b"filename*")) is not None:  # RFC 8187
        label, _, rest = extended.partition(b"'")
        plain = unquote_to_bytes(rest.partition(b"'")[2])
        plain = decode_text(plain, codec_name(label)).encode("utf-8")
        filename = plain if filename is None else filename
    charset = None
    if filename is None:
        declared = parse_header(headers.get(b"content-type", b""))[1].get(b"charset")
        charset = None if declared is None else codec_name(declared)
    return PartHead(options[b"name"], filename, charset)


@dataclass(frozen=True, slots=True)
class FileField:
    """The file that a call accepts."""

    name: str
    max_bytes: int
    place: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    """Entered at the file's first byte and left when the file is closed."""
    allow_repeated: bool = False
    """Accept several files of this name, and use the first."""


class Upload:
    """The contents of an accepted file."""

    def __init__(
        self, filename: str, field: FileField, disk: ByteBudget, resources: AsyncExitStack
    ) -> None:
        self.filename = filename
        self.size = 0
        self.transcript: str | None = None  # the words of a recording
        self._field = field
        self._resources = resources
        self._take = resources.enter_context(disk.reservation())
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - see `close`
        resources.push_async_callback(asyncio.to_thread, self._discard)

    async def write(self, data: bytes) -> None:
        """Append to the file. Raises BodyTooLarge and StorageFull."""
        self.size += len(data)
        if self.size > self._field.max_bytes:
            name, limit = self._field.name, self._field.max_bytes
            raise BodyTooLarge(f"'{name}' is larger than {limit} bytes.", param=name)
        self._take(len(data))
        with _storage_errors():
            if self.size > IN_MEMORY_BYTES:
                await asyncio.to_thread(self._file.write, data)
            else:
                self._file.write(data)

    def read(self) -> bytes:
        """Return the whole file; blocks. Raises InvalidValue if it is empty."""
        with self._content() as file:
            return file.read()

    def sha256(self) -> str:
        """Return the hex SHA-256 without loading the whole file (FAULTS F100). Raises as `read`."""
        with self._content() as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    async def close(self) -> None:
        """Delete the file, and release its bytes and its place. Repeated calls do nothing."""
        await self._resources.aclose()

    @contextmanager
    def _content(self) -> Iterator["SpooledTemporaryFile[bytes]"]:
        if not self.size:
            raise InvalidValue(f"'{self._field.name}' is empty.", param=self._field.name)
        with _storage_errors():
            self._file.seek(0)
            yield self._file

    def _discard(self) -> None:
        with suppress(OSError):  # a failed flush loses nothing that is needed
            self._file.close()


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Turn OSError into StorageFull."""
    try:
        yield
    except OSError:
        raise StorageFull("There is no room to store the upload; try again later.") from None


class MultipartForm:
    """Collects a multipart form while it arrives. `resources` closes the form's file."""

    def __init__(
        self,
        boundary: bytes,
        fields_bytes: int,
        file: FileField | None,
        take: Take,
        disk: ByteBudget,
        resources: AsyncExitStack,
    ) -> None:
        self.upload: Upload | None = None
        self.file_names: list[str] = []  # of all files, accepted or not
        self._parser = MultipartParser(boundary)
        self._file, self._take, self._disk, self._resources = file, take, disk, resources
        self._fields: list[tuple[PartHead, bytearray]] = []
        self._left_bytes = self._fields_bytes = fields_bytes
        # Takes the current part's content; None: the content is skipped.
        self._add: Callable[[bytes], Awaitable[None]] | None = None

    async def feed(self, chunk: bytes) -> None:
        """Parse the next bytes. Raises InvalidBody, UnsupportedMediaType, UnknownField,
        BodyTooLarge, Overloaded, StorageFull, and the errors of `FileField.place`."""
        for event in self._parser.feed(chunk):
            if isinstance(event, PartHead):
                await self._begin(event)
            elif self._add is not None:
                await self._add(event)

    def fields(self, charset: str) -> list[tuple[str, str]]:
        """Return names and texts of a complete body. Raises InvalidBody, UnsupportedMediaType."""
        if not self._parser.is_complete:
            raise InvalidBody("The multipart body ends too early.")
        name = CHARSET_FIELD.encode()
        declared = (bytes(data) for head, data in self._fields if head.name == name)
        charset = codec_name(next(declared, charset.encode("ascii")))
        return [
            (decode_text(head.name, charset), decode_text(data, head.charset or charset))
            for head, data in self._fields
            if head.name != name
        ]

    async def _begin(self, head: PartHead) -> None:
        if head.filename is None:
            if len(self._fields) == MAX_PARTS:
                raise InvalidBody(f"The form has more than {MAX_PARTS} fields.")
            self._fields.append((head, bytearray()))
            self._add = self._add_to_field
            return
        file, name = self._file, decode_text(head.name, UTF8)
        if file is None:
            raise UnknownField(
                "This call takes no files. Register a recording with POST /voices/register, and "
                "request the voice by its name.",
                param=excerpt(name),
            )
        if len(self.file_names) == MAX_PARTS:
            raise InvalidBody("The form has too many files.")
        self.file_names.append(name)
        self._add = None
        if name == file.name and self.upload is None:
            resources = await self._resources.enter_async_context(AsyncExitStack())
            await resources.enter_async_context(file.place())
            self.upload = Upload(decode_text(head.filename, UTF8), file, self._disk, resources)
            self._add = self.upload.write

    async def _add_to_field(self, data: bytes) -> None:
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise BodyTooLarge(f"The fields are larger than {self._fields_bytes} bytes.")
        self._take(len(data))
        self._fields[-1][1].extend(data)
