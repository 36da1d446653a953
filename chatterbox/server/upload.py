"""Multipart forms: their fields in memory, one file there while it is small, else on disk."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile

from chatterbox.errors import (
    BodyTooLarge,
    InvalidBody,
    InvalidValue,
    StorageFull,
    UnknownField,
    shown,
)
from chatterbox.server.admission_control import Room, Take
from chatterbox.server.multipart import UTF8, Part, Splitter, charset_of, text_of

MAX_PARTS = 32
"""Fields, and files, of one form: twice the fields of any call here."""
MULTIPART_SLACK_BYTES = 64 * 1024
"""Boundaries, part headers and the other fields beside an upload."""
ESCAPED_CHAR_BYTES = 12
"""The longest way to send one character: a pair of JSON's `\\uXXXX` escapes."""
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


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Most bytes of all fields together, and the file that comes with them."""

    fields_bytes: int
    files: Files | None = None

    @classmethod
    def for_text(cls, chars: int, files: Files | None = None) -> "BodyLimits":
        """Room for a text of `chars` characters however it is escaped."""
        return cls(MULTIPART_SLACK_BYTES + ESCAPED_CHAR_BYTES * chars, files)


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
        self, boundary: bytes, limits: BodyLimits, take: Take, room: Room, held: AsyncExitStack
    ) -> None:
        self.upload: Upload | None = None  # the file that counts
        self.files: list[str] = []  # names of all that came
        self._splitter = Splitter(boundary)
        self._limits, self._take, self._room, self._held = limits, take, room, held
        self._fields: list[tuple[Part, bytearray]] = []
        self._fields_bytes = 0
        self._add: Callable[[bytes], Awaitable[None]] = self._drop  # where content belongs

    async def feed(self, chunk: bytes) -> None:
        """The next bytes. Raises what is wrong with them, and what `Files.place` raises."""
        for found in self._splitter.feed(chunk):
            await (self._begin(found) if isinstance(found, Part) else self._add(found))

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
        files, name = self._limits.files, text_of(part.name, UTF8)
        if files is None:
            raise UnknownField(
                "This call takes no files. Register a recording with POST /voices/register, and "
                "ask for the voice by its name.",
                param=shown(name),
            )
        if len(self.files) == MAX_PARTS:
            raise InvalidBody("The form has too many files.")
        self.files.append(name)
        self._add = self._drop
        if name == files.name and self.upload is None:
            own = await self._held.enter_async_context(AsyncExitStack())
            await own.enter_async_context(files.place())
            self.upload = Upload(text_of(part.filename, UTF8), files, self._room, own)
            self._add = self.upload.write

    async def _add_to_field(self, data: bytes) -> None:
        self._fields_bytes += len(data)
        if self._fields_bytes > self._limits.fields_bytes:
            raise BodyTooLarge(f"The fields are larger than {self._limits.fields_bytes} bytes.")
        self._take(len(data))
        self._fields[-1][1].extend(data)

    async def _drop(self, data: bytes) -> None:
        """Of a file that does not count, or of no part."""
