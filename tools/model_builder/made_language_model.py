"""Weights of the hand-made language model; `made_design.py` explains the idea.

Returns arrays by the names that `language_model.py` requests.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.families.turbo.spec import START_CODE, STOP_CODE
from chatterbox.runtime.decoder.s3gen import CODE_COUNT
from tools.model_builder.language_model import LanguageModelSize
from tools.model_builder.made_design import (
    CODE,
    CODES_PER_PLACE,
    END,
    FIRST,
    HALF,
    HALVES,
    HIDDEN,
    LAST,
    PHASE,
    PLACES,
    POINTER,
    PROMPT,
    SOUNDS,
    START,
    TASTE,
    TEXT,
    balanced,
    phase,
)

Array = NDArray[Any]

SIZE = LanguageModelSize(
    layers=2, heads=4, head_dim=16, inner=128, positions=2048, vocab=STOP_CODE + 1
)
"""2048 positions: 376 conditioning rows, 280 characters and 1024 codes, and some."""
SEED = 2
NOISE = 0.004
"""Scale of the weights that no purpose was given: they only make every number matter."""
PHASES = POINTER.stop - POINTER.start
FLAG_DIM = PHASES  # the first dimension of a head that phases leave free

# What layer normalisation divides by, measured over rows of that kind; nothing needs them exact.
TEXT_SIGMA = 0.42
LAST_SIGMA = 0.7

LIKED = (1.0, 0.55, -0.1)
"""Taste of a character's three sounds. With TASTE_TO_LOGIT a code has about one bit of entropy at
temperature 0.8, so seeds differ."""
DISLIKED = -1.0
TASTE_TO_LOGIT = 1.1

FETCH = 5.0  # start row → last conditioning row: a score near 30
SINK = 5.5  # every other row → the speaker row, which carries no pointer: a score near 15
GATHER = 4.0  # a plain mean over one kind of rows
NEIGHBOUR = 2.0  # previous row, not exclusively
MATCH = 2.8  # pointer against phase: 15 between a place and the nearest other
MATCH_KIND = 8.0  # and only text or start rows: 25 and more
VOICE_SHARE, SO_FAR_SHARE, NEIGHBOUR_SHARE, TEXT_SHARE = 0.25, 0.2, 0.1, 0.2
OWN_TASTE = 0.15  # a code likes its own sound again

POINTER_TO_LOGIT = 3.6
HALF_TO_LOGIT = 4.5
END_TO_LOGIT = 48.0
CODE_BIAS, STOP_BIAS, NEVER = -36.0, -20.0, -60.0


class MadeWeights:
    """Implements `Weights` for a model of SIZE."""

    def __init__(self) -> None:
        self._made = {
            "positions": _positions(),
            "0.qkv": _first_qkv(),
            "0.qkv.bias": _first_qkv_bias(),
            "0.out": _first_out(),
            "1.qkv": _second_qkv(),
            "1.qkv.bias": _second_qkv_bias(),
            "1.out": _second_out(),
            "head": _head(),
            "head.bias": _head_bias(),
        }

    def get(self, name: str, *shape: int) -> Array:
        """See `Weights.get`."""
        made = self._made.get(name)
        if made is not None:
            assert made.shape == shape, (name, made.shape, shape)
            return made
        rng = np.random.default_rng([SEED, *name.encode()])
        noise = (rng.standard_normal(shape) * NOISE).astype(np.float32)
        return noise + np.float32(1) if name.endswith("gamma") else noise


def text_table(ids: int, end_id: int) -> Array:
    """Text embeddings [ids, 64]: the tastes of a byte or tag. The end id is never read as text."""
    rows = np.zeros((ids, HIDDEN), np.float32)
    rows[:, TEXT] = 1
    tastes = np.full((ids, HALVES, SOUNDS), DISLIKED, np.float32)
    for half in range(HALVES):
        for rank, taste in enumerate(LIKED):
            tastes[np.arange(ids), half, _favourites(ids)[:, half, rank]] = taste
    rows[:, TASTE] = tastes.reshape(ids, -1)
    rows[end_id] = 0
    return balanced(rows)


def _favourites(ids: int) -> Array:
    """Which three sounds an id likes in each half [ids, 2, 3]; sound 0 is quiet, and only ids that
    are no letter, digit or tag like it best. Upper and lower case sound alike."""
    rng = np.random.default_rng(SEED)
    liked = np.stack(
        [[1 + rng.permutation(SOUNDS - 1)[:3] for _ in range(HALVES)] for _ in range(ids)]
    )
    for upper in range(ord("A"), ord("Z") + 1):
        liked[upper] = liked[upper + 32]
    for byte in range(128):
        if not chr(byte).isalnum():
            liked[byte, :, 1:] = liked[byte, :, :2]
            liked[byte, :, 0] = 0
    return liked


def speech_table() -> Array:
    """Speech embeddings [6563, 64]: what follows each code."""
    codes = np.arange(CODE_COUNT)
    half = codes // SOUNDS % HALVES
    next_place = (codes // CODES_PER_PLACE + half) % PLACES
    next_half = 1 - half
    rows = np.zeros((STOP_CODE + 1, HIDDEN), np.float32)
    rows[:CODE_COUNT, POINTER] = phase(next_place)
    rows[:CODE_COUNT, HALF] = 2 * next_half - 1
    rows[codes, TASTE.start + next_half * SOUNDS + codes % SOUNDS] = OWN_TASTE
    rows[:CODE_COUNT, CODE] = 1
    rows[START_CODE:, START] = 1
    rows[START_CODE:, HALF] = -1
    return balanced(rows)


# --- layers -------------------------------------------------------------------------------------


def _head_dims(part: int, head: int) -> int:
    """First column of a head's query (part 0), key (1) or value (2) in `qkv`."""
    return part * HIDDEN + head * SIZE.head_dim


