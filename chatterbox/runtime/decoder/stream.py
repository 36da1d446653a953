"""State of a stream between its windows, and the base class of codec decoders."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chatterbox.arrays import F32
from chatterbox.families.base import DecodeJob, StreamingDecoder, Voice
from chatterbox.runtime.decoder.s3gen import MEL_BANDS


@dataclass(slots=True, eq=False)
class Stream:
    """State of a stream between two windows."""

    voice: Voice
    seed: int
    mel: F32 = field(default_factory=lambda: np.zeros((MEL_BANDS, 0), np.float32))
    """[80, frames]: the last frames before the first new frame of the next window."""
    carry: Any = None  # state of the codec: a vocoder's running sums, SNAC's layers
    memory: Any = None  # the flow's `PromptMemory` of the voice's prompt


def stream_of(job: DecodeJob) -> Stream:
    """Return the job's stream. Asserts that a `StreamDecoder` opened it."""
    assert isinstance(job.stream, Stream), "a stream goes back to the decoder that opened it"
    return job.stream


class StreamDecoder(StreamingDecoder):
    """Base of the decoders whose streams are `Stream` objects."""

    def open(self, voice: Voice, seed: int) -> Stream:
        return Stream(voice, seed)

    def warm(self, voice: Voice) -> None:
        """Do nothing: by default a decoder caches nothing for a voice."""
