"""What is one ElevenLabs context? Its messages in, its one continuous sound and alignment out.

Knows no socket's life: `elevenlabs.py` opens, closes and interrupts contexts.
"""

import base64
import itertools
from contextlib import closing
from typing import Any

from pydantic import Field

from chatterbox.audio.encode import Encoder
from chatterbox.dialects.elevenlabs.alignment import Alignment
from chatterbox.dialects.elevenlabs.http import output_format
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Utterance
from chatterbox.dialects.shared.socket_server import Socket, SocketServer
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.runtime.contract import F32
from chatterbox.server.schemas import MAX_NAME_CHARS, LenientCall, Text, random_seed

PATH = "/v1/text-to-speech/{voice_id}/stream-input"
MULTI_PATH = "/v1/text-to-speech/{voice_id}/multi-stream-input"
DEFAULT_IDLE_S, MOST_IDLE_S = 20, 180  # ElevenLabs' own
MOST_SCHEDULE = 32
_STOPS = ".!?…"


class Query(LenientCall):
    """What of the address means something here."""

    output_format: str | None = None
    inactivity_timeout: float = Field(DEFAULT_IDLE_S, gt=0, le=MOST_IDLE_S)
    sync_alignment: bool = False
    auto_mode: bool = False
    seed: int | None = None


class Generation(LenientCall):
    """`generation_config`: so much text is collected before the first, second… part is spoken."""

    chunk_length_schedule: list[int] = Field(default=[], max_length=MOST_SCHEDULE)


class Message(LenientCall):
    """Whatever a client sends; each field has its meaning alone."""

    text: Text | None = None
    flush: bool = False
    try_trigger_generation: bool = False
    generation_config: Generation | None = None
    context_id: str | None = Field(None, max_length=MAX_NAME_CHARS)
    contextId: str | None = Field(None, max_length=MAX_NAME_CHARS)  # noqa: N815 - the wire's name
    close_context: bool = False
    close_socket: bool = False

    @property
    def context(self) -> str | None:
        """Some write it one way, some the other."""
        return self.context_id or self.contextId


class Context:
    """One continuous sound. `flushed`: all text so far was asked for, so that closing the context
    lets it finish; what is closed before that was interrupted, and stops."""

    def __init__(
        self,
        desk: SocketServer,
        socket: Socket,
        voice: str,
        query: Query,
        name: str | None,
        first: Message,
    ) -> None:
        self.flushed = False
        self.closing = False
        self._desk = desk
        self._socket = socket
        self._voice = voice
        self._query = query
        self._named = {} if name is None else {"contextId": name, "context_id": name}
        self._form = output_format(query.output_format)
        self._repeatable = query.seed is not None
        self._seed = random_seed() if query.seed is None else query.seed
        self._encoder: Encoder
        self._fed = False
        self._ended = False  # the text so far ends in a stop
        self._begun = False
        self._sound_s = 0.0  # of utterances that are done
        self._sent_s = 0.0  # sound that is in messages already
        self._held = b""  # sound that no character has been found for yet
        self._characters = Alignment()  # and the other way round, by the context's clock
        schedule = first.generation_config.chunk_length_schedule if first.generation_config else []
        self.voicing = IncrementalSpeech(
            desk.backend,
            desk.ended,
            PATH if name is None else MULTI_PATH,
            self,
            call_of=self._call,
            least_chars=() if query.auto_mode else tuple(schedule),
        )

    def _call(self, text: str) -> SpeechRequest:
        if self.voicing.spoken and not text[0].isspace():
            text = " " + text  # sentences are sent without the blank between, words are read by it
        return self._desk.backend.call(
            text, self._voice, self._form, seed=self._seed, deterministic=self._repeatable
        )

    def take(self, message: Message) -> None:
        """Text, which may ask to be spoken as it is."""
        inbox = self.voicing.inbox
        if message.text and (self._fed or message.text.strip()):  # a blank opens a context
            self._fed = True
            ended, self._ended = self._ended, message.text[-1] in _STOPS
            apart = ended and self._query.auto_mode and message.text[0].isalnum()
            inbox.feed(
                " " + message.text if apart else message.text,
                complete=self._query.auto_mode,
                at_once=message.try_trigger_generation,
            )
            self.flushed = False
        if message.flush:
            inbox.flush()
            # LiveKit, in auto mode, flushes with every sentence and once more, alone, at the end.
            self.flushed = not (message.text and self._query.auto_mode)

    def finish(self) -> None:
        """Nothing more comes: say the rest, then `isFinal`."""
        self.closing = True
        self.voicing.inbox.mark("final")
        self.voicing.inbox.end()

    async def run(self) -> None:
        """Until it is finished or cancelled."""
        with closing(self._form.encoder()) as self._encoder:
            await self.voicing.run()

    # --- Listener

    async def begins(self, utterance: Utterance) -> None:
        """Nothing is said of it."""

    async def sounds(self, utterance: Utterance, samples: F32) -> None:
        """Each message has the characters of all its sound: their clients move their clocks on by
        what the last character says, so neither goes without the other."""
        if not self._begun:
            self._begun = True
            self._held = self._encoder.start()
        self._held += self._encoder.feed(samples)
        self._note(utterance.timing.until(utterance.heard_s))
        await self._send()

    async def ends(self, utterance: Utterance) -> None:
        """The last characters, with whatever sound is left of it."""
        self._note(utterance.timing.rest(utterance.heard_s))
        self._sound_s += utterance.heard_s
        if self._held and not self._characters.characters and self._sound_s > self._sent_s:
            self._characters = Alignment([" "], [self._sent_s], [self._sound_s])
        await self._send()

    async def reaches(self, _token: Any) -> None:
        """What the encoder held back, and the end."""
        if self._begun:
            self._held += self._encoder.finish()
            await self._send(anyway=True)
        await self.tell_final()

    async def tell_final(self) -> None:
        """`isFinal` is true and nothing else is: their clients test its identity."""
        await self._tell(audio=None, isFinal=True, **_times(None))

    def _note(self, found: Alignment) -> None:
        shift_s = self._sound_s
        starts_s = [shift_s + start_s for start_s in found.starts_s]
        ends_s = [shift_s + end_s for end_s in found.ends_s]
        self._characters.extend(Alignment(found.characters, starts_s, ends_s))

    async def _send(self, *, anyway: bool = False) -> None:
        found = self._characters
        if not self._held or not (found.characters or anyway):
            return
        times = None
        if found.characters:
            clock_s = 0.0 if self._query.sync_alignment else self._sent_s
            times = _milliseconds(found, clock_s)
            self._sent_s, self._characters = found.ends_s[-1], Alignment()
        data, self._held = self._held, b""
        await self._tell(audio=_base64(data), isFinal=False, **_times(times))

    async def _tell(self, **body: Any) -> None:
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
