"""Classifier-free guidance below the language model's contract: two rows to a sequence.

Scheduler, sampler, retries and cancellation see a model with half the slots; what its two rows say
is combined before it comes out.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.families.base import LanguageModel, Prompt


class GuidedPrompt(Protocol):
    """A `Prompt` of two: with the text, and without it. Its length is that of the longer one."""

    @property
    def conditional(self) -> Prompt:
        """What the sequence says."""
        ...

    @property
    def unconditional(self) -> Prompt:
        """What it would say without the text."""
        ...


class GuidedLanguageModel:
    """Implements `LanguageModel` on another one: c + scale × (c − u), where c and u are the logits
    of a sequence's conditional and unconditional rows, in slots 2s and 2s + 1."""

    def __init__(self, inner: LanguageModel, scale: float) -> None:
        self._inner = inner
        self._scale = np.float32(scale)

    @property
    def slots(self) -> int:
        """Sequences held at once."""
        return self._inner.slots // 2

    @property
    def capacity(self) -> int:
        """Positions of one sequence."""
        return self._inner.capacity

    @property
    def vocab(self) -> int:
        """Width of the logits."""
        return self._inner.vocab

    def prefill(self, slot: int, prompt: GuidedPrompt) -> F32:
        """Both rows, or neither; see `LanguageModel.prefill`."""
        conditional = self._inner.prefill(2 * slot, prompt.conditional)
        try:
            unconditional = self._inner.prefill(2 * slot + 1, prompt.unconditional)
        except BaseException:
            self._inner.free(2 * slot)
            raise
        return self._combined(conditional, unconditional)

    def decode(self, slots: Sequence[int], tokens: I64) -> F32:
        """Both rows get the same token, in one step; see `LanguageModel.decode`."""
        rows = [row for slot in slots for row in (2 * slot, 2 * slot + 1)]
        logits = self._inner.decode(rows, np.repeat(tokens, 2))
        return self._combined(logits[::2], logits[1::2])

    def free(self, slot: int) -> None:
        """Forget both rows."""
        self._inner.free(2 * slot)
        self._inner.free(2 * slot + 1)

    def cache_prefix(self, prompt: GuidedPrompt) -> None:
        """What either row will need."""
        self._inner.cache_prefix(prompt.conditional)
        self._inner.cache_prefix(prompt.unconditional)

    def _combined(self, conditional: F32, unconditional: F32) -> F32:
        guided: F32 = conditional + self._scale * (conditional - unconditional)
        return guided
