"""Guidance can be hidden below the contract: a sequence is two rows, and nobody above can tell.

No model served today needs it; this keeps the protocol fit for one that does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from fakes import FakeLanguageModel, FakePrompt, FakePrompts, fake_voice

from chatterbox.arrays import F32, I64
from chatterbox.families.base import LanguageModel

SCALE = 0.5


@dataclass(frozen=True)
class Pair:
    conditional: FakePrompt
    unconditional: FakePrompt

    def __len__(self) -> int:
        return len(self.conditional)


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

    def prefill(self, slot: int, prompt: Pair) -> F32:
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

    def cache_prefix(self, prompt: Pair) -> None:
        """What either row will need."""
        self._inner.cache_prefix(prompt.conditional)
        self._inner.cache_prefix(prompt.unconditional)

    def _combined(self, conditional: F32, unconditional: F32) -> F32:
        guided: F32 = conditional + self._scale * (conditional - unconditional)
        return guided


def pair(text: str, key: str = "v") -> Pair:
    prompts, voice = FakePrompts(), fake_voice(key)
    return Pair(prompts.prompt(text, voice), prompts.prompt("", voice))


def guided(slots: int = 4) -> tuple[GuidedLanguageModel, FakeLanguageModel]:
    inner = FakeLanguageModel(slots=2 * slots)
    return GuidedLanguageModel(inner, SCALE), inner


def by_hand(text: str, tokens: list[int]) -> np.ndarray:
    """Logits after the prompt and each token, from two models that share nothing."""
    made = []
    for prompt in (pair(text).conditional, pair(text).unconditional):
        model = FakeLanguageModel(slots=1)
        steps = [model.prefill(0, prompt)]
        steps += [model.decode([0], np.array([token]))[0] for token in tokens]
        made.append(np.stack(steps))
    conditional, unconditional = made
    return conditional + np.float32(SCALE) * (conditional - unconditional)


def test_sequences_in_a_batch_are_guided_as_alone():
    model, _ = guided()
    texts = {0: "hello", 2: "a longer text", 3: "hm"}
    tokens = np.random.default_rng(0).integers(0, 6561, (6, 3))
    found = [np.stack([model.prefill(slot, pair(text)) for slot, text in texts.items()])]
    found += [model.decode(list(texts), step) for step in tokens]
    for row, text in enumerate(texts.values()):
        expected = by_hand(text, tokens[:, row].tolist())
        np.testing.assert_array_equal(np.stack([step[row] for step in found]), expected)


def test_one_that_pauses_goes_on_where_it_was():
    model, _ = guided()
    for slot, text in enumerate(("one", "two")):
        model.prefill(slot, pair(text))
    model.decode([0, 1], np.array([5, 6]))
    model.decode([0], np.array([7]))
    found = model.decode([1, 0], np.array([8, 9]))
    np.testing.assert_array_equal(found[0], by_hand("two", [6, 8])[-1])
    np.testing.assert_array_equal(found[1], by_hand("one", [5, 7, 9])[-1])


def test_a_cancelled_sequence_leaves_both_rows_and_its_slot_serves_another():
    model, inner = guided(slots=1)
    model.prefill(0, pair("first"))
    model.decode([0], np.array([1]))
    model.free(0)
    assert not inner.held
    assert model.slots == 1
    np.testing.assert_array_equal(model.prefill(0, pair("second")), by_hand("second", [])[0])


@pytest.mark.parametrize("which", [1, 2])
def test_a_prefill_that_raises_has_changed_nothing(which, monkeypatch):
    model, inner = guided()
    model.prefill(0, pair("beside"))
    honest, calls = inner.prefill, []

    def failing(slot, prompt):
        calls.append(slot)
        if len(calls) == which:
            raise MemoryError
        return honest(slot, prompt)

    monkeypatch.setattr(inner, "prefill", failing)
    with pytest.raises(MemoryError):
        model.prefill(1, pair("a text"))
    assert set(inner.held) == {0, 1}
    np.testing.assert_array_equal(model.prefill(1, pair("a text")), by_hand("a text", [])[0])
    np.testing.assert_array_equal(model.decode([0], np.array([3]))[0], by_hand("beside", [3])[-1])


def test_a_step_that_raises_can_be_made_again():
    model, inner = guided()
    model.prefill(0, pair("a text"))
    inner.fail_at_step = 1
    with pytest.raises(RuntimeError):
        model.decode([0], np.array([3]))
    np.testing.assert_array_equal(model.decode([0], np.array([3]))[0], by_hand("a text", [3])[-1])


def test_prefixes_of_both_rows_are_kept():
    model, inner = guided()
    model.cache_prefix(pair("", key="anna"))
    assert inner.warmed == ["anna", "anna"]


def test_it_is_a_language_model_with_half_the_slots():
    model: LanguageModel = guided(slots=3)[0]
    assert (model.slots, model.vocab, model.capacity) == (3, 6563, 4096)
