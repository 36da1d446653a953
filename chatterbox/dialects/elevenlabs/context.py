"""One ElevenLabs context: its messages in, its one continuous sound and alignment out.

`socket.py` opens, closes and interrupts contexts.
"""

import base64
import itertools
from contextlib import closing
from typing import Any

from pydantic import Field

from chatterbox.arrays import F32
from chatterbox.audio.encoders import Encoder
from chatterbox.dialects.elevenlabs.http import OutputFormat, output_format
from chatterbox.dialects.shared.alignment import Alignment
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Utterance
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.server.dialect import Services
from chatterbox.server.schemas import MAX_NAME_CHARS, LenientCall, Text, random_seed
from chatterbox.server.socket_server import Socket

PATH = "/v1/text-to-speech/{voice_id}/stream-input"
MULTI_PATH = "/v1/text-to-speech/{voice_id}/multi-stream-input"
DEFAULT_IDLE_S, MOST_IDLE_S = 20, 180  # ElevenLabs' own
MOST_SCHEDULE = 32
_STOPS = ".!?…"


class Query(LenientCall):
    """What of the address means something here."""

    output_format: OutputFormat | None = None
    inactivity_timeout: float = Field(
        DEFAULT_IDLE_S, gt=0, le=MOST_IDLE_S, description="Seconds without a message"
    )
    sync_alignment: bool = Field(False, description="Times count from the context's beginning")
    auto_mode: bool = Field(False, description="Every message holds whole sentences")
    seed: int | None = Field(None, description="Equal seeds, equal speech; none: drawn")


class Generation(LenientCall):
    """`generation_config`: so much text is collected before the first, second… part is spoken."""

    chunk_length_schedule: list[int] = Field(
        default=[], max_length=MOST_SCHEDULE, description="Characters to collect before each part"
    )


class Message(LenientCall):
    """Whatever a client sends; each field has its meaning alone."""

    text: Text | None = None
    flush: bool = Field(False, description="Speak what is there")
    try_trigger_generation: bool = Field(False, description="Speak the whole sentences")
    generation_config: Generation | None = None
    context_id: str | None = Field(None, max_length=MAX_NAME_CHARS)
    contextId: str | None = Field(None, max_length=MAX_NAME_CHARS)  # noqa: N815 - the wire's name
    close_context: bool = Field(False, description="After a flush: finish it; else: silence")
    close_socket: bool = Field(False, description="The same with all contexts")

    @property
    def context(self) -> str | None:
        """Some write it one way, some the other."""
        return self.context_id or self.contextId


