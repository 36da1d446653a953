"""The SNAC 24 kHz codec: rates, reaches, tokens, the names of its graphs' inputs; its encoder.

A token is `4096 * place + code`, places 0 … 6 of a frame: place 0 belongs to the first codebook, 1
and 4 to the second, 2, 3, 5 and 6 to the third.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import onnxruntime as ort

from chatterbox.arrays import F32, I64
from chatterbox.errors import ModelError
from chatterbox.families.base import CodecSpec
from chatterbox.runtime.decoder.graph_io import Array, Feeds, as_declared
from chatterbox.runtime.decoder.stream_inputs import TABLE_NUMBERS, TABLE_SEED, Noise

CODES, PLACES = 4096, 7
CODEBOOK_PLACES = ((0,), (1, 4), (2, 3, 5, 6))
BLOCKS = ((8, 32), (8, 256), (4, 1024), (2, 2048))
"""Of the decoder, each: by how much it raises the rate, and the steps a frame that it gives."""
UNITS_REACH = 39  # of a block's residual units: three steps aside in dilations 1, 3 and 9
EDGE_REACH = 3  # of the convolutions in front of the blocks and behind them
LATENTS = 4  # steps a frame in front of the blocks
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
"""4757 samples to the right are two frames and 661 samples. To the left of a window lie 4757 and
those 661, which are within three frames. Windows agree to rounding: nothing is blended."""

TOGETHER = 8  # steps whose noise is drawn at once: what one count of the generator gives
TABLE_ROW = 256  # steps
Draw = Callable[[int, int, int, int], F32]
"""Standard normal numbers [count] by seed, block, first position and count."""


def addressed_noise(seed: int, block: int, start: int, count: int) -> F32:
    """The same number at the same place of a seed's stream, in whatever pieces it is asked for."""
    first, end = start // TOGETHER, -(-(start + count) // TOGETHER)
    drawn = Noise(seed, block).normal(first, end - first, TOGETHER).reshape(-1)
    return drawn[start - first * TOGETHER :][:count]


@cache
def _table() -> F32:
    """8 MB; takes 0.1 s once."""
    return Noise(TABLE_SEED, 0).normal(0, TABLE_NUMBERS // TABLE_ROW, TABLE_ROW)


def tabled_noise(seed: int, block: int, start: int, count: int) -> F32:
    """As `addressed_noise`, put together from rows of a table, in a quarter of the time: a GPU
    would wait for the rest."""
    first, end = start // TABLE_ROW, -(-(start + count) // TABLE_ROW)
    rows = Noise(seed, block).choices(first, end - first, 1, len(_table()))[:, 0]
    return _table()[rows].reshape(-1)[start - first * TABLE_ROW :][:count]


def crop_name(block: int, side: str) -> str:
    """Input, i64 [1]: the first step (`start`) of its input that a block needs, or the `end`."""
    return f"crop.{block}.{side}"


CROPS = frozenset(crop_name(block, side) for block in range(4) for side in ("start", "end"))
"""Those of all blocks."""


def noise_name(block: int) -> str:
    """Input, [B, 1, steps]: what a block mixes into its steps."""
    return f"noise.{block}"


def code_feeds(tokens: I64) -> Feeds:
    """The three codebooks' inputs of rows of tokens."""
    codes = tokens.reshape(len(tokens), -1, PLACES) % CODES
    return {
        f"audio_codes.{i}": np.ascontiguousarray(codes[:, :, places]).reshape(len(tokens), -1)
        for i, places in enumerate(CODEBOOK_PLACES)
    }


class SnacEncoder:
    """`encoder_model`: a recording → tokens. Safe to call from several threads."""

    def __init__(self, session: ort.InferenceSession) -> None:
        if len(session.get_outputs()) != len(CODEBOOK_PLACES):
            raise ModelError("encoder_model does not give three rows of codes: not SNAC at 24 kHz")
        self._session = session
        (given,) = session.get_inputs()
        self._input, self._rank = given.name, len(given.shape)

    def encode(self, audio: F32) -> I64:
        """`audio` [samples] at 24 kHz → tokens [7 × frames]. A frame whose first code is that of
        the frame before is left out, as in the data that models of such tokens are trained on."""
        padded = np.pad(audio, (0, -len(audio) % SNAC.samples_per_frame)).astype(np.float32)
        names = [o.name for o in self._session.get_outputs()]
        feeds = {self._input: padded.reshape((1,) * (self._rank - 1) + (-1,))}
        rows = self._session.run(names, as_declared(self._session, feeds))
        books: list[Array] = sorted((np.asarray(row).ravel() for row in rows), key=len)
        codes = np.zeros((len(books[0]), PLACES), np.int64)
        for places, book in zip(CODEBOOK_PLACES, books, strict=True):
            codes[:, places] = book[: len(codes) * len(places)].reshape(len(codes), -1)
        new = np.append(True, codes[1:, 0] != codes[:-1, 0])[: len(codes)]
        made: I64 = (codes[new] + CODES * np.arange(PLACES)).reshape(-1)
        return made
