"""Runs a decoder once in each shape that windows will come in, so that it can replay them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.families.base import CodecSpec, DecodeJob, StreamingDecoder, Voice, Window
from chatterbox.runtime.cuda_graphs import bucket_sizes
from chatterbox.runtime.decoder.graph_io import CODES, PROMPT_MEL, SPEAKER, Feeds
from chatterbox.runtime.decoder.s3gen import (
    CODE_COUNT,
    MEL_BANDS,
    MEL_FRAMES_PER_CODE,
    SAMPLES_PER_CODE,
    SILENCE_CODE,
    SPEAKER_DIM,
)
from chatterbox.runtime.decoder.shape_laws import ProbeLength


def rehearse(decoder: StreamingDecoder, sizes: Sequence[int], prompt_codes: int) -> None:
    """Decode two streams in every number of rows: one begins with the smallest window, the other
    with the next and comes to every size behind it. All calls are made in one of these shapes.
    Large ones first: what they leave free in the device's arena is enough for the others."""
    voice = probe_voice(prompt_codes)
    for rows in reversed(bucket_sizes(decoder.max_rows)):
        for streamed in ((*sizes[1:2], *reversed(sizes)), sizes[:1]):
            streams = [decoder.open(voice, seed) for seed in range(rows)]
            for window in _windows(decoder.codec, streamed):
                codes = np.full(window.stop - window.begin, SILENCE_CODE, np.int64)
                next_sample = window.fresh * SAMPLES_PER_CODE
                decoder.run(
                    [DecodeJob(s, window, codes, next_sample, window.end_sample) for s in streams]
                )


def _windows(codec: CodecSpec, sizes: Sequence[int]) -> Iterator[Window]:
    """Of one stream, in these sizes."""
    end = 0
    for size in sizes:
        fresh, end = end, end + size
        begin = max(0, fresh - codec.left_context_frames)
        yield Window(begin, fresh, end, end + codec.look_ahead_frames, last=False, codec=codec)


def probe_feeds(length: ProbeLength, seed: int = 0) -> Feeds:
    """Some input of this length: any codes, any voice."""
    rng = np.random.default_rng([seed, length.prompt, length.codes])
    total = length.prompt + length.codes
    frames = length.prompt * MEL_FRAMES_PER_CODE
    return {
        CODES: rng.integers(0, CODE_COUNT, (1, total)),
        SPEAKER: rng.normal(size=(1, SPEAKER_DIM)).astype(np.float32),
        # Log-mel of speech lies about -6 ± 2.5.
        PROMPT_MEL: rng.normal(-6.0, 2.5, (1, frames, MEL_BANDS)).astype(np.float32),
    }


@dataclass(frozen=True, slots=True, eq=False)
class PromptOf:
    """What the decoder needs of a voice."""

    prompt_codes: I64  # [n]
    speaker: F32  # [192]
    prompt_mel: F32  # [2n, 80]


def probe_voice(prompt: int) -> Voice:
    """A voice that nobody has, with a prompt of so many codes; the language model is told nothing
    of it."""
    feeds = probe_feeds(ProbeLength(prompt, 0))
    return Voice("nobody's", PromptOf(feeds[CODES][0], feeds[SPEAKER][0], feeds[PROMPT_MEL][0]))
