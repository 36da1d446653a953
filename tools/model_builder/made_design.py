"""Constants that the parts of the hand-made language model share.

Nothing is trained: the weights are written down so that the model behaves like a speaker.

A code is (place, half, sound): place = the character it speaks, as its absolute position modulo
PLACES, so every character gets two codes (12.5 characters a second); sound = one of SOUNDS. Each
position has a phase vector (cosines and sines at FREQUENCIES), and these dimensions hold:

* PHASE: where a row stands, from the position table;
* POINTER: the phase of the character to speak next. The embedding of a code knows what follows it;
  at the start it is fetched from the last conditioning row, which holds the first text position;
* HALF: −1 before a character's first code, +1 before its second;
* TASTE: how much each (half, sound) is liked here; text rows carry their character's own;
* flags for the kinds of rows, and END, set when the pointer meets the start rows behind the text;
* BALANCE: minus the sum of all others, so that layer normalisation takes no mean away.

Layer 0: fetch the pointer; mix in the voice's, the earlier codes' and the previous row's tastes.
Layer 1: find the row whose PHASE is POINTER, take its TASTE, or its END; mix in the whole text's.
The head then likes the codes of that place, that half and those tastes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PLACES = 546
SOUNDS = 6
HALVES = 2
CODES_PER_PLACE = HALVES * SOUNDS
FREQUENCIES = np.array([28, 31, 51, 169, 182, 224, 245])
"""Of 300,000 draws the one whose phases of any two places differ most: their product, 7 for a
place with itself, is at most 3.52."""

HIDDEN = 64
PHASE = slice(0, 14)
POINTER = slice(14, 28)
HALF = 28
TASTE = slice(29, 41)
TEXT, START, CODE, PROMPT, LAST, FIRST, END = range(41, 48)
BALANCE = slice(48, 64)
UNBALANCED = 48
"""Dimensions before BALANCE."""


def phase(places: Array) -> Array:
    """Phase vectors [..., 14] of places or positions."""
    turns = np.multiply.outer(places, FREQUENCIES) % PLACES / PLACES
    angles = 2 * np.pi * turns
    return np.concatenate([np.cos(angles), np.sin(angles)], -1).astype(np.float32)


def balanced(rows: Array) -> Array:
    """The rows [..., 64], BALANCE filled so that each sums to zero."""
    done = rows.astype(np.float32)
    rest = done[..., :UNBALANCED].sum(-1, keepdims=True)
    done[..., BALANCE] = -rest / (HIDDEN - UNBALANCED)
    return done
