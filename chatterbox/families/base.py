"""The interface between the engine and a model family: data classes and protocols.

The engine converts between tokens, frames and samples with a `CodecSpec`, treats `Prompt` and
`Voice` as opaque, and drives a `LanguageModel` and a `StreamingDecoder`. The language model
generates one token per step; a frame is the smallest unit that the codec decodes.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from chatterbox.arrays import F32, I64
from chatterbox.families.sampling import Processor
from chatterbox.text.segment import SegmentLimits, finish


@dataclass(frozen=True, slots=True)
class CodecSpec:
    """Rates and context of a codec, which turns tokens into audio."""

    sample_rate_hz: int
    tokens_per_frame: int
    samples_per_frame: int
    look_ahead_frames: int  # frames after a window that are needed to decode it
    left_context_frames: int  # frames before a window that are decoded with it, if there are any
    tail_frames: int = 0  # frames that the decoder adds after a stream's last window
    fade_in_frames: int = 0  # frames at the start of every call that are muted or faded in
    delay_samples: int = 0
    """Samples at a window's end that are not final despite `look_ahead_frames`. A codec that sees
    4757 samples ahead has a look-ahead of 2 frames of 2048 samples, and a delay of 661 samples."""
    cross_fade_ms: int = 15  # overlap in which windows are blended; 0 if they agree up to rounding
    silence_tokens: frozenset[int] = frozenset()  # tokens known to be silent

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second of audio."""
        return self.sample_rate_hz / self.samples_per_frame

    @property
    def token_rate_hz(self) -> float:
        """Tokens per second of audio."""
        return self.frame_rate_hz * self.tokens_per_frame


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """Vocabulary of a language model, and the rules for sampling its next token.

    A frame consists of `len(starts)` tokens in a fixed order: token n of a sequence is at place
    n modulo `len(starts)` of its frame, where only the `width` tokens from `starts[place]` on are
    allowed. Stop tokens are allowed only between two frames, and so never first.
    """

    vocabulary: int  # width of the logits
    stop: frozenset[int]
    starts: tuple[int, ...]  # by place
    width: int
    processors: tuple[Processor, ...]  # in the order in which the model's authors apply them


@dataclass(frozen=True, slots=True)
class Family:
    """Facts about a model family. A checkpoint that differs gets a copy made by `replace`."""

    name: str
    codec: CodecSpec
    tokens: TokenSpec
    tags: frozenset[str]
    """Names of non-speech sounds that a text may contain. Users write `[laugh]` or `<laugh>`;
    `Prompts.prompt` always gets `[laugh]` and translates it to the form in the training data."""
    languages: tuple[str, ...]  # ISO 639-1
    title: str = ""  # name shown to users
    sampling: Mapping[str, float] = field(default_factory=dict)
    """The authors' sampling parameters, by name of the setting. A model's `generation_config.json`
    takes precedence (`LoadedModel.sampling`)."""
    segments: SegmentLimits = field(default_factory=SegmentLimits)  # sizes spoken well
    max_tokens: int = 1024  # default limit of tokens per segment
    clean_up: Callable[[str], str] = finish
    """Cleans up a segment's text before tokenisation as the authors' program does; adds a full
    stop."""
    token_text: Callable[[int], str] | None = None
    """Formats a token for clients that decode tokens themselves; None if there are no such
    clients."""


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """An encoded voice. Voices with equal `key` have equal data, so caches use the key."""

    key: str
    data: Any  # type defined by the family


class Prompt(Protocol):
    """Input of a language model before the first token; opaque to the engine."""

    def __len__(self) -> int:
        """Return the number of positions that the prompt takes in a slot."""

    @property
    def text_tokens(self) -> int:
        """Positions that belong to the text."""

    @property
    def prefix_key(self) -> str | None:
        """Key of the prompt's prefix in the cache; None if the prefix cannot be cached."""


class Prompts(Protocol):
    """Makes prompts from texts and voices."""

    def prompt(self, text: str, voice: Voice) -> Prompt:
        """Return the prompt of a segment. Raises EmptyText if the text has no tokens."""

    def prefix(self, voice: Voice) -> Prompt:
        """Return the common prefix of all prompts of a voice, for `LanguageModel.cache_prefix`."""


