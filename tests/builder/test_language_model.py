"""The language model reads its cache: ragged rows are those alone, and every error shows."""

import numpy as np
import pytest
from builder.drive import Array, Model

from chatterbox.hub.files import PRECISIONS

TEXTS = ("Hello.", "A longer sentence, with more to say.")
TOLERANCE = {"fp32": 1e-4, "q8": 1e-4, "q4": 1e-4, "fp16": 0.1, "q4f16": 0.1}
"""Logits are within 45 of zero; half precision resolves 0.03 there."""
SHOWS = 1e-3
"""A difference in fp32 logits that is no rounding."""


def rows_of(model: Model, features: Array, text: str) -> Array:
    """[S, hidden]: conditioning, text, start."""
    return np.concatenate([features[0], model.embed([model.text_ids(text)])[0]])


def left_padded(parts: list[Array]) -> tuple[Array, Array, Array]:
    """Rows, mask and positions of a batch; the padding is garbage."""
    width = max(map(len, parts))
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((len(parts), width, parts[0].shape[1])).astype(np.float32)
    mask, positions = np.zeros((len(parts), width)), np.zeros((len(parts), width))
    for row, part in enumerate(parts):
        rows[row, width - len(part) :] = part
        mask[row, width - len(part) :] = 1
        positions[row, width - len(part) :] = np.arange(len(part))
    return rows, mask, positions


@pytest.mark.parametrize("precision", PRECISIONS)
def test_left_padded_rows_equal_those_alone(model, low_voice, high_voice, precision):
    lm, allowed = model(precision), TOLERANCE[precision]
    voices = [lm.encode(low_voice[:48_000])[0], lm.encode(high_voice[:96_000])[0]]
    codes = np.array([[17], [4000]])
    parts = [rows_of(lm, *pair) for pair in zip(voices, TEXTS, strict=True)]
    rows, mask, positions = left_padded(parts)
    together, cache = lm.step(rows, mask, positions, lm.empty_cache(2))
    lengths = np.array([[len(part)] for part in parts])
    stepped, _ = lm.step(
        lm.embed(codes), np.pad(mask, ((0, 0), (0, 1)), constant_values=1), lengths, cache
    )
    for row, part in enumerate(parts):
        count = len(part)
        alone, own = lm.step(
            part[None], np.ones((1, count)), np.arange(count)[None], lm.empty_cache()
        )
        np.testing.assert_allclose(together[row, -count:], alone[0], atol=allowed)
        after, _ = lm.step(
            lm.embed(codes[row : row + 1]), np.ones((1, count + 1)), np.array([[count]]), own
        )
        np.testing.assert_allclose(stepped[row], after[0], atol=allowed)
    assert np.isfinite(together).all()


def test_cache_equals_no_cache(model, low_voice):
    lm = model("fp32")
    features = lm.encode(low_voice)[0]
    rows = rows_of(lm, features, TEXTS[1])[None]
    count = rows.shape[1]
    whole, _ = lm.step(rows, np.ones((1, count)), np.arange(count)[None], lm.empty_cache())
    cache, pieces = lm.empty_cache(), []
    for start, end in ((0, 100), (100, 151), (151, 152), (152, count)):
        logits, cache = lm.step(
            rows[:, start:end], np.ones((1, end)), np.arange(start, end)[None], cache
        )
        pieces.append(logits)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-4)


@pytest.fixture(scope="module")
def spoken(model, low_voice):
    """Cache, mask and position after six codes of a text, and the code that comes next."""
    lm = model("fp32")
    features = lm.encode(low_voice[:48_000])[0]
    codes = lm.speak(features, TEXTS[1])[:7]
    rows = np.concatenate(
        [rows_of(lm, features, TEXTS[1]), *(lm.embed([[c]])[0] for c in codes[:-1])]
    )
    count = len(rows)
    _, cache = lm.step(rows[None], np.ones((1, count)), np.arange(count)[None], lm.empty_cache())
    return codes[-1], cache, len(features[0]), count


def next_logits(model: Model, code: int, mask: Array, position: int, cache: list[Array]) -> Array:
    return model.step(model.embed([[code]]), mask[None], np.array([[position]]), cache)[0][0, -1]


def test_every_cached_row_matters(model, spoken):
    code, cache, voice_rows, count = spoken
    lm = model("fp32")
    right = next_logits(lm, code, np.ones(count + 1), count, cache)
    last_text = count - 6 - 3  # before two start rows and six codes
    for row in (0, 1, voice_rows - 1, voice_rows + 3, last_text, count - 6, count - 1):
        mask = np.ones(count + 1)
        mask[row] = 0
        hidden = next_logits(lm, code, mask, count, cache)
        assert np.abs(hidden - right).max() > SHOWS, f"row {row} masked changes nothing"
        changed = [kv.copy() for kv in cache]
        for kv in changed:
            kv[:, :, row] += 0.5
        other = next_logits(lm, code, np.ones(count + 1), count, changed)
        assert np.abs(other - right).max() > SHOWS, f"row {row} changed changes nothing"


def test_the_spoken_character_decides(model, spoken):
    code, cache, voice_rows, count = spoken
    lm = model("fp32")
    right = next_logits(lm, code, np.ones(count + 1), count, cache)
    mask = np.ones(count + 1)
    mask[voice_rows + 3] = 0  # six codes said three characters, the seventh begins the fourth
    blind = next_logits(lm, code, mask, count, cache)
    assert np.abs(blind - right).max() > 1


def test_position_matters(model, spoken, low_voice):
    code, cache, _, count = spoken
    lm = model("fp32")
    right = next_logits(lm, code, np.ones(count + 1), count, cache)
    shifted = next_logits(lm, code, np.ones(count + 1), count + 1, cache)
    assert np.abs(shifted - right).max() > SHOWS
    rows = rows_of(lm, lm.encode(low_voice[:48_000])[0], TEXTS[0])[None]
    mask, places = np.ones((1, rows.shape[1])), np.arange(rows.shape[1])[None]
    first = lm.step(rows, mask, places, lm.empty_cache())[0][0, -1]
    moved = lm.step(rows, mask, places + 1, lm.empty_cache())[0][0, -1]
    assert np.abs(moved - first).max() > 1


def test_order_of_the_cache_matters(model, spoken):
    code, cache, voice_rows, count = spoken
    lm = model("fp32")
    right = next_logits(lm, code, np.ones(count + 1), count, cache)
    rolled = [np.roll(kv, 1, axis=0) if kv.shape[0] > 1 else kv for kv in cache]
    values_moved = [np.roll(kv, 1, axis=2) if place % 2 else kv for place, kv in enumerate(rolled)]
    assert np.abs(next_logits(lm, code, np.ones(count + 1), count, values_moved) - right).max() > 1
    assert voice_rows < count
