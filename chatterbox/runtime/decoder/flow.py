"""Runs the flow, which turns windows of codes into mel frames.

A voice's prompt is the longer part of most windows, and the same in each. `PlainFlow` decodes the
prompt in every window. `CachedPromptFlow` decodes the prompt once per voice and caches its keys and
values in every attention; the frames of each window attend to these. The prompt's frames then
cannot attend to the window. Instead, the prompt is decoded with its own codes repeated after it.
The result is as close to a one-shot decode as that of `PlainFlow` (docs/inside/decoder.md).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.families.base import DecodeJob, Voice
from chatterbox.runtime.decoder.graph_io import (
    CODES,
    PROMPT_MEL,
    SPEAKER,
    Array,
    Feeds,
    LinearDim,
    ProbeLength,
    RandomOp,
    Session,
    cast_feeds,
    pad_rows,
    past_input,
    time_axis,
)
from chatterbox.runtime.decoder.s3gen import MEL_BANDS, MEL_FRAMES_PER_CODE, SILENCE_CODE
from chatterbox.runtime.decoder.stream import stream_of
from chatterbox.runtime.decoder.stream_inputs import NoiseInputs, Place
from chatterbox.runtime.lru import ByteLru

OVERLAP_CODES = 8
"""Codes at the end of the prompt that are decoded again with a stream's first window, so that the
window's first codes have left context."""
MEMORY_SEED = 0
"""Seed of a prompt's noise: all streams of a voice share its memory."""


class Flow(ABC):
    """Turns windows into mel frames."""

    noise: NoiseInputs
    prompt_codes: int

    def prompt(self, voice: Voice) -> int:
        """Return the number of prompt codes before a window: the setting, or the voice's number of
        codes if that is lower."""
        return min(len(voice.data.prompt_codes), self.prompt_codes)

    def warm(self, voice: Voice) -> None:  # noqa: B027
        """See `StreamingDecoder.warm`; does nothing by default."""

    @abstractmethod
    def mels(self, jobs: Sequence[DecodeJob], codes: int, rows: int) -> list[F32]:
        """Return [80, 2 × fed codes] for each job. All jobs have prompts of one length; a shared
        call is padded to `codes` codes after the prompt and to `rows` rows."""


class PlainFlow(Flow):
    """Decodes every window with the whole prompt before it, all jobs in one call."""

    def __init__(
        self,
        session: Session,
        randoms: Mapping[RandomOp, list[LinearDim]],
        mel: str,
        prompt_codes: int,
        *,
        repeat_prompt: bool,
    ) -> None:
        """`repeat_prompt`: repeat a shorter prompt until it has `prompt_codes` codes."""
        self.session, self.noise = session, NoiseInputs.of(session, randoms)
        self._mel, self.prompt_codes, self._repeat_prompt = mel, prompt_codes, repeat_prompt

    def prompt(self, voice: Voice) -> int:
        codes = super().prompt(voice)
        return self.prompt_codes if self._repeat_prompt and codes else codes

    def mels(self, jobs: Sequence[DecodeJob], codes: int, rows: int) -> list[F32]:
        streams = [stream_of(job) for job in jobs]
        prompt = self.prompt(streams[0].voice)
        pairs = zip(streams, jobs, strict=True)
        each = [flow_feeds(stream.voice, prompt, job.tokens, codes) for stream, job in pairs]
        feeds: Feeds = {name: np.concatenate([row[name] for row in each]) for name in each[0]}
        places = [Place(ProbeLength(prompt, codes), job.window.begin) for job in jobs]
        feeds |= self.noise.feeds([stream.seed for stream in streams], places)
        feeds = cast_feeds(self.session, pad_rows(feeds, rows))
        mel = self.session.run([self._mel], feeds)[0]
        frames = [job.window.fed_frames * MEL_FRAMES_PER_CODE for job in jobs]
        return [mel[row, :, :count] for row, count in enumerate(frames)]


def flow_feeds(voice: Voice, prompt: int, codes: I64, count: int) -> Feeds:
    """Return the flow's inputs for one row: `prompt` codes of the voice, `codes`, and silence.

    A shorter prompt is repeated up to `prompt` codes; silence fills up to `count` codes.
    """
    tensors = voice.data
    available = len(tensors.prompt_codes)
    at = slice(0, prompt) if prompt <= available else np.arange(-prompt, 0) % available
    mel = tensors.prompt_mel.reshape(available, MEL_FRAMES_PER_CODE, MEL_BANDS)[at]
    row = np.full((1, prompt + count), SILENCE_CODE, np.int64)
    row[0, :prompt] = tensors.prompt_codes[at]
    row[0, prompt : prompt + len(codes)] = codes
    return {
        CODES: row,
        SPEAKER: tensors.speaker[None],
        PROMPT_MEL: mel.reshape(1, prompt * MEL_FRAMES_PER_CODE, MEL_BANDS),
    }


@dataclass(frozen=True, slots=True, eq=False)
class PromptMemory:
    """Keys and values of a voice's decoded prompt."""

    codes: int
    frames: Mapping[str, F32]  # inputs of the estimator: [1, 2 × codes, width]

    @property
    def nbytes(self) -> int:
        return sum(values.nbytes for values in self.frames.values())

    def without_last(self, codes: int) -> Feeds:
        """Return all but the last `codes` codes."""
        frames = (self.codes - codes) * MEL_FRAMES_PER_CODE
        return {name: values[:, :frames] for name, values in self.frames.items()}


