"""One Wyoming connection: texts in, sound out; and what there is to be used."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from chatterbox import __version__
from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio.encode import audio_format
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Utterance
from chatterbox.dialects.shared.messages import fields_of_message
from chatterbox.dialects.wyoming.events import Event, read_event, write_event
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import (
    IdleTimeout,
)
from chatterbox.server.dialect import Services
from chatterbox.server.schemas import LenientCall, Name, Text
from chatterbox.server.socket_server import first_of
from chatterbox.server.voice_service import as_json
from chatterbox.voices.names import VoiceInfo

PCM = audio_format("pcm")
SOUND = {"rate": SAMPLE_RATE_HZ, "width": 2, "channels": 1}
ORIGIN = {"name": "Chatterbox Server", "url": "https://github.com/resemble-ai/chatterbox"}
INSTALLED = {"attribution": ORIGIN, "installed": True}


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
        reading = asyncio.ensure_future(read_event(self._reader))
        try:
            while True:
                done, _ = await asyncio.wait({reading}, timeout=idle_s)
                if done:
                    event = reading.result()
                    reading = asyncio.ensure_future(read_event(self._reader))
                    await self._take(event)
                elif not self.busy:
                    raise IdleTimeout(f"Nothing came for {idle_s:g} s.")
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _take(self, event: Event) -> None:
        match event.type:
            case "describe":
                await self._write("info", await self._info())
            case "ping":
                text = event.data.get("text")
                await self._write("pong", {"text": text if isinstance(text, str) else None})
            case "synthesize" if not self._streaming:
                text = await self._text(event)
                self.queue.call(self.call_of(text, silence_if_wordless=True))
                self.queue.mark("audio-stop")
            case "synthesize-start":
                await self._text(event)
                self._streaming = True
            case "synthesize-chunk" if self._streaming:
                self.queue.feed(fields_of_message(Synthesize, event.data).text)
            case "synthesize-stop" if self._streaming:
                self._streaming = False
                self.queue.mark("synthesize-stopped")
            case _:  # the whole text of a stream, for servers that cannot; events of later versions
                pass

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

    async def _text(self, event: Event) -> str:
        fields = fields_of_message(Synthesize, event.data)
        name, model = fields.voice.name if fields.voice else None, None
        if name and "/" in name and len(self.services.models.models) > 1:  # no voice has one
            model, _, name = name.rpartition("/")
        with self.services.models.naming(model):
            self._voice = (await self.services.voices.info(name)).voice_id if name else None
        self._model = model
        return fields.text

    def call_of(self, text: str, *, silence_if_wordless: bool = False) -> SpeechRequest:
        with self.services.models.naming(self._model):
            wordless = silence_if_wordless
            return self.services.call(text, self._voice, PCM, silence_if_wordless=wordless)

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
