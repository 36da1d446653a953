"""The Wyoming protocol of Home Assistant, on a port of its own (`wyoming_port`).

An event is a line of JSON, then data and payload of the lengths that it names. They are read here
rather than by the `wyoming` package, which takes lengths without a limit.
"""

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

from chatterbox import __version__
from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio.encode import audio_format
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Utterance
from chatterbox.dialects.shared.sockets import fields_of_message
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import (
    BodyTooLarge,
    Cancelled,
    ChatterboxError,
    ConfigError,
    IdleTimeout,
    InternalError,
    InvalidBody,
    SlowClient,
    TooManyConnections,
)
from chatterbox.server.body import first_of
from chatterbox.server.dialect import Bind, Dialect, Services
from chatterbox.server.request_log import STALL_S
from chatterbox.server.schemas import LenientCall, Name, Text
from chatterbox.server.socket_server import MAX_FRAME_BYTES
from chatterbox.server.voice_service import as_json
from chatterbox.voices.names import VoiceInfo

log = logging.getLogger(__name__)

VERSION = "1.10.2"  # of the protocol's own package, whose client the tests drive

PCM = audio_format("pcm")
SOUND = {"rate": SAMPLE_RATE_HZ, "width": 2, "channels": 1}
ORIGIN = {"name": "Chatterbox Server", "url": "https://github.com/resemble-ai/chatterbox"}
INSTALLED = {"attribution": ORIGIN, "installed": True}


async def read_event(reader: asyncio.StreamReader) -> tuple[str, dict[str, Any]]:
    """The type and the data of the next event; its payload, which would be sound, is passed over.
    Raises Cancelled once the client has left, InvalidBody and BodyTooLarge."""
    try:
        header = _object(await reader.readuntil(b"\n"))
        data = _object(header.get("data") or {})
        if length := _length(header, "data_length"):
            data |= _object(await reader.readexactly(length))
        await reader.readexactly(_length(header, "payload_length"))
    except (asyncio.IncompleteReadError, ConnectionError):
        raise Cancelled("The client left.") from None
    except asyncio.LimitOverrunError:
        raise BodyTooLarge(f"An event is at most {MAX_FRAME_BYTES} bytes.") from None
    kind = header.get("type")
    if not isinstance(kind, str):
        raise InvalidBody("An event has a 'type'.")
    return kind, data


async def write_event(
    writer: asyncio.StreamWriter,
    kind: str,
    data: dict[str, Any] | bytes = b"",
    payload: bytes = b"",
) -> None:
    """Send an event, waiting for a slow reader. `data` may be JSON already. Raises Cancelled where
    the client has left, or reads no more."""
    if isinstance(data, dict):
        data = json.dumps(data).encode("ascii")
    header: dict[str, Any] = {"type": kind, "version": VERSION}
    header |= {"data_length": len(data)} if data else {}
    header |= {"payload_length": len(payload)} if payload else {}
    try:
        async with asyncio.timeout(STALL_S):
            writer.write(json.dumps(header).encode("ascii") + b"\n" + data + payload)
            await writer.drain()
    except TimeoutError:
        raise SlowClient("The client stopped reading.") from None
    except ConnectionError:
        raise Cancelled("The client left.") from None


def _object(value: object) -> dict[str, Any]:
    """A JSON object, decoded already or not."""
    try:
        value = json.loads(value) if isinstance(value, bytes) else value
    except (ValueError, RecursionError):
        raise InvalidBody("The event is not JSON.") from None
    if not isinstance(value, dict):
        raise InvalidBody("An event, and its data, are JSON objects.")
    return value


def _length(header: dict[str, Any], name: str) -> int:
    length = header.get(name) or 0
    if not isinstance(length, int) or length < 0:
        raise InvalidBody(f"'{name}' is a number of bytes.")
    if length > MAX_FRAME_BYTES:
        raise BodyTooLarge(f"An event's parts are at most {MAX_FRAME_BYTES} bytes.")
    return length


class Voice(LenientCall):
    """Whose voice; a language is passed over, there is one."""

    name: Name | None = None


class Synthesize(LenientCall):
    """`synthesize`, `synthesize-start` and `synthesize-chunk`."""

    text: Text = ""
    voice: Voice | None = None


