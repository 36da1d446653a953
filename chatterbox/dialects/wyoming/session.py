"""What is said on one Wyoming connection? Describe, synthesize whole or in pieces, ping.

Translates between its events and the voicing of text; knows no port.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from chatterbox import __version__
from chatterbox.audio.encode import audio_format
from chatterbox.dialects.services import Services
from chatterbox.dialects.shared.incremental_speech import Ended, IncrementalSpeech, Utterance
from chatterbox.dialects.shared.socket_server import first_of
from chatterbox.dialects.wyoming.events import Event
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import IdleTimeout
from chatterbox.runtime.contract import F32, SAMPLE_RATE_HZ
from chatterbox.server.body import Body
from chatterbox.server.schemas import LenientCall, Name, Text, lenient_fields_of
from chatterbox.voices.names import VoiceInfo

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


class Session:
    """One connection."""

    def __init__(self, backend: Services, ended: Ended, read: Read, write: Write) -> None:
        self._backend = backend
        self._read = read
        self._write = write
        self._voice: str | None = None
        self._streaming = False  # between synthesize-start and synthesize-stop
        self._sounding = False  # between audio-start and audio-stop
        self._encoder = PCM.encoder()
        self._voicing = IncrementalSpeech(backend, ended, ROUTE, self, call_of=self._call)

    async def run(self) -> None:
        """Until the client leaves; what goes wrong is raised and ends the connection."""
        await first_of(self._listen(), self._voicing.run())

    async def _listen(self) -> None:
        idle_s = self._backend.config.websocket_idle_timeout_s
        reading = asyncio.ensure_future(self._read())
        try:
            while True:
                done, _ = await asyncio.wait({reading}, timeout=idle_s)
                if done:
                    event = reading.result()
                    reading = asyncio.ensure_future(self._read())
                    await self._take(event)
                elif not self._voicing.busy:
                    raise IdleTimeout(f"Nothing came for {idle_s:g} s.")
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _take(self, event: Event) -> None:
        inbox = self._voicing.inbox
        match event.type:
            case "describe":
                await self._write(Event("info", encoded=await self._info()))
            case "ping":
                text = event.data.get("text")
                await self._write(Event("pong", {"text": text if isinstance(text, str) else None}))
            case "synthesize" if not self._streaming:
                asked = await self._asked(event)
                inbox.call(self._call(asked.text, silence_if_wordless=True))
                inbox.mark("audio-stop")
            case "synthesize-start":
                await self._asked(event)
                self._streaming = True
            case "synthesize-chunk" if self._streaming:
                inbox.feed(_fields(event).text)
            case "synthesize-stop" if self._streaming:
                self._streaming = False
                inbox.mark("synthesize-stopped")
            case _:  # the whole text of a stream, for servers that cannot; events of later versions
                pass

    async def _asked(self, event: Event) -> Synthesize:
        asked = _fields(event)
        name = asked.voice.name if asked.voice else None
        self._voice = (await self._backend.voices.info(name)).voice_id if name else None
        return asked

    async def _info(self) -> bytes:
        return await self._backend.voices.list_body("wyoming", _programs)

    def _call(self, text: str, *, silence_if_wordless: bool = False) -> SpeechRequest:
        return self._backend.call(text, self._voice, PCM, silence_if_wordless=silence_if_wordless)

    # --- Listener

    async def begins(self, _utterance: Utterance) -> None:
        """One stream of sound for one text, however many sentences it came in."""
        await self._start()

    async def sounds(self, _utterance: Utterance, samples: F32) -> None:
        """Samples."""
        await self._write(Event("audio-chunk", SOUND, self._encoder.feed(samples)))

    async def ends(self, _utterance: Utterance) -> None:
        """Nothing is said of it: a mark follows."""

    async def reaches(self, token: Any) -> None:
        """The sound's end; it is told also where nothing could be spoken, for it is waited for."""
        await self._start()
        self._sounding = False
        await self._write(Event("audio-stop"))
        if token == "synthesize-stopped":  # noqa: S105
            await self._write(Event("synthesize-stopped"))

    async def _start(self) -> None:
        if not self._sounding:
            self._sounding = True
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


def _fields(event: Event) -> Synthesize:
    return lenient_fields_of(Synthesize, Body(event.data, typed=True))[0]
