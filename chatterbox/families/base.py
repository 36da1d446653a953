"""The interface between the engine and a family of models: data and protocols.

The engine counts tokens, frames and samples by a `CodecSpec`, treats `Prompt` and `Voice` as
opaque, and drives a `LanguageModel` and a `StreamingDecoder`. A token is what the language model
makes in one step; a frame is the least that the codec decodes.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from chatterbox.arrays import F32, I64
from chatterbox.families.sampling import Processor
from chatterbox.text.segment import SegmentLimits, finish


@dataclass(frozen=True, slots=True)
class CodecSpec:
    """Rates and context of a codec, which turns tokens into sound."""

    sample_rate_hz: int
    tokens_per_frame: int
    samples_per_frame: int
    look_ahead_frames: int  # decoded after a window, whose sound depends on them
    left_context_frames: int  # decoded before a window, where the stream has them
    tail_frames: int = 0  # that the decoder itself adds after a stream's last window
    fade_in_frames: int = 0  # at the beginning of every call, whose sound is muted or faded in
    delay_samples: int = 0
    """Samples at a window's end that are not final in spite of `look_ahead_frames`. A codec that
    sees 4757 samples ahead has a look-ahead of 2 frames of 2048, and a delay of 661 samples."""
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
    """Vocabulary of a language model, and how its next token is drawn.

    The tokens of a frame have places in a fixed order: the token at position n of a row has place
    n modulo `len(starts)`. At a place, the `width` tokens from `starts[place]` on are allowed. Stop
    tokens are allowed between two frames, and so never first.
    """

    vocabulary: int  # width of the logits
    stop: frozenset[int]
    starts: tuple[int, ...]  # by place
    width: int
    processors: tuple[Processor, ...]  # in the order of the model's authors


@dataclass(frozen=True, slots=True)
class Family:
    """What the engine knows about a family of models; a checkpoint may differ, by `replace`."""

    name: str
    codec: CodecSpec
    tokens: TokenSpec
    tags: frozenset[str]
    """Sounds that a text may contain, without brackets. Users write `[laugh]` or `<laugh>`;
    `Prompts.prompt` always gets `[laugh]`, and writes what its model was trained with."""
    languages: tuple[str, ...]  # ISO 639-1
    title: str = ""  # for people
    sampling: Mapping[str, float] = field(default_factory=dict)
    """The authors' sampling parameters, by the names of the settings; a call may send only these.
    A model's `generation_config.json` takes precedence (`LoadedModel.sampling`)."""
    segments: SegmentLimits = field(default_factory=SegmentLimits)  # that the model speaks well
    max_tokens: int = 1024  # of a segment, where nothing is set
    clean_up: Callable[[str], str] = finish
    """What the authors' program does to a segment's text before it tokenises it; adds a stop."""
    token_text: Callable[[int], str] | None = None
    """How other servers of such a model write a token, if they send tokens rather than sound."""


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """A voice as the engine sees it. `key` identifies it in caches: equal key, equal data."""

    key: str
    data: Any  # of a type of the family


class Prompt(Protocol):
    """Input of a language model before its first token; opaque to the engine."""

    def __len__(self) -> int:
        """Return the number of positions that it takes in a slot."""

    @property
    def text_tokens(self) -> int:
        """Positions that belong to the text."""

    @property
    def prefix_key(self) -> str | None:
        """Key under which the prompt's first rows can be cached for other prompts, if any."""


class Prompts(Protocol):
    """Makes prompts from texts and voices."""

    def prompt(self, text: str, voice: Voice) -> Prompt:
        """Return the prompt of a segment. Raises EmptyText when the model has no token for it."""

    def prefix(self, voice: Voice) -> Prompt:
        """Return what all prompts of a voice begin with, for `LanguageModel.cache_prefix`."""


class LanguageModel(Protocol):
    """A language model with a fixed number of slots, one sequence in each, of any lengths.

    Only the generation thread calls it. A call that raises has changed nothing: a slot whose
    `prefill` failed is free. `runtime/ort_errors.py` classifies its exceptions.
    """

    slots: int  # most sequences at once
    capacity: int  # positions of a slot: prompt and tokens
    vocab: int  # width of the logits

    def prefill(self, slot: int, prompt: Any) -> F32:
        """Fill `slot` with `prompt`, a `Prompt` of the same family. Returns logits [vocab] for the
        first token."""

    def decode(self, slots: Sequence[int], tokens: I64) -> F32:
        """Append one token [B] to each of `slots`. Returns logits [B, vocab] in that order, which
        the next call may overwrite."""

    def free(self, slot: int) -> None:
        """Forget the sequence in a slot."""

    def cache_prefix(self, prompt: Any) -> None:
        """Compute and cache what `prefill` needs of this prompt's prefix, if memory is left for it.
        May do nothing."""


@dataclass(frozen=True, slots=True)
class Window:
    """Frames of a stream that are decoded together, counted from the segment's first frame."""

    begin: int  # the first frame that is decoded
    fresh: int  # the first frame that was not decoded before
    end: int  # frames before this one come out final
    stop: int  # the end of the frames that are decoded, look-ahead included
    last: bool  # the tail is decoded too, and everything comes out
    codec: CodecSpec

    @property
    def tail_frames(self) -> int:
        """Frames that the decoder adds after the window's own."""
        return self.codec.tail_frames if self.last else 0

    @property
    def fed_frames(self) -> int:
        """Frames that the decoder works on, including the tail but not the prompt."""
        return self.stop - self.begin + self.tail_frames

    @property
    def end_sample(self) -> int:
        """End of the final samples, counted from the segment's first sample."""
        delay = 0 if self.last else self.codec.delay_samples
        return (self.end + self.tail_frames) * self.codec.samples_per_frame - delay


class DecodeStream(Protocol):
    """A decoder's state of one stream, which `open` makes.

    The engine owns it, and only the decoder reads it. At most one window of a stream is decoded at
    a time, in order.
    """

    voice: Voice


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """One window of one stream to decode."""

    stream: DecodeStream
    window: Window
    tokens: I64  # of the frames from window.begin to window.stop, without prompt and tail
    next_sample: int  # the first sample to return, counted from the segment's first (`Crossfader`)
    resume_sample: int  # the first sample that the stream's next job will ask for


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """Result of a job."""

    samples: F32  # [n], final
    at: int  # position of the first: the job's `next_sample` or before


class StreamingDecoder(Protocol):
    """Turns windows of tokens into samples. Only one thread may call it at a time."""

    codec: CodecSpec  # the family's, with the context that this decoder needs
    window_frames: tuple[int, ...]
    """Numbers of fresh frames that windows should have, ascending, so that rows of one shape share
    calls; empty: any."""
    max_rows: int  # most jobs that gain from sharing a call

    def open(self, voice: Voice, seed: int) -> DecodeStream:
        """Start a stream. Equal voice, seed and windows give equal samples."""

    def warm(self, voice: Voice) -> None:
        """Compute and cache what windows in this voice will need. May do nothing."""

    def bucket(self, job: DecodeJob) -> Hashable:
        """Return a key; jobs with equal keys can share a call."""

    def start(self, jobs: Sequence[DecodeJob]) -> Callable[[], list[Rendered]]:
        """Run the first part of decoding jobs of one bucket. The result runs the rest.

        Other streams may be decoded in between. If either part raises, no stream has moved on.
        """

    def run(self, jobs: Sequence[DecodeJob]) -> list[Rendered]:
        """Decode jobs of one bucket."""
        return self.start(jobs)()