class Session(IncrementalSpeech):
    """One connection."""

    route = "wyoming"

    def __init__(
        self, services: Services, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(services)
        self._reader = reader
        self._write = partial(write_event, writer)
        self._voice: str | None = None
        self._model: str | None = None
        self._streaming = False  # between synthesize-start and synthesize-stop
        self._in_audio = False  # between audio-start and audio-stop
        self._encoder = PCM.encoder()

    async def run(self) -> None:
        """Until the client leaves; what goes wrong is raised and ends the connection."""
        await first_of(self._listen(), super().run())

    async def _listen(self) -> None:
        idle_s = self.services.config.websocket_idle_timeout_s
        while True:
            reading = asyncio.ensure_future(read_event(self._reader))
            try:
                while not (await asyncio.wait({reading}, timeout=idle_s))[0]:
                    if not self.busy:
                        raise IdleTimeout(f"Nothing came for {idle_s:g} s.")
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            await self._take(*reading.result())

    async def _take(self, kind: str, data: dict[str, Any]) -> None:
        """Passed over: the whole text of a stream, for servers that cannot; what is unknown."""
        match kind:
            case "describe":
                await self._write("info", await self._info())
            case "ping":
                text = data.get("text")
                await self._write("pong", {"text": text if isinstance(text, str) else None})
            case "synthesize" if not self._streaming:
                text = await self._text(data)
                self.queue.call(self.call_of(text, silence_if_wordless=True))
                self.queue.mark("audio-stop")
            case "synthesize-start":
                await self._text(data)
                self._streaming = True
            case "synthesize-chunk" if self._streaming:
                self.queue.feed(fields_of_message(Synthesize, data).text)
            case "synthesize-stop" if self._streaming:
                self._streaming = False
                self.queue.mark("synthesize-stopped")

    async def _info(self) -> bytes:
        """All voices; of several models those of the default one, then all others', as far as they
        are known, with the model's name in front: Home Assistant has no other place for it."""
        models, voices = self.services.models, self.services.voices
        first = partial(_programs, voices.languages)
        if len(models.models) == 1:
            return await voices.list_body("wyoming", first)
        info = first(await voices.listed())
        for model in models.models[1:]:
            if model.engine:
                with models.naming(model.name):
                    described = _programs(voices.languages, await voices.listed(), f"{model.name}/")
                info["tts"][0]["voices"] += described["tts"][0]["voices"]
        return await asyncio.to_thread(as_json, info)

    async def _text(self, data: dict[str, Any]) -> str:
        fields = fields_of_message(Synthesize, data)
        name, model = fields.voice.name if fields.voice else None, None
        if name and "/" in name and len(self.services.models.models) > 1:  # no voice has one
            model, _, name = name.rpartition("/")
        with self.services.models.naming(model):
            self._voice = (await self.services.voices.info(name)).voice_id if name else None
        self._model = model
        return fields.text

    def call_of(self, text: str, *, silence_if_wordless: bool = False) -> SpeechRequest:
        with self.services.models.naming(self._model):
            return self.services.speech.build_request(
                text, self._voice, PCM, silence_if_wordless=silence_if_wordless
            )

    async def on_start(self, _utterance: Utterance | None) -> None:
        """One stream of sound for one text, however many sentences it came in."""
        if not self._in_audio:
            self._in_audio = True
            await self._write("audio-start", SOUND)

    async def on_audio(self, _utterance: Utterance, samples: F32) -> None:
        await self._write("audio-chunk", SOUND, self._encoder.feed(samples))

    async def on_mark(self, token: Any) -> None:
        """The sound's end; it is told also where nothing could be spoken, for it is waited for."""
        await self.on_start(None)
        self._in_audio = False
        await self._write("audio-stop")
        if token == "synthesize-stopped":  # noqa: S105
            await self._write("synthesize-stopped")


def _programs(spoken: Sequence[str], voices: list[VoiceInfo], prefix: str = "") -> dict[str, Any]:
    """What there is to be used, as `info` says it."""
    program = {
        "name": "chatterbox",
        "description": "Speech in any voice",
        **INSTALLED,
        "version": __version__,
        "supports_synthesize_streaming": True,
        "voices": [
            {
                "name": f"{prefix}{voice.voice_id}",
                "description": ", ".join(voice.names),
                **INSTALLED,
                "version": None,
                "languages": [voice.language] if voice.language else list(spoken),
                "speakers": None,
            }
            for voice in voices
        ],
    }
    others = ("asr", "handle", "intent", "wake", "mic", "snd")
    return {"tts": [program], **{kind: [] for kind in others}, "satellite": None}


async def send_error(writer: asyncio.StreamWriter, error: ChatterboxError) -> None:
    with contextlib.suppress(Cancelled):
        await write_event(writer, "error", {"text": error.message, "code": error.code})


class WyomingListener:
    """The port and its connections. While the server drains, they are refused as all others are."""

    def __init__(self, services: Services, sock: socket.socket) -> None:
        self._services = services
        self._sock = sock
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(
            self._connected, sock=self._sock, limit=MAX_FRAME_BYTES
        )

    async def close(self) -> None:
        """Stop listening, and close what is still open."""
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self._connections) > self._services.config.max_websockets:
                raise TooManyConnections("There are too many open connections.")
            self._services.admission.lifecycle.check_open()
            await Session(self._services, reader, writer).run()
        except Cancelled:
            pass  # the client left
        except ChatterboxError as error:
            await send_error(writer, error)
        except Exception:
            log.exception("unexpected fault in a Wyoming connection")
            bug = InternalError("The server failed on this; its log has the reason.")
            await send_error(writer, bug)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def listener(services: Services, bind: Bind) -> WyomingListener | None:
    """The listener on `wyoming_port`; None where that is 0. Raises ConfigError."""
    config = services.config
    if not config.wyoming_port:
        return None
    if config.keys and not config.is_local:
        raise ConfigError(
            "--wyoming-port: Wyoming's clients cannot send keys, so with keys set it is served on"
            " this machine only (--host 127.0.0.1). A server of its own, without keys, can serve"
            " them."
        )
    return WyomingListener(services, bind(config.wyoming_port, "--wyoming-port"))


DIALECT = Dialect(listener=listener)
