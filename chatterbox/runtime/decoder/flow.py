"""Runs the flow: windows of codes become mel frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from chatterbox.arrays import F32
from chatterbox.families.base import DecodeJob, Voice
from chatterbox.runtime.decoder.graph_io import (
    CODES,
    PROMPT_MEL,
    SPEAKER,
    Feeds,
    RandomOp,
    Session,
    as_declared,
)
from chatterbox.runtime.decoder.s3gen import MEL_BANDS, MEL_FRAMES_PER_CODE, SILENCE_CODE
from chatterbox.runtime.decoder.shape_laws import LinearDim, ProbeLength
from chatterbox.runtime.decoder.stream_inputs import NoiseInputs, Place

if TYPE_CHECKING:
    from chatterbox.runtime.decoder.prompt_kv_cache import Memory


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
    carry: Feeds | None = None  # the vocoder's running sums
    memory: "Memory | None" = None  # of the voice's prompt, where the flow keeps one


def stream_of(job: DecodeJob) -> Stream:
    """The job's stream, which this decoder has opened."""
    assert isinstance(job.stream, Stream), "a stream goes back to the decoder that opened it"
    return job.stream


class Flow(Protocol):
    """Windows → mel frames."""

    @property
    def sources(self) -> int:
        """How many sources of noise it uses; the vocoder's come behind them."""
        ...

    def prompt(self, job: DecodeJob) -> int:
        """How many codes of the voice's prompt the job is decoded behind."""
        ...

    def mels(self, jobs: Sequence[DecodeJob], codes: int, rows: int) -> list[F32]:
        """[80, 2 × fed codes] for each job; jobs have prompts of one length. The call is made for
        so many codes behind the prompt, and so many rows."""
        ...

    def warm(self, voice: Voice) -> None:
        """Compute once, and keep, what windows in this voice will need; may do nothing."""
        ...


class PlainFlow:
    """Every window is decoded with all of the prompt before it."""

    def __init__(self, part: Part, mel: str, prompt_codes: int, *, one_prompt: bool) -> None:
        """`one_prompt`: a voice's shorter prompt is said again until it is as long as others."""
        self.part = part
        self._session, self._mel, self._prompt_codes = part.session, mel, prompt_codes
        self._one_prompt = one_prompt
        self._draws = part.noise(first_stream=0)
        self.sources = len(part.draws)

    def prompt(self, job: DecodeJob) -> int:
        """As long as is set, if the voice has as much."""
        codes = len(stream_of(job).voice.data.prompt_codes)
        return self._prompt_codes if self._one_prompt and codes else min(codes, self._prompt_codes)

    def mels(self, jobs: Sequence[DecodeJob], codes: int, rows: int) -> list[F32]:
        """In one call."""
        prompt = self.prompt(jobs[0])
        streams = [stream_of(job) for job in jobs]
        fed = [
            fed_to_flow(stream.voice, prompt, job.tokens, codes)
            for stream, job in zip(streams, jobs, strict=True)
        ]
        feeds: Feeds = {name: np.concatenate([row[name] for row in fed]) for name in fed[0]}
        places = [Place(ProbeLength(prompt, codes), job.window.begin) for job in jobs]
        feeds |= self._draws.feeds([stream.seed for stream in streams], places)
        feeds = as_declared(self._session, filled(feeds, rows))
        mel = self._session.run([self._mel], feeds)[0]
        return [
            mel[row, :, : job.window.fed_frames * MEL_FRAMES_PER_CODE]
            for row, job in enumerate(jobs)
        ]

    def warm(self, voice: Voice) -> None:
        """Nothing is kept."""


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
