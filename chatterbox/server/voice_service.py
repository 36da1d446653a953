"""Asynchronous access to the voice library, whose calls block."""

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
from chatterbox.server.multipart import FileField, Upload
from chatterbox.voices.library import VoiceLibrary
from chatterbox.voices.names import VoiceInfo

JSON_DEPTH = 2
"""Lists and objects down to this depth are encoded element by element, so that other threads run
in between. One `json.dumps` of the whole list would hold the interpreter's lock."""
REFRESH_TIMEOUT_S = 1.0
"""Longest time that a list of voices waits for the shared store."""
FIELDS_BYTES = 64 * 1024
"""Limit for the fields of calls that take a voice's name or a file."""
AUDIO_SUFFIXES = (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".mp4", ".aac", ".webm")

Render = Callable[[list[VoiceInfo]], Any]
P = ParamSpec("P")
T = TypeVar("T")


def to_json(value: Any) -> bytes:
    """Encode a value without blocking other threads for long; see JSON_DEPTH."""
    return "".join(_pieces(value, JSON_DEPTH)).encode()


def _pieces(value: Any, depth: int) -> Iterator[str]:
    if depth and value and isinstance(value, dict | list):
        is_dict = isinstance(value, dict)
        separator = "{" if is_dict else "["
        for key in value:
            yield f"{separator}{dump(key)}:" if is_dict else separator
            yield from _pieces(value[key] if is_dict else key, depth - 1)
            separator = ","
        yield "}" if is_dict else "]"
    else:
        yield dump(value)


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class VoiceService:
    """The voice library for request handlers, which must not block. One per server."""

    def __init__(
        self, models: ModelPool, config: ServerConfig, admission: AdmissionControl
    ) -> None:
        self.admission = admission
        self.max_bytes = config.max_voice_file_size
        self._models = models
        self._wait_s = config.first_audio_timeout_s
        self._lists: dict[str, tuple[list[VoiceInfo], bytes]] = {}  # by kind
        self._encoding = asyncio.Lock()

    @property
    def default_voice(self) -> str:
        """Name of the voice used if a request names no voice."""
        return self._models.engine.voices.default_voice

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes of the current model's languages. Raises NotReady."""
        return self._models.engine.family.languages

    @property
    def library(self) -> VoiceLibrary:
        """The current model's voice library. Raises NotReady, Draining and EngineDead."""
        self.admission.lifecycle.check_open()
        return self._models.engine.voices

    def resolve(self, name: str) -> str:
        """Return the id of the voice with this id, name or alias. If there is none, directories and
        an audio file's suffix are removed from the name. Raises VoiceNotFound."""
        try:
            return self.library.info(name).voice_id
        except VoiceNotFound:
            path = PurePosixPath(name.replace("\\", "/"))
            if path.suffix.lower() not in AUDIO_SUFFIXES:
                raise
        return self.library.info(path.stem).voice_id

    async def list_all(self) -> list[VoiceInfo]:
        """Return the built-in voices, then registered voices from oldest to newest."""
        self.admission.lifecycle.check_open()
        async with self._models.ensure_engine():
            if self.library.shared:  # another server, or model, may have registered voices
                with suppress(StorageUnavailable, TimeoutError):
                    async with asyncio.timeout(REFRESH_TIMEOUT_S):
                        await self._models.voice_refresher.refresh()
            return await self.run(self.library.list)

    async def list_json(self, kind: str, render: Render) -> bytes:
        """Return `render(all voices)` as JSON, cached under `kind` until the voices change."""
        voices = await self.list_all()
        async with self._encoding:
            cached_voices, body = self._lists.get(kind, (None, b""))
            if cached_voices != voices:  # fast: equal lists hold the same objects
                body = await asyncio.to_thread(lambda: to_json(render(voices)))
                self._lists[kind] = voices, body
        return body

    async def list_response(self, kind: str, render: Render) -> Response:
        return Response(await self.list_json(kind, render), media_type="application/json")

    async def info(self, voice: str) -> VoiceInfo:
        """Return one voice, by id, name or alias. Raises VoiceNotFound."""
        async with self._models.ensure_engine():
            return await self.run(self.library.info, voice)

    async def register(self, upload: Upload, name: str | None) -> tuple[VoiceInfo, bool]:
        """Register a recording as a voice, and warm the engine up for that voice. Returns the
        voice, and whether it is new."""

        def register(engine: TTSEngine) -> tuple[VoiceInfo, bool]:
            voices = engine.voices
            info, is_new = voices.register(upload.read(), name, upload.transcript)
            with suppress(ChatterboxError):  # the voice is stored, even if warming up fails
                engine.warm(voices.get(info.voice_id))
            return info, is_new

        return await self.run_on_engine(register)

    async def delete(self, voice: str) -> VoiceInfo:
        """Delete a voice. Speech in progress with it continues."""
        info = await self.info(voice)
        await self.run(self.library.delete, info.voice_id)
        return info

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a library call, which may use the disk but not the model, in a thread. Repeat the
        call if it raises VoiceNotFound and another server may have registered the voice."""
        return await self._models.voice_refresher.retry(
            lambda: asyncio.to_thread(call, *args, **kwargs)
        )

    async def run_on_engine(self, call: Callable[[TTSEngine], T]) -> T:
        """Run `call` in the thread pool with an engine that can clone voices, holding a place.

        The call may be long or run the speech encoder. The size of the pool limits how many files
        are in memory. Raises the errors of `Lifecycle.check_open`, `ModelPool.lease` and
        `AdmissionControl.place`.
        """
        self.admission.lifecycle.check_open()
        with self._models.use_cloning_model():
            async with self._models.lease(self._wait_s) as engine, self.admission.place():
                return await asyncio.wrap_future(engine.pool.submit(call, engine))

    def read_body(
        self, request: Request, limits: BodyLimits | None = None
    ) -> AbstractAsyncContextManager[Body]:
        """See `body.read_body`. Without `limits`, accept FIELDS_BYTES and no file."""
        return read_body(request, limits or BodyLimits(FIELDS_BYTES), self.admission)


async def answer_upload(
    request: Request,
    voices: VoiceService,
    file: str,
    work: Callable[[Body, Upload], Awaitable[Response]],
    *,
    check: Callable[[Body], object] | None = None,
    allow_repeated: bool = False,
    max_bytes: int | None = None,
) -> Response:
    """Receive a form with the file field `file`, and return the response of `work`.

    `check` validates the form before the file is required. `work` is cancelled if the client
    disconnects. `max_bytes` lowers the file's size limit.
    """
    admission = voices.admission
    await admission.check_capacity()
    limit_bytes = min(voices.max_bytes, max_bytes or voices.max_bytes)
    field = FileField(file, limit_bytes, admission.upload_place, allow_repeated)
    async with voices.read_body(request, BodyLimits(FIELDS_BYTES, field)) as body:
        if check is not None:
            check(body)
        if body.file is None:
            raise InvalidValue(f"'{file}' is required: send it as a multipart file.", param=file)
        return await until_disconnect(request.receive, work(body, body.file))
