"""Runs the flow: windows of codes become mel frames.

A voice's prompt is the longer part of most windows, and the same in all of them. `PlainFlow`
decodes it in each; `CachedPromptFlow` once for each voice: of every attention the keys and values
of its frames are kept, and a window's frames look at these. What is lost: the prompt's frames no
longer look at the window's. In their place they look at the prompt's own codes said once more,
which is as near to the one-shot decode as windows with the whole prompt are
(docs/inside/decoder.md).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import F32
from chatterbox.families.base import DecodeJob, Voice
from chatterbox.runtime.decoder.graph_io import (
    CODES,
    PROMPT_MEL,
    SPEAKER,
    Feeds,
    LinearDim,
    ProbeLength,
    RandomOp,
    Session,
    as_declared,
    past,
    time_axis,
)
from chatterbox.runtime.decoder.s3gen import MEL_BANDS, MEL_FRAMES_PER_CODE, SILENCE_CODE
from chatterbox.runtime.decoder.stream_inputs import NoiseInputs, Place
from chatterbox.runtime.lru import ByteLru

AGAIN_CODES = 8
"""Of the prompt, decoded again before a stream's first codes: what they are joined on to."""
MEMORY_SEED = 0
"""The prompt's own noise: a voice's memory serves all streams."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A session and what became of its draws."""

    session: Session
    draws: Mapping[RandomOp, list[LinearDim]]
    from_table: frozenset[RandomOp] = frozenset()

    @classmethod
    def of(cls, session: Session, randoms: Mapping[RandomOp, list[LinearDim]]) -> "Part":
        """With those of `randoms` that its graph is given, or makes from a table."""
        inputs = {i.name for i in session.get_inputs()}
        draws = {op: law for op, law in randoms.items() if {op.name, op.rows} & inputs}
        return cls(session, draws, frozenset(op for op in draws if op.rows in inputs))

    def noise(self, first_stream: int) -> NoiseInputs:
        """What its draws are fed with."""
        return NoiseInputs(self.draws, first_stream, self.from_table)


@dataclass(slots=True, eq=False)
class Stream:
    """What is kept of a stream between two windows."""

    voice: Voice
    seed: int
    mel: F32 = field(default_factory=lambda: np.zeros((MEL_BANDS, 0), np.float32))  # [80, frames]:
    # the last frames before the next window's first new one
    carry: Any = None  # what the codec goes on from: a vocoder's running sums, SNAC's layers
    memory: "Memory | None" = None  # of the voice's prompt, where the flow keeps one


def stream_of(job: DecodeJob) -> Stream:
    """The job's stream, which this decoder has opened."""
    assert isinstance(job.stream, Stream), "a stream goes back to the decoder that opened it"
    return job.stream


class Flow(ABC):
    """Windows → mel frames."""

    sources: int  # how many sources of noise it uses; the vocoder's come behind them
    prompt_codes: int

    def prompt(self, voice: Voice) -> int:
        """How many codes of its prompt a voice's windows are decoded behind: as many as are set, if
        it has as many."""
        return min(len(voice.data.prompt_codes), self.prompt_codes)

    def warm(self, voice: Voice) -> None:  # noqa: B027
        """Compute once, and keep, what windows in this voice will need; may do nothing."""

    @abstractmethod
    def mels(self, jobs: Sequence[DecodeJob], codes: int, rows: int) -> list[F32]:
        """[80, 2 × fed codes] for each job; jobs have prompts of one length. The call is made for
        so many codes behind the prompt, and so many rows."""


