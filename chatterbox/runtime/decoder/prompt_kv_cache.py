"""Decodes a voice's prompt once instead of in every window: keeps its keys and values.

The prompt is the longer part of most windows, and the same in all of them. Its frames go through
the estimator once for each voice; of every attention their keys and values are kept, and a
window's frames look at these. What is lost: the prompt's frames no longer look at the window's.
In their place they look at the prompt's own codes said once more, which is as near to the
one-shot decode as windows with the whole prompt are (docs/inside/decoder.md).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import F32
from chatterbox.families.base import DecodeJob, Voice
from chatterbox.runtime.decoder.flow import fed_to_flow, stream_of
from chatterbox.runtime.decoder.graph_io import Feeds, RandomOp, Session, as_declared, past
from chatterbox.runtime.decoder.s3gen import MEL_FRAMES_PER_CODE
from chatterbox.runtime.decoder.shape_laws import LinearDim, ProbeLength, time_axis
from chatterbox.runtime.decoder.stream_inputs import NoiseInputs, Place
from chatterbox.runtime.lru import ByteLru

AGAIN_CODES = 8
"""Of the prompt, decoded again before a stream's first codes: what they are joined on to."""
MEMORY_SEED = 0
"""The prompt's own noise: a voice's memory serves all streams."""


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


@dataclass(frozen=True, slots=True)
class EncoderOutput:
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


class CachedPromptFlow:
    """A `Flow` of two sessions, one row a call."""

    def __init__(
        self,
        encoder: Session,
        second: Session,
        told: Mapping[str, EncoderOutput],
        widths: Mapping[str, int],
        draws: Mapping[RandomOp, list[LinearDim]],
        mel: str,
        prompt_codes: int,
        memory_bytes: int,
    ) -> None:
        """`told`: all that the estimator is told; `widths`: of the keys and values it gives."""
        self._encoder, self._estimator = encoder, second
        self._told, self._widths = told, widths
        self._draws = NoiseInputs(draws, first_stream=0)
        self.sources = len(draws)
        self._mel, self._prompt_codes = mel, prompt_codes
        self._memories: ByteLru[Memory] = ByteLru(memory_bytes)

    def prompt(self, job: DecodeJob) -> int:
        """As long as is set, if the voice has as much."""
        return self._prompt_of(stream_of(job).voice)

    def mels(self, jobs: Sequence[DecodeJob], codes: int, rows: int) -> list[F32]:  # noqa: ARG002
        """One after the other, as long as each is."""
        return [self._mel_of(job) for job in jobs]

    def warm(self, voice: Voice) -> None:
        """Have the voice's memory, unless it would push out another one."""
        frames = self._prompt_of(voice) * MEL_FRAMES_PER_CODE
        if self._memories.has_room(frames * sum(self._widths.values()) * np.float32().itemsize):
            self._memory_of(voice)

    def _prompt_of(self, voice: Voice) -> int:
        return min(len(voice.data.prompt_codes), self._prompt_codes)

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
            memory = self.remember(voice, self._prompt_of(voice))
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
