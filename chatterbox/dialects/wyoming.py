"""Home Assistant's Wyoming protocol, on its own port (`wyoming_port`).

An event is a line of JSON, followed by data and a payload whose lengths are stated in the line. The
`wyoming` package is not used to read events, because it accepts any length.
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
from chatterbox.dialects.shared.incremental_speech import PCM, IncrementalSpeech, Utterance
from chatterbox.dialects.shared.sockets import message_fields
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
from chatterbox.server.body import until_first
from chatterbox.server.dialect import Bind, Dialect, Services
from chatterbox.server.request_log import STALL_S
from chatterbox.server.schemas import LenientFields, Name, Text
from chatterbox.server.socket_server import MAX_FRAME_BYTES
from chatterbox.server.voice_service import to_json
from chatterbox.voices.names import VoiceInfo

log = logging.getLogger(__name__)

VERSION = "1.10.2"  # of the `wyoming` package whose client the tests drive
SOUND = {"rate": SAMPLE_RATE_HZ, "width": 2, "channels": 1}
ORIGIN = {"name": "Chatterbox Server", "url": "https://github.com/resemble-ai/chatterbox"}
INSTALLED = {"attribution": ORIGIN, "installed": True}


async def read_event(reader: asyncio.StreamReader) -> tuple[str, dict[str, Any]]:
    """Read an event; returns its type and data. Its payload (audio) is dropped. Raises Cancelled
    when the client has left, InvalidBody and BodyTooLarge."""
    try:
        header = _object(await reader.readuntil(b"\n"))
        data = _object(header.get("data") or {})
        if length := _length(header, "data_length"):
            data |= _object(await reader.readexactly(length))
        await reader.readexactly(_length(header, "payload_length"))
    except (asyncio.IncompleteReadError, ConnectionError):
        raise Cancelled("The client left.") from None
    except asyncio.LimitOverrunError:
        raise BodyTooLarge(f"An event may have at most {MAX_FRAME_BYTES} bytes.") from None
    kind = header.get("type")
    if not isinstance(kind, str):
        raise InvalidBody("An event must have a 'type'.")
    return kind, data


async def write_event(
    writer: asyncio.StreamWriter,
    kind: str,
    data: dict[str, Any] | bytes = b"",
    payload: bytes = b"",
) -> None:
    """Send an event. `data` may be encoded JSON. Raises Cancelled when the client has left, and
    SlowClient when the client stops reading."""
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
    """Return `value`, decoded if it is bytes. Raises InvalidBody unless that is a JSON object."""
    try:
        value = json.loads(value) if isinstance(value, bytes) else value
    except (ValueError, RecursionError):
        raise InvalidBody("The event is not JSON.") from None
    if not isinstance(value, dict):
        raise InvalidBody("An event and its data must be JSON objects.")
    return value


def _length(header: dict[str, Any], name: str) -> int:
    length = header.get(name) or 0
    if not isinstance(length, int) or length < 0:
        raise InvalidBody(f"'{name}' must be a number of bytes.")
    if length > MAX_FRAME_BYTES:
        raise BodyTooLarge(f"Each part of an event may have at most {MAX_FRAME_BYTES} bytes.")
    return length


class Voice(LenientFields):
    """A voice by name. Its language, if any, is ignored."""

    name: Name | None = None


class Synthesize(LenientFields):
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
        self._is_streaming = False  # between synthesize-start and synthesize-stop
        self._in_audio = False  # between audio-start and audio-stop

    async def run(self) -> None:
        """Run until the client leaves. Raises the error that ends the connection."""
        await until_first(self._listen(), super().run())

    async def _listen(self) -> None:
        idle_s = self.services.config.websocket_idle_timeout_s
        while True:
            reading = asyncio.ensure_future(read_event(self._reader))
            try:
                while not (await asyncio.wait({reading}, timeout=idle_s))[0]:
                    if not self.is_busy:
                        raise IdleTimeout(f"Nothing came for {idle_s:g} s.")
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            await self._take(*reading.result())

    async def _take(self, kind: str, data: dict[str, Any]) -> None:
        """Handle an event. Unknown events are ignored. A `synthesize` during a stream is ignored
        too: it repeats the streamed text for servers that cannot stream."""
        match kind:
            case "describe":
                await self._write("info", await self._info())
            case "ping":
                text = data.get("text")
                await self._write("pong", {"text": text if isinstance(text, str) else None})
            case "synthesize" if not self._is_streaming:
                text = await self._read_text(data)
                self.queue.add(self.request_for(text, silence_if_wordless=True))
                self.queue.then(self._end_audio)
            case "synthesize-start":
                await self._read_text(data)
                self._is_streaming = True
            case "synthesize-chunk" if self._is_streaming:
                self.queue.feed(message_fields(Synthesize, data).text)
            case "synthesize-stop" if self._is_streaming:
                self._is_streaming = False
                self.queue.then(self._end_audio)
                self.queue.then(partial(self._write, "synthesize-stopped"))

    async def _info(self) -> bytes:
        """Describe the server and all voices of loaded models. Voices of models other than the
        default have the model's name as a prefix, since Home Assistant cannot name a model."""
        models, voices = self.services.models, self.services.voices
        describe = partial(_describe, voices.languages)
        if len(models.models) == 1:
            return await voices.list_json("wyoming", describe)
        info = describe(await voices.list_all())
        for model in models.models[1:]:
            if model.engine:
                with models.use(model.name):
                    other = _describe(voices.languages, await voices.list_all(), f"{model.name}/")
                info["tts"][0]["voices"] += other["tts"][0]["voices"]
        return await asyncio.to_thread(to_json, info)

    async def _read_text(self, data: dict[str, Any]) -> str:
        """Return the event's text. Use the event's voice for this text and the following ones."""
        fields = message_fields(Synthesize, data)
        name, model = fields.voice.name if fields.voice else None, None
        if name and "/" in name and len(self.services.models.models) > 1:  # no voice name has "/"
            model, _, name = name.rpartition("/")
        with self.services.models.use(model):
            self._voice = (await self.services.voices.info(name)).voice_id if name else None
        self._model = model
        return fields.text

    def request_for(self, text: str, *, silence_if_wordless: bool = False) -> SpeechRequest:
        with self.services.models.use(self._model):
            return self.services.speech.build_request(
                text, self._voice, PCM, silence_if_wordless=silence_if_wordless
            )

    async def on_start(self, _utterance: Utterance | None) -> None:
        """Send `audio-start`, once for a text of any number of sentences."""
        if not self._in_audio:
            self._in_audio = True
            await self._write("audio-start", SOUND)

    async def on_audio(self, _utterance: Utterance, samples: F32) -> None:
        await self._write("audio-chunk", SOUND, self.file.feed(samples))

    async def _end_audio(self) -> None:
        """Send `audio-stop`, for which clients wait even if there was nothing to speak."""
        await self.on_start(None)
        self._in_audio = False
        await self._write("audio-stop")


