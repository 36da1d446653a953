"""In which shapes will windows come? Each is shown once to a decoder that replays what it knows.

Knows sizes, rows and a voice that nobody has; nothing of CUDA.
"""

from collections.abc import Iterator

import numpy as np

from chatterbox.compile.decoder.introspect import probe_voice
from chatterbox.runtime.contract import SAMPLES_PER_CODE, SILENCE_CODE
from chatterbox.runtime.cuda_graphs import bucket_sizes
from chatterbox.runtime.streaming_decoder import DecodeJob, StreamingDecoder, Window

FIRST_SIZES = 2
"""Streams begin with one of the smallest windows."""


def rehearse(decoder: StreamingDecoder, prompt_codes: int) -> None:
    """Decode streams that grow from size to size, in every number of rows. A window that comes
    otherwise, as some last ones do, runs as ever."""
    voice = probe_voice(prompt_codes)
    for rows in bucket_sizes(decoder.max_rows):
        for start in range(FIRST_SIZES):
            streams = [decoder.open(voice, seed) for seed in range(rows)]
            for window in _growing(decoder, start):
                codes = np.full(window.stop - window.begin, SILENCE_CODE, np.int64)
                next_sample = window.fresh * SAMPLES_PER_CODE
                decoder.run(
                    [DecodeJob(s, window, codes, next_sample, window.end_sample) for s in streams]
                )


def _growing(decoder: StreamingDecoder, start: int) -> Iterator[Window]:
    end = 0
    for size in decoder.window_codes[start:]:
        fresh, end = end, end + size
        begin = max(0, fresh - decoder.left_context_codes)
        yield Window(begin, fresh, end, end + decoder.look_ahead_codes, last=False)
