"""Voices for the event loop: looked up, taken in, changed and listed in threads and in the pool."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import PurePosixPath
from typing import Any, ParamSpec, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from chatterbox.config import ServerConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.errors import ChatterboxError, InvalidValue, StorageUnavailable, VoiceNotFound
from chatterbox.server.admission_control import AdmissionControl
from chatterbox.server.body import Body, BodyLimits, read_body, until_disconnect
from chatterbox.server.model_pool import ModelPool
from chatterbox.server.multipart import Files, Upload
from chatterbox.voices.library import VoiceLibrary
from chatterbox.voices.names import VoiceInfo

DEPTH = 2
"""So deep are lists and objects encoded element by element: each takes microseconds, and between
two of them other threads may go on. `json` would encode all of them in one go."""

LOOK_S = 1.0
"""A list waits no longer for a store that does not answer."""

AUDIO_SUFFIXES = (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".mp4", ".aac", ".webm")

Render = Callable[[list[VoiceInfo]], Any]


def as_json(value: Any) -> bytes:
    return "".join(_pieces(value, DEPTH)).encode()


def _pieces(value: Any, depth: int) -> Iterator[str]:
    if depth and value and isinstance(value, dict | list):
        named = isinstance(value, dict)
        comma = "{" if named else "["
        for key in value:
            yield f"{comma}{dumped(key)}:" if named else comma
            yield from _pieces(value[key] if named else key, depth - 1)
            comma = ","
        yield "}" if named else "]"
    else:
        yield dumped(value)


def dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


P = ParamSpec("P")
T = TypeVar("T")

FIELDS_BYTES = 64 * 1024
"""Room for a voice's name and the form around it."""


class VoiceService:
    """The voice library, whose calls all block, for handlers that must not. One for each server."""

    def __init__(
        self, models: ModelPool, config: ServerConfig, admission: AdmissionControl
    ) -> None:
        self.admission = admission
        self.max_bytes = config.max_voice_file_size
        self._models = models
        self._wait_s = config.first_audio_timeout_s
        self._lists: dict[str, tuple[list[VoiceInfo], bytes]] = {}  # encoded, by kind
        self._encoding = asyncio.Lock()

    @property
    def default_voice(self) -> str:
        """Who speaks where a call names nobody."""
        return self._models.engine.voices.default_voice

    @property
    def languages(self) -> tuple[str, ...]:
        """What the model speaks, as ISO 639-1. Raises NotReady."""
        return self._models.engine.family.languages

    @property
    def library(self) -> VoiceLibrary:
        """The voices themselves. Raises NotReady, Draining and EngineDead."""
        self.admission.lifecycle.check_open()
        return self._models.engine.voices

    def resolve(self, name: str) -> str:
        """Return the id of the voice with this id, name or alias; the name may be that of an audio
        file. Raises VoiceNotFound."""
        try:
            return self.library.info(name).voice_id
        except VoiceNotFound:
            path = PurePosixPath(name.replace("\\", "/"))
            if path.suffix.lower() not in AUDIO_SUFFIXES:
                raise
        return self.library.info(path.stem).voice_id

    async def listed(self) -> list[VoiceInfo]:
        """All voices: the built-in ones, then the others from old to new."""
        self.admission.lifecycle.check_open()
        async with self._models.known():
            if self.library.shared:  # another server, or model, may have registered voices
                with suppress(StorageUnavailable, TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._models.fresh.look()
            return await self.ask(self.library.list)

    async def list_body(self, kind: str, render: Render) -> bytes:
        """`render` of all voices as JSON; from memory where it was made of the same voices before.
        `kind`: equal ones are rendered alike."""
        voices = await self.listed()
        async with self._encoding:
            kept, body = self._lists.get(kind, (None, b""))
            if kept != voices:  # quick: equal ones are the same objects
                body = await asyncio.to_thread(lambda: as_json(render(voices)))
                self._lists[kind] = voices, body
        return body

    async def list_answer(self, kind: str, render: Render) -> Response:
        """As `list_body`, to be sent."""
        return Response(await self.list_body(kind, render), media_type="application/json")

    async def info(self, voice: str) -> VoiceInfo:
        """One voice, by id, name or alias. Raises VoiceNotFound."""
        async with self._models.known():
            return await self.ask(self.library.info, voice)

    async def register(self, upload: Upload, name: str | None) -> tuple[VoiceInfo, bool]:
        """A recording becomes a voice that is ready to speak; and whether it is new."""

        def taken_in(engine: TTSEngine) -> tuple[VoiceInfo, bool]:
            voices = engine.voices
            info, created = voices.register(upload.read(), name, upload.transcript)
            with suppress(ChatterboxError):  # it is stored, whatever has become of it or the engine
                engine.warm(voices.get(info.voice_id))
            return info, created

        return await self.work(taken_in)

    async def hashed(self, upload: Upload) -> str:
        """The SHA-256 of a file that is not kept."""
        return await self.work(lambda _engine: upload.sha256())

    async def delete(self, voice: str) -> VoiceInfo:
        """Forget a voice; what is being spoken with it goes on."""
        info = await self.info(voice)
        await self.ask(self.library.delete, info.voice_id)
        return info

    async def ask(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """A library call that may touch the disk, but not the model; it may be made twice."""
        return await self._models.fresh.found(lambda: asyncio.to_thread(call, *args, **kwargs))

    def read_body(
        self, request: Request, limits: BodyLimits | None = None
    ) -> AbstractAsyncContextManager[Body]:
        """See `body.read_body`; without `limits`, a voice's name and the form around it."""
        return read_body(request, limits or BodyLimits(FIELDS_BYTES), self.admission)

    async def work(self, call: Callable[[TTSEngine], T]) -> T:
        """What `call` makes with the engine that works on recordings. It may take long, or run the
        speech encoder, so it holds a place, as speech does; in the pool, so that no more files are
        in memory than that has threads. Raises what `Lifecycle.check_open`, `ModelPool.lease` and
        `AdmissionControl.place` do."""
        self.admission.lifecycle.check_open()
        with self._models.cloning():
            async with self._models.lease(self._wait_s) as engine, self.admission.place():
                return await asyncio.wrap_future(engine.pool.submit(call, engine))


async def answer_upload(
    request: Request,
    voices: VoiceService,
    file: str,
    work: Callable[[Body, Upload], Awaitable[Response]],
    *,
    check: Callable[[Body], object] | None = None,
    deterministic: bool = False,
    most_bytes: int | None = None,
) -> Response:
    """Take in a form, look at it with `check`, and hand it and its file to `work`; when the client
    leaves, whatever has not begun is not done. `most_bytes`: of the file, where that is less than
    of a recording."""
    admission, most = voices.admission, min(voices.max_bytes, most_bytes or voices.max_bytes)
    await admission.check_room()
    files = Files(file, most, admission.upload_place, deterministic)
    async with voices.read_body(request, BodyLimits(FIELDS_BYTES, files)) as body:
        if check is not None:
            check(body)
        if body.file is None:
            raise InvalidValue(f"'{file}' is required: send it as a multipart file.", param=file)
        return await until_disconnect(request.receive, work(body, body.file))
