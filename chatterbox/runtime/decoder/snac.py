"""Facts of the SNAC 24 kHz codec: rates, context, tokens, inputs of its graphs; and its encoder.

A token is `4096 * place + code`, where `place` is its position 0 … 6 in the frame. Place 0 belongs
to the first codebook, 1 and 4 to the second, 2, 3, 5 and 6 to the third.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import onnxruntime as ort

from chatterbox.arrays import F32, I64
from chatterbox.errors import ModelError
from chatterbox.families.base import CodecSpec
from chatterbox.runtime.decoder.graph_io import Array, Feeds, cast_feeds
from chatterbox.runtime.decoder.stream_inputs import TABLE_NUMBERS, TABLE_SEED, Noise

CODES, PLACES = 4096, 7
CODEBOOK_PLACES = ((0,), (1, 4), (2, 3, 5, 6))
BLOCKS = ((8, 32), (8, 256), (4, 1024), (2, 2048))
"""The decoder's blocks: the factor by which each raises the rate, and its output steps per
frame."""
UNITS_REACH = 39  # steps that a block's residual units see on each side: 3 in dilations 1, 3 and 9
EDGE_REACH = 3  # steps that the convolutions before and after the blocks see on each side
LATENTS = 4  # steps per frame before the blocks
AUDIO = "audio_values"

SNAC = CodecSpec(
    sample_rate_hz=24_000,
    tokens_per_frame=PLACES,
    samples_per_frame=2048,
    look_ahead_frames=2,
    left_context_frames=3,
    delay_samples=661,
    cross_fade_ms=0,
)
"""The decoder sees 4757 samples ahead: 2 frames and 661 samples. It sees 4757 samples back; with
the 661 that the previous window held back, less than 3 frames. Windows agree to rounding, so they
are not cross-faded."""

STEPS_PER_COUNT = 8  # random numbers per count of the generator
TABLE_ROW = 256  # steps
Draw = Callable[[int, int, int, int], F32]
"""Returns standard normal numbers [count] for a seed, block, first position and count."""


def addressed_noise(seed: int, block: int, start: int, count: int) -> F32:
    """Return noise that depends on seed, block and position alone, not on how it is requested."""
    first, end = start // STEPS_PER_COUNT, -(-(start + count) // STEPS_PER_COUNT)
    drawn = Noise(seed, block).normal(first, end - first, STEPS_PER_COUNT).reshape(-1)
    return drawn[start - first * STEPS_PER_COUNT :][:count]


@cache
def _table() -> F32:
    """Return the table, 8 MB, which takes 0.1 s to make."""
    return Noise(TABLE_SEED, 0).normal(0, TABLE_NUMBERS // TABLE_ROW, TABLE_ROW)


def tabled_noise(seed: int, block: int, start: int, count: int) -> F32:
    """Return noise like `addressed_noise`, but composed of a table's rows in a quarter of the
    time, so that a GPU does not wait for its noise."""
    first, end = start // TABLE_ROW, -(-(start + count) // TABLE_ROW)
    rows = Noise(seed, block).choices(first, end - first, 1, len(_table()))[:, 0]
    return _table()[rows].reshape(-1)[start - first * TABLE_ROW :][:count]


def crop_name(block: int, side: str) -> str:
    """Return the input, i64 [1], with the `start` or `end` of the steps that a block reads."""
    return f"crop.{block}.{side}"


CROPS = frozenset(crop_name(block, side) for block in range(4) for side in ("start", "end"))


def noise_name(block: int) -> str:
    """Return the input, [B, 1, steps], with the noise of a block."""
    return f"noise.{block}"


def code_feeds(tokens: I64) -> Feeds:
    """Return the inputs of the three codebooks for tokens [rows, 7 × frames]."""
    codes = tokens.reshape(len(tokens), -1, PLACES) % CODES
    return {
        f"audio_codes.{i}": np.ascontiguousarray(codes[:, :, places]).reshape(len(tokens), -1)
        for i, places in enumerate(CODEBOOK_PLACES)
    }


class SnacEncoder:
    """Turns recordings into tokens with the graph `encoder_model`. Thread-safe."""

    def __init__(self, session: ort.InferenceSession) -> None:
        if len(session.get_outputs()) != len(CODEBOOK_PLACES):
            raise ModelError("encoder_model does not give three rows of codes: not SNAC at 24 kHz")
        self._session = session
        (audio,) = session.get_inputs()
        self._input, self._rank = audio.name, len(audio.shape)

    def encode(self, audio: F32) -> I64:
        """Encode `audio` [samples] at 24 kHz. Returns tokens [7 × frames].

        Omits each frame whose first code equals that of the frame before, as in the data that
        models of these tokens are trained on.
        """
        padded = np.pad(audio, (0, -len(audio) % SNAC.samples_per_frame)).astype(np.float32)
        names = [o.name for o in self._session.get_outputs()]
        feeds = {self._input: padded.reshape((1,) * (self._rank - 1) + (-1,))}
        rows = self._session.run(names, cast_feeds(self._session, feeds))
        books: list[Array] = sorted((np.asarray(row).ravel() for row in rows), key=len)
        codes = np.zeros((len(books[0]), PLACES), np.int64)
        for places, book in zip(CODEBOOK_PLACES, books, strict=True):
            codes[:, places] = book[: len(codes) * len(places)].reshape(len(codes), -1)
        new = np.append(True, codes[1:, 0] != codes[:-1, 0])[: len(codes)]
        tokens: I64 = (codes[new] + CODES * np.arange(PLACES)).reshape(-1)
        return tokens
