"""Multipart forms (RFC 7578), parsed as they come: fields are kept in memory, one file there while
it is small, else on disk."""

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
from chatterbox.server.admission_control import Room, Take

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
    if (extended := options.get(b"filename*")) is not None:  # RFC 8187
        word, _, rest = extended.partition(b"'")
        plain = unquote_to_bytes(rest.partition(b"'")[2])
        plain = text_of(plain, charset_of(word)).encode("utf-8")
        filename = plain if filename is None else filename
    charset = None
    if filename is None:
        label = header_options(headers.get(b"content-type", b""))[1].get(b"charset")
        charset = None if label is None else charset_of(label)
    return Part(options[b"name"], filename, charset)


MAX_PARTS = 32
"""Fields, and files, of one form: twice the fields of any call here."""
CHARSET_FIELD = "_charset_"
"""HTML's field that names the encoding of all others."""
IN_MEMORY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Files:
    """Which file a call takes, up to which size. `place` is held from the file's first byte until
    it is closed. `deterministic`: of several the first counts."""

    name: str
    limit_bytes: int
    place: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    deterministic: bool = False


class Upload:
    """One file, which `files` says is wanted. Closing it gives back its bytes, and whatever is held
    for it."""

    def __init__(self, filename: str, files: Files, room: Room, held: AsyncExitStack) -> None:
        self.filename = filename
        self.size = 0
        self.transcript: str | None = None  # what is said in it
        self._files = files
        self._held = held
        self._take = held.enter_context(room.held())
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - see `held`
        held.push_async_callback(asyncio.to_thread, self._discard)

    async def write(self, data: bytes) -> None:
        """Add to it. Raises BodyTooLarge and StorageFull."""
        self.size += len(data)
        if self.size > self._files.limit_bytes:
            name, limit = self._files.name, self._files.limit_bytes
            raise BodyTooLarge(f"'{name}' is larger than {limit} bytes.", param=name)
        self._take(len(data))
        with _storage():
            if self.size > IN_MEMORY_BYTES:
                await asyncio.to_thread(self._file.write, data)
            else:
                self._file.write(data)

    def read(self) -> bytes:
        """All of it; blocks. Raises InvalidValue where there is nothing."""
        with self._content() as file:
            return file.read()

    def sha256(self) -> str:
        """Its digest, block by block; blocks. Raises as `read` does."""
        with self._content() as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    async def close(self) -> None:
        """It is not needed any more. May be called again."""
        await self._held.aclose()

    @contextmanager
    def _content(self) -> Iterator["SpooledTemporaryFile[bytes]"]:
        if not self.size:
            raise InvalidValue(f"'{self._files.name}' is empty.", param=self._files.name)
        with _storage():
            self._file.seek(0)
            yield self._file

    def _discard(self) -> None:
        with suppress(OSError):  # what could not be written is not missed
            self._file.close()


@contextmanager
def _storage() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise StorageFull("There is no room to take in the upload.") from None


class Form:
    """One multipart form while it is read."""

    def __init__(
        self,
        boundary: bytes,
        fields_bytes: int,
        files: Files | None,
        take: Take,
        room: Room,
        held: AsyncExitStack,
    ) -> None:
        self.upload: Upload | None = None  # the file that counts
        self.files: list[str] = []  # names of all that came
        self._splitter = Splitter(boundary)
        self._files, self._take, self._room, self._held = files, take, room, held
        self._fields: list[tuple[Part, bytearray]] = []
        self._left_bytes = self._fields_bytes = fields_bytes
        # Where content belongs; None: to no part, or to a file that does not count.
        self._add: Callable[[bytes], Awaitable[None]] | None = None

    async def feed(self, chunk: bytes) -> None:
        """The next bytes. Raises what is wrong with them, and what `Files.place` raises."""
        for found in self._splitter.feed(chunk):
            if isinstance(found, Part):
                await self._begin(found)
            elif self._add is not None:
                await self._add(found)

    def fields(self, charset: str) -> list[tuple[str, str]]:
        """Names and texts, once all has come. Raises InvalidBody and UnsupportedMediaType."""
        if not self._splitter.done:
            raise InvalidBody("The multipart body ends too early.")
        name = CHARSET_FIELD.encode()
        stated = (bytes(data) for part, data in self._fields if part.name == name)
        charset = charset_of(next(stated, charset.encode("ascii")))
        return [
            (text_of(part.name, charset), text_of(data, part.charset or charset))
            for part, data in self._fields
            if part.name != name
        ]

    async def _begin(self, part: Part) -> None:
        if part.filename is None:
            if len(self._fields) == MAX_PARTS:
                raise InvalidBody(f"The form has more than {MAX_PARTS} fields.")
            self._fields.append((part, bytearray()))
            self._add = self._add_to_field
            return
        files, name = self._files, text_of(part.name, UTF8)
        if files is None:
            raise UnknownField(
                "This call takes no files. Register a recording with POST /voices/register, and "
                "ask for the voice by its name.",
                param=excerpt(name),
            )
        if len(self.files) == MAX_PARTS:
            raise InvalidBody("The form has too many files.")
        self.files.append(name)
        self._add = None
        if name == files.name and self.upload is None:
            own = await self._held.enter_async_context(AsyncExitStack())
            await own.enter_async_context(files.place())
            self.upload = Upload(text_of(part.filename, UTF8), files, self._room, own)
            self._add = self.upload.write

    async def _add_to_field(self, data: bytes) -> None:
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise BodyTooLarge(f"The fields are larger than {self._fields_bytes} bytes.")
        self._take(len(data))
        self._fields[-1][1].extend(data)
