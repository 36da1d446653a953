"""What does a streamed, batched decoder take and give? The seam between engine and decoder.

Knows no session: value types and the Protocols that have a fake in the tests.

A stream is one segment of one request. The engine asks `Windows` (engine/windows.py) which codes
come next, hands the decoder jobs of several streams at once, and joins what comes back
(`Crossfader`).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from chatterbox.runtime.contract import F32, I64, SAMPLES_PER_CODE, TAIL_SILENCE_CODES, Voice


@dataclass(frozen=True, slots=True)
class Window:
    """One decode of one stream, in codes counted from the segment's first."""

    begin: int  # the first code fed
    fresh: int  # the first code not decoded before
    end: int  # codes before this one come out final
    stop: int  # fed up to here: look-ahead included
    last: bool  # the silence codes are fed too, and everything comes out

    @property
    def fed_codes(self) -> int:
        """Codes the decoder is given, silence included, prompt not."""
        return self.stop - self.begin + (TAIL_SILENCE_CODES if self.last else 0)

    @property
    def end_sample(self) -> int:
        """Where the final samples end, counted from the segment's first sample."""
        return (self.end + (TAIL_SILENCE_CODES if self.last else 0)) * SAMPLES_PER_CODE


class DecodeStream(Protocol):
    """What a decoder keeps of one stream between its windows; made by `open`, owned by the engine,
    looked into by the decoder alone. At most one of its windows is decoded at a time, in order."""

    @property
    def voice(self) -> Voice:
        """Whose voice it speaks in."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """One window of one stream."""

    stream: DecodeStream
    window: Window
    codes: I64  # [window.stop - window.begin], without prompt and without silence
    next_sample: int  # the first sample wanted, counted from the segment's first (`Crossfader`)
    next_from: int  # the first sample that the next window will be asked for


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """What became of a job."""

    samples: F32  # [n], final
    at: int  # where they begin: at the job's `next_sample` or before


class StreamingDecoder(Protocol):
    """Windows of codes → samples. Called by one thread at a time."""

    @property
    def look_ahead_codes(self) -> int:
        """How many codes behind a window must be fed with it."""
        ...

    @property
    def left_context_codes(self) -> int:
        """How many codes before a window should be fed with it, where there are any."""
        ...

    @property
    def window_codes(self) -> tuple[int, ...]:
        """The numbers of fresh codes that windows should come in, smallest first, so that rows of
        one shape meet; none: it does not matter."""
        ...

    @property
    def max_rows(self) -> int:
        """Most jobs that gain from sharing a call."""
        ...

    def open(self, voice: Voice, seed: int) -> DecodeStream:
        """A new stream. Equal voice, seed and windows give equal samples."""
        ...

    def warm(self, voice: Voice) -> None:
        """Compute once, and keep, what windows in this voice will need; may do nothing."""
        ...

    def bucket(self, job: DecodeJob) -> Hashable:
        """Jobs of equal bucket may share a call."""
        ...

    def start(self, jobs: Sequence[DecodeJob]) -> Callable[[], list[Rendered]]:
        """Begin to decode jobs of one bucket together; what it returns does the rest, in order.
        Other streams may be decoded in between. Raising, either has moved no stream on."""
        ...

    def run(self, jobs: Sequence[DecodeJob]) -> list[Rendered]:
        """Both at once."""
        ...
