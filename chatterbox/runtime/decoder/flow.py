"""How do windows of codes become mel frames?

Knows a flow's session and its noise; nothing of vocoders and deadlines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from chatterbox.arrays import F32
from chatterbox.families.base import DecodeJob, Voice
from chatterbox.families.turbo.spec import MEL_BANDS, MEL_FRAMES_PER_CODE, SILENCE_CODE
from chatterbox.runtime.decoder.graph_io import (
    CODES,
    LENGTHS,
    PROMPT_MEL,
    SPEAKER,
    Feeds,
    RandomOp,
    Session,
    as_declared,
    row_lengths,
)
from chatterbox.runtime.decoder.shape_laws import LinearDim, ProbeLength
from chatterbox.runtime.decoder.stream_inputs import NoiseInputs, Place

if TYPE_CHECKING:
    from chatterbox.runtime.decoder.prompt_kv_cache import Memory


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A session and what became of its draws."""

    session: Session
    draws: Mapping[RandomOp, list[LinearDim]]


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

    def mels(self, jobs: Sequence[DecodeJob]) -> list[F32]:
        """[80, 2 × fed codes] for each job; jobs have prompts of one length."""
        ...

    def warm(self, voice: Voice) -> None:
        """Compute once, and keep, what windows in this voice will need; may do nothing."""
        ...


class PlainFlow:
    """Every window is decoded with all of the prompt before it."""

    def __init__(self, part: Part, mel: str, prompt_codes: int) -> None:
        self.part = part
        self._session, self._mel, self._prompt_codes = part.session, mel, prompt_codes
        self._lengths = any(i.name == LENGTHS for i in part.session.get_inputs())
        self._draws = NoiseInputs(part.draws, first_stream=0)
        self.sources = len(part.draws)

    def prompt(self, job: DecodeJob) -> int:
        """As long as is set, if the voice has as much."""
        return min(len(stream_of(job).voice.data.prompt_codes), self._prompt_codes)

    def mels(self, jobs: Sequence[DecodeJob]) -> list[F32]:
        """In one call; shorter rows are padded behind, which must have been proven harmless."""
        prompt = self.prompt(jobs[0])
        fed = [job.window.fed_frames for job in jobs]
        length = ProbeLength(prompt, max(fed))
        streams = [stream_of(job) for job in jobs]
        rows = [
            fed_to_flow(stream.voice, prompt, job.tokens, length.codes)
            for stream, job in zip(streams, jobs, strict=True)
        ]
        feeds: Feeds = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        if self._lengths:
            feeds[LENGTHS] = row_lengths([prompt + n for n in fed])
        places = [Place(length, job.window.begin) for job in jobs]
        feeds |= self._draws.feeds([stream.seed for stream in streams], places)
        mel = self._session.run([self._mel], as_declared(self._session, feeds))[0]
        return [mel[row, :, : n * MEL_FRAMES_PER_CODE] for row, n in enumerate(fed)]

    def warm(self, voice: Voice) -> None:
        """Nothing is kept."""


def fed_to_flow(
    voice: Voice, prompt: int, codes: np.ndarray[tuple[int], np.dtype[np.int64]], count: int
) -> Feeds:
    """One row: `prompt` codes of the voice, then `codes`, then silence up to `count`."""
    tensors = voice.data
    fed = np.full((1, prompt + count), SILENCE_CODE, np.int64)
    fed[0, :prompt] = tensors.prompt_codes[:prompt]
    fed[0, prompt : prompt + len(codes)] = codes
    return {
        CODES: fed,
        SPEAKER: tensors.speaker[None],
        PROMPT_MEL: tensors.prompt_mel[None, : prompt * MEL_FRAMES_PER_CODE],
    }