class Context(IncrementalSpeech):
    """One continuous sound. `flushed`: the client flushed all text so far, so closing the context
    lets it finish; a context that is closed before that was interrupted, and stops."""

    def __init__(
        self,
        services: Services,
        socket: Socket,
        voice: str | None,
        query: Query,
        name: str | None,
        first: Message,
    ) -> None:
        schedule = first.generation_config.chunk_length_schedule if first.generation_config else []
        super().__init__(services, least_chars=() if query.auto_mode else tuple(schedule))
        self.route = PATH if name is None else MULTI_PATH
        self.flushed = False
        self.closing = False
        self._socket = socket
        self._voice = voice
        self._query = query
        self._named = {} if name is None else {"contextId": name, "context_id": name}
        self._form = output_format(query.output_format)
        self._seed = random_seed() if query.seed is None else query.seed
        self._encoder: Encoder
        self._fed = False
        self._ended = False  # the text so far ends in a stop
        self._started = False
        self._done_s = 0.0  # audio of the utterances before this one
        self._framed_s = 0.0  # audio that is in messages already
        self._pending = b""  # audio that waits for its characters
        self._characters = Alignment()  # that wait for their audio, by the context's clock

    def call_of(self, text: str) -> SpeechRequest:
        if self.spoken and not text[0].isspace():
            text = " " + text  # sentences are sent without the blank between, words are read by it
        repeatable = self._query.seed is not None
        return self.services.call(
            text, self._voice, self._form, seed=self._seed, deterministic=repeatable
        )

    def take(self, message: Message) -> None:
        """Text, which may ask to be spoken as it is."""
        queue = self.queue
        if message.text and (self._fed or message.text.strip()):  # a blank opens a context
            self._fed = True
            ended, self._ended = self._ended, message.text[-1] in _STOPS
            apart = ended and self._query.auto_mode and message.text[0].isalnum()
            queue.feed(
                " " + message.text if apart else message.text,
                complete=self._query.auto_mode,
                at_once=message.try_trigger_generation,
            )
            self.flushed = False
        if message.flush:
            queue.flush()
            # LiveKit, in auto mode, flushes with every sentence and once more, alone, at the end.
            self.flushed = not (message.text and self._query.auto_mode)

    def finish(self) -> None:
        """No more text comes: speak the rest, then send `isFinal`."""
        self.closing = True
        self.queue.end("final")

    async def run(self) -> None:
        with closing(self._form.encoder()) as self._encoder:
            await super().run()

    async def on_audio(self, utterance: Utterance, samples: F32) -> None:
        """Each message has the characters of exactly its audio: clients advance their clocks by
        the last character's time."""
        if not self._started:
            self._started = True
            self._pending = self._encoder.start()
        self._pending += self._encoder.feed(samples)
        self._note(utterance.timing.until(utterance.sent_s))
        await self._send()

    async def on_end(self, utterance: Utterance) -> None:
        """The last characters, with the audio that is left."""
        self._note(utterance.timing.rest(utterance.sent_s))
        self._done_s += utterance.sent_s
        if self._pending and not self._characters.characters and self._done_s > self._framed_s:
            self._characters = Alignment([" "], [self._framed_s], [self._done_s])
        await self._send()

    async def on_mark(self, _token: Any) -> None:
        """What the encoder held back, and the end."""
        if self._started:
            self._pending += self._encoder.finish()
            await self._send(anyway=True)
        await self.send_final()

    async def send_final(self) -> None:
        """`isFinal` is exactly `true` here and `false` before: clients test its identity."""
        await self._send_json(audio=None, isFinal=True, **_times(None))

    def _note(self, found: Alignment) -> None:
        shift_s = self._done_s
        starts_s = [shift_s + start_s for start_s in found.starts_s]
        ends_s = [shift_s + end_s for end_s in found.ends_s]
        self._characters.extend(Alignment(found.characters, starts_s, ends_s))

    async def _send(self, *, anyway: bool = False) -> None:
        found = self._characters
        if not self._pending or not (found.characters or anyway):
            return
        times = None
        if found.characters:
            clock_s = 0.0 if self._query.sync_alignment else self._framed_s
            times = _milliseconds(found, clock_s)
            self._framed_s, self._characters = found.ends_s[-1], Alignment()
        data, self._pending = self._pending, b""
        await self._send_json(audio=_base64(data), isFinal=False, **_times(times))

    async def _send_json(self, **body: Any) -> None:
        await self._socket.send_json({**body, **self._named})


def _milliseconds(alignment: Alignment, clock_s: float) -> dict[str, Any]:
    """Whole milliseconds since `clock_s`, each character beginning where the last one ends."""
    bounds_s = [*alignment.starts_s, alignment.ends_s[-1]]
    bounds = [round((bound_s - clock_s) * 1000) for bound_s in bounds_s]
    return {
        "chars": alignment.characters,
        "charStartTimesMs": bounds[:-1],
        "charDurationsMs": [end - start for start, end in itertools.pairwise(bounds)],
    }


def _times(alignment: dict[str, Any] | None) -> dict[str, Any]:
    """Both, and both the same: some clients read one, some the other, and the text as it was sent
    is what they follow."""
    return {"alignment": alignment, "normalizedAlignment": alignment}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