class LanguageModel(Protocol):
    """A language model with a fixed number of slots, each for one sequence of any length.

    Only the generation thread calls the methods. A call that raises has changed nothing: a slot
    whose `prefill` failed is free. `runtime/ort_errors.py` classifies the exceptions.
    """

    slots: int  # number of concurrent sequences
    capacity: int  # positions in a slot, for prompt and tokens
    vocab: int  # width of the logits

    def prefill(self, slot: int, prompt: Any) -> F32:
        """Fill `slot` with `prompt`, a `Prompt` of the same family. Returns logits [vocab] for the
        first token."""

    def decode(self, slots: Sequence[int], tokens: I64) -> F32:
        """Append one of `tokens` [B] to each of `slots`. Returns logits [B, vocab] in the same
        order; the next call may overwrite them."""

    def free(self, slot: int) -> None:
        """Forget the sequence in a slot."""

    def cache_prefix(self, prompt: Any) -> None:
        """Compute and cache the state of this prompt's prefix if there is memory for it, so that
        `prefill` is faster. May do nothing."""


@dataclass(frozen=True, slots=True)
class Window:
    """A range of frames that are decoded together, counted from the segment's first frame."""

    begin: int  # first frame to decode, left context included
    fresh: int  # first frame that no earlier window decoded
    end: int  # end of the frames whose samples are final
    stop: int  # end of the frames to decode, look-ahead included
    last: bool  # whether the tail is decoded too, so that all samples are final
    codec: CodecSpec

    @property
    def tail_frames(self) -> int:
        """Frames that the decoder adds after the window's own."""
        return self.codec.tail_frames if self.last else 0

    @property
    def fed_frames(self) -> int:
        """Frames that the decoder processes, including the tail but not the prompt."""
        return self.stop - self.begin + self.tail_frames

    @property
    def end_sample(self) -> int:
        """End of the final samples, counted from the segment's first sample."""
        delay = 0 if self.last else self.codec.delay_samples
        return (self.end + self.tail_frames) * self.codec.samples_per_frame - delay


class DecodeStream(Protocol):
    """A decoder's state for one stream, created by `StreamingDecoder.open`.

    The engine keeps the state; only the decoder reads it. The windows of a stream are decoded one
    at a time, in order.
    """

    voice: Voice


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """A window of a stream to decode."""

    stream: DecodeStream
    window: Window
    tokens: I64  # tokens of the frames from window.begin to window.stop, without prompt and tail
    next_sample: int  # first sample to return, counted from the segment's first (`Crossfader`)
    resume_sample: int  # `next_sample` of the stream's next job


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """Result of a `DecodeJob`."""

    samples: F32  # [n], final
    at: int  # position of the first sample: the job's `next_sample` or earlier


class StreamingDecoder(Protocol):
    """Turns windows of tokens into samples. Not thread-safe."""

    codec: CodecSpec  # the family's, with the context that this decoder needs
    window_frames: tuple[int, ...]
    """Preferred numbers of fresh frames in a window, ascending, so that rows of equal shape share
    calls; empty if any number is suitable."""
    max_rows: int  # largest number of jobs that are faster in one call

    def open(self, voice: Voice, seed: int) -> DecodeStream:
        """Start a stream. Equal voice, seed and windows give equal samples."""

    def warm(self, voice: Voice) -> None:
        """Compute and cache the state that windows in this voice need. May do nothing."""

    def bucket(self, job: DecodeJob) -> Hashable:
        """Return the job's key. Jobs with equal keys can share a call."""

    def start(self, jobs: Sequence[DecodeJob]) -> Callable[[], list[Rendered]]:
        """Run the first part of decoding jobs of one bucket. Returns a function that runs the rest.

        Other streams may be decoded in between. If either part raises, no stream has changed.
        """

    def run(self, jobs: Sequence[DecodeJob]) -> list[Rendered]:
        """Decode jobs of one bucket."""
        return self.start(jobs)()