class PlainFlow(Flow):
    """Every window is decoded with all of the prompt before it."""

    def __init__(self, part: Part, mel: str, prompt_codes: int, *, one_prompt: bool) -> None:
        """`one_prompt`: a voice's shorter prompt is said again until it is as long as others."""
        self.part = part
        self._session, self._mel, self.prompt_codes = part.session, mel, prompt_codes
        self._one_prompt = one_prompt
        self._draws, self.sources = part.noise(first_stream=0), len(part.draws)

    def prompt(self, voice: Voice) -> int:
        codes = super().prompt(voice)
        return self.prompt_codes if self._one_prompt and codes else codes

    def mels(self, jobs: Sequence[DecodeJob], codes: int, rows: int) -> list[F32]:
        """In one call."""
        streams = [stream_of(job) for job in jobs]
        prompt = self.prompt(streams[0].voice)
        both = zip(streams, jobs, strict=True)
        fed = [fed_to_flow(stream.voice, prompt, job.tokens, codes) for stream, job in both]
        feeds: Feeds = {name: np.concatenate([row[name] for row in fed]) for name in fed[0]}
        places = [Place(ProbeLength(prompt, codes), job.window.begin) for job in jobs]
        feeds |= self._draws.feeds([stream.seed for stream in streams], places)
        feeds = as_declared(self._session, filled(feeds, rows))
        mel = self._session.run([self._mel], feeds)[0]
        return [
            mel[row, :, : job.window.fed_frames * MEL_FRAMES_PER_CODE]
            for row, job in enumerate(jobs)
        ]


def fed_to_flow(
    voice: Voice, prompt: int, codes: np.ndarray[tuple[int], np.dtype[np.int64]], count: int
) -> Feeds:
    """One row: `prompt` codes of the voice, which is said again where it has fewer, then `codes`,
    then silence up to `count`."""
    tensors = voice.data
    has = len(tensors.prompt_codes)
    said = slice(0, prompt) if prompt <= has else np.arange(-prompt, 0) % has
    mel = tensors.prompt_mel.reshape(has, MEL_FRAMES_PER_CODE, MEL_BANDS)[said]
    fed = np.full((1, prompt + count), SILENCE_CODE, np.int64)
    fed[0, :prompt] = tensors.prompt_codes[said]
    fed[0, prompt : prompt + len(codes)] = codes
    return {
        CODES: fed,
        SPEAKER: tensors.speaker[None],
        PROMPT_MEL: mel.reshape(1, prompt * MEL_FRAMES_PER_CODE, MEL_BANDS),
    }


def filled(feeds: Feeds, rows: int) -> Feeds:
    """With rows of zeros up to so many, of which nothing is used."""
    missing = rows - len(next(iter(feeds.values())))
    if not missing:
        return feeds
    return {
        name: np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)])
        for name, values in feeds.items()
    }


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What is kept of a voice's prompt."""

    codes: int
    frames: Mapping[str, F32]  # past inputs: [1, 2 × codes, width]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(values.nbytes for values in self.frames.values())

    def without_last(self, codes: int) -> Feeds:
        """All but the last `codes` of it."""
        frames = (self.codes - codes) * MEL_FRAMES_PER_CODE
        return {name: values[:, :frames] for name, values in self.frames.items()}


class EncoderOutput(NamedTuple):
    """One tensor that the encoder tells the estimator, and how it would be were the prompt
    shorter."""

    shape: list[LinearDim]
    counts: list[LinearDim] | None  # the numbers themselves, where they count something

    def cut(self, values: NDArray[Any], length: ProbeLength) -> NDArray[Any]:
        """For the last `length` of what it was made for."""
        if self.counts is not None:
            counted = [extent.at(length) for extent in self.counts]
            return np.array(counted, values.dtype).reshape(values.shape)
        axis = time_axis(self.shape)
        if axis is None:
            return values
        steps = values.shape[axis]
        kept = range(steps - self.shape[axis].at(length), steps)
        return np.ascontiguousarray(values.take(kept, axis=axis))


@dataclass(frozen=True, slots=True)
class PromptKV:
    """What a flow with a remembered prompt hands from its encoder to its estimator."""

    outputs: Mapping[str, EncoderOutput]  # all that the estimator is told
    widths: Mapping[str, int]  # of the keys and values that it gives


