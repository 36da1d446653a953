"""What is said on one Wyoming connection? Describe, synthesize whole or in pieces, ping.

Translates between its events and the speech of text; knows no port.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from chatterbox import __version__
from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio.encode import audio_format
from chatterbox.config import key_list
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Listener, Utterance
from chatterbox.dialects.shared.messages import fields_of_message
from chatterbox.dialects.wyoming.events import Event, read_event, write_event
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import (
    Cancelled,
    ChatterboxError,
    ConfigError,
    IdleTimeout,
    InternalError,
    TooManyConnections,
)
from chatterbox.server.dialect import Bind, Services
from chatterbox.server.schemas import LenientCall, Name, Text
from chatterbox.server.socket_server import MAX_FRAME_BYTES, first_of
from chatterbox.voices.names import VoiceInfo

log = logging.getLogger(__name__)

ROUTE = "wyoming"
PCM = audio_format("pcm")
SOUND = {"rate": SAMPLE_RATE_HZ, "width": 2, "channels": 1}
ATTRIBUTION = {"name": "Chatterbox Server", "url": "https://github.com/resemble-ai/chatterbox"}
LANGUAGES = ["en"]

Read = Callable[[], Coroutine[Any, Any, Event]]
Write = Callable[[Event], Awaitable[None]]


class Voice(LenientCall):
    """Whose voice; a language is passed over, there is one."""

    name: Name | None = None


class Synthesize(LenientCall):
    """`synthesize`, `synthesize-start` and `synthesize-chunk`."""

    text: Text = ""
    voice: Voice | None = None


class Session(Listener):
    """One connection."""

    def __init__(self, services: Services, read: Read, write: Write) -> None:
        self._services = services
        self._read = read
        self._write = write
        self._voice: str | None = None
        self._streaming = False  # between synthesize-start and synthesize-stop
        self._in_audio = False  # between audio-start and audio-stop
        self._encoder = PCM.encoder()
        self._speech = IncrementalSpeech(services, ROUTE, self, call_of=self._call)

    async def run(self) -> None:
        """Until the client leaves; what goes wrong is raised and ends the connection."""
        await first_of(self._listen(), self._speech.run())

    async def _listen(self) -> None:
        idle_s = self._services.config.websocket_idle_timeout_s
        reading = asyncio.ensure_future(self._read())
        try:
            while True:
                done, _ = await asyncio.wait({reading}, timeout=idle_s)
                if done:
                    event = reading.result()
                    reading = asyncio.ensure_future(self._read())
                    await self._take(event)
                elif not self._speech.busy:
                    raise IdleTimeout(f"Nothing came for {idle_s:g} s.")
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _take(self, event: Event) -> None:
        queue = self._speech.queue
        match event.type:
            case "describe":
                await self._write(Event("info", encoded=await self._info()))
            case "ping":
                text = event.data.get("text")
                await self._write(Event("pong", {"text": text if isinstance(text, str) else None}))
            case "synthesize" if not self._streaming:
                text = await self._text(event)
                queue.call(self._call(text, silence_if_wordless=True))
                queue.mark("audio-stop")
            case "synthesize-start":
                await self._text(event)
                self._streaming = True
            case "synthesize-chunk" if self._streaming:
                queue.feed(fields_of_message(Synthesize, event.data).text)
            case "synthesize-stop" if self._streaming:
                self._streaming = False
                queue.mark("synthesize-stopped")
            case _:  # the whole text of a stream, for servers that cannot; events of later versions
                pass

    async def _text(self, event: Event) -> str:
        fields = fields_of_message(Synthesize, event.data)
        name = fields.voice.name if fields.voice else None
        self._voice = (await self._services.voices.info(name)).voice_id if name else None
        return fields.text

    async def _info(self) -> bytes:
        return await self._services.voices.list_body("wyoming", _programs)

    def _call(self, text: str, *, silence_if_wordless: bool = False) -> SpeechRequest:
        return self._services.call(text, self._voice, PCM, silence_if_wordless=silence_if_wordless)

    async def on_start(self, _utterance: Utterance) -> None:
        """One stream of sound for one text, however many sentences it came in."""
        await self._start()

    async def on_audio(self, _utterance: Utterance, samples: F32) -> None:
        """Samples."""
        await self._write(Event("audio-chunk", SOUND, self._encoder.feed(samples)))

    async def on_mark(self, token: Any) -> None:
        """The sound's end; it is told also where nothing could be spoken, for it is waited for."""
        await self._start()
        self._in_audio = False
        await self._write(Event("audio-stop"))
        if token == "synthesize-stopped":  # noqa: S105
            await self._write(Event("synthesize-stopped"))

    async def _start(self) -> None:
        if not self._in_audio:
            self._in_audio = True
            await self._write(Event("audio-start", SOUND))


def _programs(voices: list[VoiceInfo]) -> dict[str, Any]:
    """What there is to be used, as `info` says it."""
    program = {
        "name": "chatterbox",
        "description": "Speech in any voice",
        "attribution": ATTRIBUTION,
        "installed": True,
        "version": __version__,
        "supports_synthesize_streaming": True,
        "voices": [
            {
                "name": voice.voice_id,
                "description": ", ".join(voice.names),
                "attribution": ATTRIBUTION,
                "installed": True,
                "version": None,
                "languages": LANGUAGES,
                "speakers": None,
            }
            for voice in voices
        ],
    }
    others = ("asr", "handle", "intent", "wake", "mic", "snd")
    return {"tts": [program], **{kind: [] for kind in others}, "satellite": None}


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
        async def send_error(error: ChatterboxError) -> None:
            with contextlib.suppress(Cancelled):
                data = {"text": error.message, "code": error.code}
                await write_event(writer, Event("error", data))

        try:
            if len(self._connections) > self._services.config.max_websockets:
                raise TooManyConnections("There are too many open connections.")
            self._services.speech.lifecycle.check_open()
            await Session(
                self._services,
                lambda: read_event(reader),
                lambda event: write_event(writer, event),
            ).run()
        except Cancelled:
            pass  # the client left
        except ChatterboxError as error:
            await send_error(error)
        except Exception:
            log.exception("unexpected fault in a Wyoming connection")
            await send_error(InternalError("The server failed on this; its log has the reason."))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def listener(services: Services, bind: Bind) -> WyomingListener | None:
    """The listener on `wyoming_port`; None where that is 0. Raises ConfigError."""
    config = services.config
    if not config.wyoming_port:
        return None
    if key_list(config.api_keys) and not config.is_local:
        raise ConfigError(
            "--wyoming-port: Wyoming's clients cannot send keys, so with keys set it is served on"
            " this machine only (--host 127.0.0.1). A server of its own, without keys, can serve"
            " them."
        )
    return WyomingListener(services, bind(config.wyoming_port, "--wyoming-port"))
