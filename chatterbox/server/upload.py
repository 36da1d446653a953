"""Uploaded files: in memory while small, else on disk."""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from tempfile import SpooledTemporaryFile

from chatterbox.errors import BodyTooLarge, InvalidValue, StorageFull
from chatterbox.server.admission_control import Room

IN_MEMORY_BYTES = 64 * 1024
BLOCK_BYTES = 1024 * 1024


class Upload:
    """One file. Closing it gives back its bytes, and whatever is held for it."""

    def __init__(self, filename: str, room: Room, held: AsyncExitStack) -> None:
        self.filename = filename
        self.size = 0
        self.transcript: str | None = None  # what is said in it
        self._held = held
        self._take = held.enter_context(room.held())
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - see `held`
        held.push_async_callback(asyncio.to_thread, self._discard)

    async def write(self, data: bytes) -> None:
        """Add to it. Raises StorageFull."""
        self._take(len(data))
        self.size += len(data)
        with _storage():
            if self.size > IN_MEMORY_BYTES:
                await asyncio.to_thread(self._file.write, data)
            else:
                self._file.write(data)

    def read(self, param: str, limit_bytes: int) -> bytes:
        """All of it; blocks. Raises BodyTooLarge and InvalidValue (no bytes)."""
        self._check(param, limit_bytes)
        with _storage():
            self._file.seek(0)
            return self._file.read()

    def sha256(self, param: str, limit_bytes: int) -> str:
        """Its digest, block by block; blocks. Raises as `read` does."""
        self._check(param, limit_bytes)
        digest = hashlib.sha256()
        with _storage():
            self._file.seek(0)
            while block := self._file.read(BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    async def close(self) -> None:
        """It is not needed any more. May be called again."""
        await self._held.aclose()

    def _check(self, param: str, limit_bytes: int) -> None:
        if self.size > limit_bytes:
            raise BodyTooLarge(f"'{param}' is larger than {limit_bytes} bytes.", param=param)
        if not self.size:
            raise InvalidValue(f"'{param}' is empty.", param=param)

    def _discard(self) -> None:
        with suppress(OSError):  # what could not be written is not missed
            self._file.close()


@contextmanager
def _storage() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise StorageFull("There is no room to take in the upload.") from None