class CachedPromptFlow(Flow):
    """Of two sessions, one row a call; decodes a voice's prompt once."""

    def __init__(
        self,
        encoder: Session,
        estimator: Session,
        kv: PromptKV,
        randoms: Mapping[RandomOp, list[LinearDim]],
        mel: str,
        prompt_codes: int,
        memory_bytes: int,
    ) -> None:
        self._encoder, self._estimator = encoder, estimator
        self._told, self._widths = kv.outputs, kv.widths
        draws = Part.of(estimator, randoms).draws
        self._draws, self.sources = NoiseInputs(draws, first_stream=0), len(draws)
        self._mel, self.prompt_codes = mel, prompt_codes
        self._memories: ByteLru[Memory] = ByteLru(memory_bytes)

    def mels(self, jobs: Sequence[DecodeJob], codes: int, rows: int) -> list[F32]:  # noqa: ARG002
        """One after the other, as long as each is."""
        return [self._mel_of(job) for job in jobs]

    def warm(self, voice: Voice) -> None:
        """Have the voice's memory, unless it would push out another one."""
        frames = self.prompt(voice) * MEL_FRAMES_PER_CODE
        if self._memories.has_room(frames * sum(self._widths.values()) * np.float32().itemsize):
            self._memory_of(voice)

    def _mel_of(self, job: DecodeJob) -> F32:
        stream, window = stream_of(job), job.window
        stream.memory = memory = stream.memory or self._memory_of(stream.voice)
        feeds = fed_to_flow(stream.voice, memory.codes, job.tokens, window.fed_frames)
        again = min(AGAIN_CODES, memory.codes) if window.begin == 0 else 0
        place = Place(ProbeLength(again, window.fed_frames), window.begin)
        kept = memory.without_last(again)
        mel: F32 = self.run(feeds, place, stream.seed, kept, [self._mel])[0][0]
        return mel

    def _memory_of(self, voice: Voice) -> Memory:
        memory = self._memories.get(voice.key)
        if memory is None:
            memory = self.remember(voice, self.prompt(voice))
            self._memories.put(voice.key, memory, memory.nbytes)
        return memory

    def remember(self, voice: Voice, codes: int) -> Memory:
        """The first `codes` of the voice's prompt, with the same codes said again behind it."""
        feeds = fed_to_flow(voice, codes, voice.data.prompt_codes[:codes], codes)
        place = Place(ProbeLength(codes, codes), 0)
        frames = codes * MEL_FRAMES_PER_CODE
        kept = self.run(feeds, place, MEMORY_SEED, self.nothing(), list(self._widths))
        return Memory(
            codes,
            {
                past(name): np.ascontiguousarray(values[:, :frames])
                for name, values in zip(self._widths, kept, strict=True)
            },
        )

    def nothing(self) -> Feeds:
        """No memory at all: with the whole prompt in `run`, the flow as it was."""
        return {past(n): np.zeros((1, 0, width), np.float32) for n, width in self._widths.items()}

    def run(
        self, feeds: Feeds, place: Place, seed: int, memory: Feeds, outputs: Sequence[str]
    ) -> list[NDArray[Any]]:
        """The estimator at `place`, which may begin in the middle of the prompt in `feeds`."""
        drawn = self._draws.feeds([seed], [place])
        return self.run_on(feeds, place.length, {**drawn, **memory}, outputs)

    def run_on(
        self, feeds: Feeds, length: ProbeLength, more: Feeds, outputs: Sequence[str]
    ) -> list[NDArray[Any]]:
        """As `run`, with draws and memory given in `more`."""
        given = tell(self._encoder, self._told, feeds)
        cut = {name: told.cut(given[name], length) for name, told in self._told.items()}
        return list(
            self._estimator.run(list(outputs), as_declared(self._estimator, {**cut, **more}))
        )


def tell(encoder: Session, names: Iterable[str], feeds: Feeds) -> Feeds:
    """What the estimator is told of a flow's inputs; some it is given itself."""
    made = [name for name in names if name not in feeds]
    wanted = {i.name: feeds[i.name] for i in encoder.get_inputs()}
    told = encoder.run(made, as_declared(encoder, wanted))
    return {**{n: feeds[n] for n in names if n in feeds}, **dict(zip(made, told, strict=True))}