class EncoderOutput(NamedTuple):
    """Rule that cuts an encoder output for the whole prompt down to a shorter prompt."""

    shape: list[LinearDim]
    counts: list[LinearDim] | None  # the values, if they follow from the length

    def cut(self, values: Array, length: ProbeLength) -> Array:
        """Return the encoder's output for the last `length` codes alone."""
        if self.counts is not None:
            counted = [extent.at(length) for extent in self.counts]
            return np.array(counted, values.dtype).reshape(values.shape)
        axis = time_axis(self.shape)
        if axis is None:
            return values
        steps = values.shape[axis]
        last = range(steps - self.shape[axis].at(length), steps)
        return np.ascontiguousarray(values.take(last, axis=axis))


@dataclass(frozen=True, slots=True)
class PromptKV:
    """Tensors between the encoder and the estimator of a flow with a cached prompt."""

    outputs: Mapping[str, EncoderOutput]  # from the encoder to the estimator
    widths: Mapping[str, int]  # of the keys and values that the estimator returns


class CachedPromptFlow(Flow):
    """Decodes a voice's prompt once, with an encoder and an estimator; one row per call."""

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
        """`memory_bytes`: size of the cache of prompts."""
        self._encoder, self._estimator = encoder, estimator
        self._kv, self.noise = kv, NoiseInputs.of(estimator, randoms)
        self._mel, self.prompt_codes = mel, prompt_codes
        self._memories: ByteLru[PromptMemory] = ByteLru(memory_bytes)

    def mels(self, jobs: Sequence[DecodeJob], codes: int, rows: int) -> list[F32]:  # noqa: ARG002
        """Decode the jobs one after the other, without padding."""
        return [self._decode(job) for job in jobs]

    def warm(self, voice: Voice) -> None:
        """Cache the voice's prompt, unless it would displace another prompt."""
        frames = self.prompt(voice) * MEL_FRAMES_PER_CODE
        if self._memories.has_room(frames * sum(self._kv.widths.values()) * np.float32().itemsize):
            self._memory_of(voice)

    def _decode(self, job: DecodeJob) -> F32:
        stream, window = stream_of(job), job.window
        memory: PromptMemory = stream.memory or self._memory_of(stream.voice)
        stream.memory = memory
        feeds = flow_feeds(stream.voice, memory.codes, job.tokens, window.fed_frames)
        overlap = min(OVERLAP_CODES, memory.codes) if window.begin == 0 else 0
        place = Place(ProbeLength(overlap, window.fed_frames), window.begin)
        past = memory.without_last(overlap)
        mel: F32 = self.run(feeds, place, stream.seed, past, [self._mel])[0][0]
        return mel

    def _memory_of(self, voice: Voice) -> PromptMemory:
        memory = self._memories.get(voice.key)
        if memory is None:
            memory = self.remember(voice, self.prompt(voice))
            self._memories.put(voice.key, memory, memory.nbytes)
        return memory

    def remember(self, voice: Voice, codes: int) -> PromptMemory:
        """Decode the first `codes` codes of the voice's prompt, followed by the same codes."""
        feeds = flow_feeds(voice, codes, voice.data.prompt_codes[:codes], codes)
        place = Place(ProbeLength(codes, codes), 0)
        frames = codes * MEL_FRAMES_PER_CODE
        names = list(self._kv.widths)
        kv = zip(names, self.run(feeds, place, MEMORY_SEED, self.no_memory(), names), strict=True)
        return PromptMemory(
            codes, {past_input(n): np.ascontiguousarray(values[:, :frames]) for n, values in kv}
        )

    def no_memory(self) -> Feeds:
        """Return empty keys and values, with which `run` decodes all codes in its feeds."""
        widths = self._kv.widths.items()
        return {past_input(name): np.zeros((1, 0, width), np.float32) for name, width in widths}

    def run(
        self, feeds: Feeds, place: Place, seed: int, memory: Feeds, outputs: Sequence[str]
    ) -> list[Array]:
        """Run the estimator at `place`, which may begin within the prompt in `feeds`."""
        noise = self.noise.feeds([seed], [place])
        return self.run_with(feeds, place.length, noise | memory, outputs)

    def run_with(
        self, feeds: Feeds, length: ProbeLength, inputs: Feeds, outputs: Sequence[str]
    ) -> list[Array]:
        """Run the estimator with noise and memory from `inputs`."""
        encoded = run_encoder(self._encoder, self._kv.outputs, feeds)
        cut = {name: rule.cut(encoded[name], length) for name, rule in self._kv.outputs.items()}
        return list(
            self._estimator.run(list(outputs), cast_feeds(self._estimator, {**cut, **inputs}))
        )


def run_encoder(encoder: Session, names: Iterable[str], feeds: Feeds) -> Feeds:
    """Return the tensors `names`: inputs of the flow from `feeds`, others from the encoder."""
    made = [name for name in names if name not in feeds]
    wanted = {i.name: feeds[i.name] for i in encoder.get_inputs()}
    values = encoder.run(made, cast_feeds(encoder, wanted))
    return {n: feeds[n] for n in names if n in feeds} | dict(zip(made, values, strict=True))