def _describe(
    languages: Sequence[str], voices: list[VoiceInfo], prefix: str = ""
) -> dict[str, Any]:
    """Return the data of an `info` event."""
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
                "languages": [voice.language] if voice.language else list(languages),
                "speakers": None,
            }
            for voice in voices
        ],
    }
    others = ("asr", "handle", "intent", "wake", "mic", "snd")
    return {"tts": [program], **{kind: [] for kind in others}, "satellite": None}


async def _send_error(writer: asyncio.StreamWriter, error: ChatterboxError) -> None:
    with contextlib.suppress(Cancelled):
        await write_event(writer, "error", {"text": error.message, "code": error.code})


class WyomingListener:
    """Serves the Wyoming port. Refuses connections above `max_websockets` and while the server is
    shutting down."""

    def __init__(self, services: Services, sock: socket.socket) -> None:
        self._services = services
        self._sock = sock
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, sock=self._sock, limit=MAX_FRAME_BYTES
        )

    async def close(self) -> None:
        """Stop listening and close the open connections."""
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self._connections) > self._services.config.max_websockets:
                raise TooManyConnections("Too many connections are open; try again later.")
            self._services.admission.lifecycle.check_open()
            await Session(self._services, reader, writer).run()
        except Cancelled:
            pass  # the client left
        except ChatterboxError as error:
            await _send_error(writer, error)
        except Exception:
            log.exception("unexpected fault in a Wyoming connection")
            bug = InternalError("The server failed on this connection; its log has the reason.")
            await _send_error(writer, bug)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def listener(services: Services, bind: Bind) -> WyomingListener | None:
    """Bind `wyoming_port`. Returns None if the port is 0. Raises ConfigError."""
    config = services.config
    if not config.wyoming_port:
        return None
    if config.keys and not config.is_local:
        raise ConfigError(
            "--wyoming-port: Wyoming's clients cannot send keys, so with keys set it is served on"
            " this machine only (--host 127.0.0.1). Run another server without keys for them."
        )
    return WyomingListener(services, bind(config.wyoming_port, "--wyoming-port"))


DIALECT = Dialect(listener=listener)
