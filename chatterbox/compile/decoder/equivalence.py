"""Distances between what two graphs make, and between rows together and rows alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.runtime.decoder.graph_io import Feeds, Session, snr_db

NEPER_DB = 8.686
"""A log-mel is in nepers; so many decibels are one."""
MEL_LIMIT_DB = 1.0
"""A flow in 8 bits is used when its mel is on average no further from the exact one: less than a
just noticeable difference in a band's loudness."""


WAVE_LIMIT_DB = 25.0
"""A vocoder in 8 bits is used when its error is this far below the sound, which it follows in
level and band."""


def mel_distance_db(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """Mean absolute difference of two log-mels; infinite when one is no mel."""
    if reference.shape != other.shape or not np.all(np.isfinite(other)):
        return np.inf
    return float(NEPER_DB * np.abs(np.asarray(reference, np.float64) - other).mean())


def rows_alike_db(
    session: Session,
    output: str,
    alone: Sequence[Feeds],
    together: Feeds,
    kept: Sequence[int],
) -> float:
    """How alike the rows of one call are to calls of one row each: the worst. `kept`: how many
    steps of the output's last axis are each row's own."""
    solos = [session.run([output], feeds)[0] for feeds in alone]
    rows = session.run([output], together)[0]
    return min(
        snr_db(solo[0, ..., :steps], rows[row, ..., :steps])
        for row, (solo, steps) in enumerate(zip(solos, kept, strict=True))
    )


def stacked(rows: Sequence[Feeds]) -> Feeds:
    """Rows under each other, shorter ones padded with zeros behind."""
    made: Feeds = {}
    for name in rows[0]:
        arrays = [row[name] for row in rows]
        sizes = np.array([array.shape for array in arrays]).max(axis=0)
        made[name] = np.concatenate([_padded(array, sizes) for array in arrays])
    return made


def _padded(array: NDArray[Any], sizes: NDArray[np.int64]) -> NDArray[Any]:
    return np.pad(array, [(0, int(f - own)) for f, own in zip(sizes, array.shape, strict=True)])
