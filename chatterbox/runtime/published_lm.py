"""The published language model's graph, stepped as it is: past → present, batched by padding.

The fallback where a graph has not been compiled (docs/inside/language-model.md): it copies its
whole cache on every step, on a GPU within its memory as long as the same rows step.

Rows of different length share a batch by left padding: each row's past ends where the longest one
ends, the attention mask hides what is before it, and `position_ids` say where it really is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64
from chatterbox.errors import ModelError
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.embedding import Embedder
from chatterbox.runtime.kv_slots import PrefixedPrompt
from chatterbox.runtime.sessions import require

PAST, PRESENT = "past_key_values", "present"

BATCH_TOLERANCE = 0.02
"""Largest difference, in standard deviations of the logits, that still counts as equal: fp16
rounding stays under it, a row that reads its neighbour's past or the padding does not."""

Cache = Sequence[NDArray[np.floating] | ort.OrtValue]
"""2 × layers of [B, heads, past, head_dim]: key, value, key, …; values lie on a GPU."""


def cache_of(session: ort.InferenceSession) -> dict[str, NDArray[np.floating]]:
    """The inputs that hold keys and values, with those of no positions. Raises ModelError when it
    is no such graph."""
    inputs = {i.name: i for i in session.get_inputs()}
    layers = range(sum(name.startswith(PAST) for name in inputs) // 2)
    names = [f"{PAST}.{layer}.{kind}" for layer in layers for kind in ("key", "value")]
    rows = {"inputs_embeds", "attention_mask", "position_ids"}
    outputs = {"logits", *(name.replace(PAST, PRESENT) for name in names)}
    require(session, "language_model", {*rows, *names}, outputs)
    if not names:
        raise ModelError("language_model has no past_key_values inputs")
    key = inputs[names[0]]
    _, heads, _, head_dim = key.shape
    if not isinstance(heads, int) or not isinstance(head_dim, int):
        raise ModelError("language_model does not say how many heads it has")
    kind = np.float16 if key.type == "tensor(float16)" else np.float32
    return {name: np.zeros((1, heads, 0, head_dim), kind) for name in names}


@dataclass(slots=True)
class _Batch:
    """Rows whose caches stand in one array, left-padded to a common length."""

    slots: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    cache: Cache = ()

    @property
    def width(self) -> int:
        """Positions of the common array."""
        return max(self.lengths, default=0)

    def on_host(self) -> list[NDArray[np.floating]]:
        """The cache as arrays."""
        return [kv.numpy() if isinstance(kv, ort.OrtValue) else kv for kv in self.cache]

    def pick(self, slots: Sequence[int]) -> "_Batch":
        """Only `slots`, in that order, without padding that none of them needs."""
        rows = [self.slots.index(slot) for slot in slots]
        lengths = [self.lengths[row] for row in rows]
        start = self.width - max(lengths, default=0)
        return _Batch(list(slots), lengths, [kv[rows, :, start:] for kv in self.on_host()])

    def join(self, other: "_Batch") -> "_Batch":
        """Both, padded to the longer one."""
        if not self.slots or not other.slots:
            return self if self.slots else other
        width = max(self.width, other.width)
        sides = (_padded(side.on_host(), width) for side in (self, other))
        cache = [np.concatenate(pair) for pair in zip(*sides, strict=True)]
        return _Batch(self.slots + other.slots, self.lengths + other.lengths, cache)


def _padded(cache: list[NDArray[np.floating]], width: int) -> list[NDArray[np.floating]]:
    missing = width - cache[0].shape[2]
    if not missing:
        return cache
    return [np.pad(kv, ((0, 0), (0, 0), (missing, 0), (0, 0))) for kv in cache]


class PublishedLanguageModel:
    """Implements `LanguageModel` on the published graph."""

    def __init__(
        self,
        session: ort.InferenceSession,
        embed: Embedder,
        *,
        slots: int,
        capacity: int,
        memory: Memory | None = None,
    ) -> None:
        """`capacity`: positions the graph has embeddings for; `memory`: where caches stay between
        steps; none: in arrays of the host."""
        self.no_cache = cache_of(session)
        self._outputs = ["logits", *(name.replace(PAST, PRESENT) for name in self.no_cache)]
        self._session = session
        self._embed = embed
        self.slots, self.capacity, self.vocab = slots, capacity, 0
        self._memory = memory
        self._batch = _Batch()
        self._alone: dict[int, _Batch] = {}  # every row by itself, when they are not batched
        self.batched = False
        self.batched = self._rows_equal_alone()

    def prefill(self, slot: int, prompt: PrefixedPrompt) -> F32:
        """The prefix's rows and the text; see `LanguageModel.prefill`."""
        embeds = np.concatenate([prompt.prefix, self._embed.text(prompt.ids)])
        return self._prefill(slot, embeds)

    def decode(self, slots: Sequence[int], tokens: I64) -> F32:
        """One token for each of `slots`; see `LanguageModel.decode`."""
        embeds = self._embed.codes(tokens)
        if not self.batched:
            rows = zip(slots, embeds, strict=True)
            stepped = [self._run(self._alone[slot], row[None, None]) for slot, row in rows]
            self._alone.update(zip(slots, [batch for _, batch in stepped], strict=True))
            return np.concatenate([logits for logits, _ in stepped])
        batch = self._batch
        # Rows that pause stay in `_alone` until they run again.
        paused = {slot: batch.pick([slot]) for slot in batch.slots if slot not in slots}
        if batch.slots != list(slots):
            known = [s for s in slots if s in batch.slots]
            batch = batch.pick(known)
            for slot in [s for s in slots if s not in known]:
                batch = batch.join(self._alone[slot])
            batch = batch.pick(slots)
        logits, batch = self._run(batch, embeds[:, None])
        # Only now may anything change: a call that raises is made again for some of the rows.
        rows_alone = self._alone | paused
        self._alone = {slot: row for slot, row in rows_alone.items() if slot not in slots}
        self._batch = batch
        return logits

    def free(self, slot: int) -> None:
        self._alone.pop(slot, None)
        if slot in self._batch.slots:
            self._batch = self._batch.pick([s for s in self._batch.slots if s != slot])

    def cache_prefix(self, prompt: PrefixedPrompt) -> None:
        """Nothing to prepare: this graph's rows are filled from the beginning each time."""

    def _prefill(self, slot: int, embeds: F32) -> F32:
        nothing = _Batch([slot], [0], list(self.no_cache.values()))
        logits, self._alone[slot] = self._run(nothing, embeds[None])
        last: F32 = logits[0]
        return last

    def _run(self, batch: _Batch, embeds: F32) -> tuple[F32, _Batch]:
        """`embeds` [B, S, hidden] behind the batch's past → last logits [B, vocab], new batch."""
        new = embeds.shape[1]
        past = np.array(batch.lengths)  # [B]
        columns = np.arange(batch.width + new)
        mask = (columns >= (batch.width - past)[:, None]).astype(np.int64)  # [B, width + S]
        positions = past[:, None] + np.arange(new)  # [B, S]
        feeds: dict[str, NDArray[Any]] = {
            "inputs_embeds": embeds,
            "attention_mask": mask,
            "position_ids": positions,
        }
        caches = dict(zip(self.no_cache, batch.cache, strict=True))
        if self._memory is None:
            logits, *cache = self._session.run(self._outputs, feeds | caches)
        else:
            logits, *cache = self._run_in_place(feeds, caches, self._memory)
        lengths = [length + new for length in batch.lengths]
        self.vocab = logits.shape[-1]
        return np.ascontiguousarray(logits[:, -1], np.float32), _Batch(batch.slots, lengths, cache)

    def _run_in_place(
        self, feeds: dict[str, Any], caches: dict[str, Any], memory: Memory
    ) -> list[Any]:
        """What comes out stays on the device, but the logits."""
        binding = self._session.io_binding()
        for name, value in (feeds | caches).items():
            if isinstance(value, ort.OrtValue):
                binding.bind_ortvalue_input(name, value)
            else:
                binding.bind_cpu_input(name, np.ascontiguousarray(value))
        binding.bind_output(self._outputs[0], "cpu")
        for name in self._outputs[1:]:
            binding.bind_output(name, memory.device, memory.device_id)
        self._session.run_with_iobinding(binding)
        logits, *cache = binding.get_outputs()
        return [logits.numpy(), *cache]

    def _rows_equal_alone(self) -> bool:
        """Whether two rows of different length give the same logits together as alone."""
        rng = np.random.default_rng(0)
        texts = [np.append(rng.integers(0, 200, n), [0, 0]).astype(np.int64) for n in (5, 11)]
        rows = [self._embed.text(ids) for ids in texts]
        for slot, row in enumerate(rows):
            self._prefill(slot, row)
        codes = np.array([7, 1234], np.int64)
        both = self._alone[0].join(self._alone[1])
        together, _ = self._run(both, self._embed.codes(codes)[:, None])
        alone = self.decode((0, 1), codes)  # not batched so far
        self._alone.clear()
        return bool(np.abs(together - alone).max() <= BATCH_TOLERANCE * (alone.std() + 1e-6))
