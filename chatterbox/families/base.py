"""The seam between the engine and a family of models: what a family is, as data and protocols.

The engine counts tokens, frames and samples by a `CodecSpec`, passes `Prompt` and `Voice` on
without looking into them, and drives a `LanguageModel` and a `StreamingDecoder`. A token is what
the language model says in one step, a frame the least that the codec decodes.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from chatterbox.arrays import F32, I64
from chatterbox.families.sampling import Processor
from chatterbox.text.segment import SegmentLimits, finish


@dataclass(frozen=True, slots=True)
class CodecSpec:
    """How tokens become sound."""

    sample_rate_hz: int
    tokens_per_frame: int
    samples_per_frame: int
    look_ahead_frames: int  # fed behind a window, since its sound depends on them
    left_context_frames: int  # fed before a window, where there are any
    tail_frames: int = 0  # that the decoder itself adds behind a stream's last window
    fade_in_frames: int = 0  # at the beginning of every call, whose sound is muted or faded in
    delay_samples: int = 0
    """At a window's end, not final although the whole frames of `look_ahead_frames` were fed: a
    codec that sees 4757 samples ahead looks 2 frames of 2048 ahead, and keeps 661 samples back."""
    cross_fade_ms: int = 15  # over which windows are blended; 0: they agree to rounding
    silence_tokens: frozenset[int] = frozenset()  # known to sound silent

    @property
    def frame_rate_hz(self) -> float:
        """Frames in a second of sound."""
        return self.sample_rate_hz / self.samples_per_frame

    @property
    def token_rate_hz(self) -> float:
        """Tokens in a second of sound."""
        return self.frame_rate_hz * self.tokens_per_frame


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """What a language model says, and how its next token is drawn.

    The frame's places follow each other: at position n, of which 0 is a row's first token, place
    n modulo `len(starts)`. There the tokens from `starts[place]` on may come, `width` of them; and
    the stop tokens between two frames, so never first.
    """

    vocabulary: int  # width of the logits
    stop: frozenset[int]
    starts: tuple[int, ...]  # by place
    width: int
    processors: tuple[Processor, ...]  # in the order of the model's authors


@dataclass(frozen=True, slots=True)
class Family:
    """What the engine knows of a family of models; a checkpoint may have its own, by `replace`."""

    name: str
    codec: CodecSpec
    tokens: TokenSpec
    tags: frozenset[str]
    """Sounds that may stand in a text, without brackets. Users write `[laugh]` or `<laugh>`;
    `Prompts.prompt` always gets `[laugh]`, and writes what its model was trained with."""
    languages: tuple[str, ...]  # ISO 639-1
    title: str = ""  # for people
    sampling: Mapping[str, float] = field(default_factory=dict)
    """The authors' parameters, by the names of the settings; all that a call may send. What a
    model's `generation_config.json` says goes before them (`LoadedModel.sampling`)."""
    segments: SegmentLimits = field(default_factory=SegmentLimits)  # that it speaks well
    max_tokens: int = 1024  # of a segment, where nothing is set
    clean_up: Callable[[str], str] = finish
    """What the authors' program does to a segment's text before it tokenises it; adds a stop."""
    token_text: Callable[[int], str] | None = None
    """How other servers of such a model write a token, where they send tokens for sound."""


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """A voice as the engine sees it. `key` is its identity in caches: equal key, equal data."""

    key: str
    data: Any  # the family's own


class Prompt(Protocol):
    """What a language model is given before its first token; opaque to the engine."""

    def __len__(self) -> int:
        """Positions that it takes in a slot."""

    @property
    def text_tokens(self) -> int:
        """How many of them are the text's."""

    @property
    def prefix_key(self) -> str | None:
        """Names the rows that it begins with, where they can be kept for other prompts."""


class Prompts(Protocol):
    """Text and voice → prompts."""

    def prompt(self, text: str, voice: Voice) -> Prompt:
        """For a segment's text. Raises EmptyText where the model has no token for it."""

    def prefix(self, voice: Voice) -> Prompt:
        """What all prompts of a voice begin with, for `LanguageModel.cache_prefix`."""