def _positions() -> Array:
    rows = np.zeros((SIZE.positions, HIDDEN), np.float32)
    rows[:, PHASE] = phase(np.arange(SIZE.positions))
    return balanced(rows)


def _first_qkv() -> Array:
    w = np.zeros((HIDDEN, 3 * HIDDEN), np.float32)
    q, k, v = (_head_dims(part, 0) for part in range(3))
    w[START, q] = w[LAST, k] = FETCH
    w[FIRST, k + 1] = SINK
    _copy(w, POINTER, v, 1)
    for head, kind in ((1, PROMPT), (2, CODE)):
        k, v = _head_dims(1, head), _head_dims(2, head)
        w[kind, k] = GATHER
        _copy(w, TASTE, v, 1)
    q, k, v = (_head_dims(part, 3) for part in range(3))
    _copy(w, PHASE, k, NEIGHBOUR)
    w[PHASE, q : q + PHASES] = _one_back() * NEIGHBOUR
    _copy(w, TASTE, v, 1)
    return w


def _first_qkv_bias() -> Array:
    bias = np.zeros(3 * HIDDEN, np.float32)
    bias[_head_dims(0, 0) + 1] = SINK
    bias[[_head_dims(0, 1), _head_dims(0, 2)]] = GATHER
    return bias


def _first_out() -> Array:
    w = np.zeros((HIDDEN, HIDDEN), np.float32)
    w[np.arange(PHASES), np.arange(POINTER.start, POINTER.stop)] = LAST_SIGMA
    shares = ((1, VOICE_SHARE), (2, SO_FAR_SHARE), (3, NEIGHBOUR_SHARE))
    for head, share in shares:
        rows = head * SIZE.head_dim + np.arange(CODES_PER_PLACE)
        w[rows, np.arange(TASTE.start, TASTE.stop)] = share
    return balanced(w)


def _second_qkv() -> Array:
    w = np.random.default_rng([SEED, 1]).standard_normal((HIDDEN, 3 * HIDDEN)) * NOISE
    q, k, v = (_head_dims(part, 0) for part in range(3))
    whole_k, whole_v = (_head_dims(part, 1) for part in (1, 2))
    for first in (q, k, v, whole_k, whole_v):
        w[:, first : first + SIZE.head_dim] = 0
    _copy(w, POINTER, q, MATCH)
    _copy(w, PHASE, k, MATCH)
    w[[TEXT, START], k + FLAG_DIM] = MATCH_KIND
    _copy(w, TASTE, v, 1)
    w[START, v + CODES_PER_PLACE] = 1
    w[TEXT, whole_k] = GATHER
    _copy(w, TASTE, whole_v, 1)
    return w.astype(np.float32)


def _second_qkv_bias() -> Array:
    bias = np.zeros(3 * HIDDEN, np.float32)
    bias[_head_dims(0, 0) + FLAG_DIM] = MATCH_KIND
    bias[_head_dims(0, 1)] = GATHER
    return bias


def _second_out() -> Array:
    w = np.random.default_rng([SEED, 2]).standard_normal((HIDDEN, HIDDEN)) * NOISE
    w[: 2 * SIZE.head_dim] = 0
    tastes = np.arange(CODES_PER_PLACE)
    w[tastes, TASTE.start + tastes] = TEXT_SIGMA
    w[SIZE.head_dim + tastes, TASTE.start + tastes] = TEXT_SHARE
    w[CODES_PER_PLACE, END] = TEXT_SIGMA
    return balanced(w.astype(np.float32))


def _head() -> Array:
    codes = np.arange(CODE_COUNT)
    half = codes // SOUNDS % HALVES
    w = np.zeros((STOP_CODE + 1, HIDDEN), np.float32)
    w[:CODE_COUNT, POINTER] = phase(codes // CODES_PER_PLACE) * POINTER_TO_LOGIT
    w[:CODE_COUNT, HALF] = (2 * half - 1) * HALF_TO_LOGIT
    w[codes, TASTE.start + codes % CODES_PER_PLACE] = TASTE_TO_LOGIT
    w[STOP_CODE, END] = END_TO_LOGIT
    return w.T


def _head_bias() -> Array:
    bias = np.full(STOP_CODE + 1, CODE_BIAS, np.float32)
    bias[PLACES * CODES_PER_PLACE : START_CODE + 1] = NEVER  # nine codes are left over
    bias[STOP_CODE] = STOP_BIAS
    return bias


def _copy(weight: Array, dims: slice, first: int, gain: float) -> None:
    """Dimensions `dims` → columns from `first` on."""
    rows = np.arange(dims.start, dims.stop)
    weight[rows, first + np.arange(len(rows))] = gain


def _one_back() -> Array:
    """[14, 14]: the phase of a place → the phase of the one before it."""
    step = phase(np.array(1))
    cos, sin = np.diag(step[: PHASES // 2]), np.diag(step[PHASES // 2 :])
    return np.block([[cos, -sin], [sin, cos]])