class LanguageModel(Protocol):
    """A fixed number of slots, each holding one sequence's keys and values; ragged sequences step
    together.

    Called by the generation thread alone. A call that raises has changed nothing: a slot whose
    `prefill` failed is free. What an exception means for whom: `runtime/ort_errors.py`.
    """

    slots: int  # how many sequences can be held at once
    capacity: int  # positions that a slot can hold: prompt and tokens
    vocab: int  # width of the logits

    def prefill(self, slot: int, prompt: Any) -> F32:
        """Fill `slot` with `prompt`, a `Prompt` of the same family. Returns logits [vocab] for the
        first token."""

    def decode(self, slots: Sequence[int], tokens: I64) -> F32:
        """Append one token [B] to each of `slots`; returns logits [B, vocab] in that order. The
        next call may overwrite them."""

    def free(self, slot: int) -> None:
        """Forget what the slot holds."""

    def cache_prefix(self, prompt: Any) -> None:
        """Compute once, and keep, what `prefill` will need of this prompt's prefix, where memory
        for it is left; may do nothing."""


@dataclass(frozen=True, slots=True)
class Window:
    """One decode of one stream, in frames counted from the segment's first."""

    begin: int  # the first frame fed
    fresh: int  # the first frame not decoded before
    end: int  # frames before this one come out final
    stop: int  # fed up to here: look-ahead included
    last: bool  # the tail is fed too, and everything comes out
    codec: CodecSpec

    @property
    def tail_frames(self) -> int:
        """Frames that the decoder adds behind those it is given."""
        return self.codec.tail_frames if self.last else 0

    @property
    def fed_frames(self) -> int:
        """Frames the decoder works on, tail included, prompt not."""
        return self.stop - self.begin + self.tail_frames

    @property
    def end_sample(self) -> int:
        """Where the final samples end, counted from the segment's first sample."""
        kept_back = 0 if self.last else self.codec.delay_samples
        return (self.end + self.tail_frames) * self.codec.samples_per_frame - kept_back


class DecodeStream(Protocol):
    """What a decoder keeps of one stream between its windows; made by `open`, owned by the engine,
    looked into by the decoder alone. At most one of its windows is decoded at a time, in order."""

    voice: Voice  # whose it speaks in


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """One window of one stream."""

    stream: DecodeStream
    window: Window
    tokens: I64  # those of the frames from window.begin to window.stop, without prompt and tail
    next_sample: int  # the first sample wanted, counted from the segment's first (`Crossfader`)
    next_from: int  # the first sample that the next window will be asked for


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """What became of a job."""

    samples: F32  # [n], final
    at: int  # where they begin: at the job's `next_sample` or before


class StreamingDecoder(Protocol):
    """Windows of tokens → samples. Called by one thread at a time."""

    codec: CodecSpec  # the family's, with the context that this decoder needs
    window_frames: tuple[int, ...]
    """The numbers of fresh frames that windows should come in, smallest first, so that rows of one
    shape meet; none: it does not matter."""
    max_rows: int  # most jobs that gain from sharing a call

    def open(self, voice: Voice, seed: int) -> DecodeStream:
        """A new stream. Equal voice, seed and windows give equal samples."""

    def warm(self, voice: Voice) -> None:
        """Compute once, and keep, what windows in this voice will need; may do nothing."""

    def bucket(self, job: DecodeJob) -> Hashable:
        """Jobs of equal bucket may share a call."""

    def start(self, jobs: Sequence[DecodeJob]) -> Callable[[], list[Rendered]]:
        """Begin to decode jobs of one bucket together; what it returns does the rest, in order.
        Other streams may be decoded in between. Raising, either has moved no stream on."""

    def run(self, jobs: Sequence[DecodeJob]) -> list[Rendered]:
        """Both at once."""
        return self.start(jobs)()
