"""Steps the published graph of a language model as it is: cached keys and values in and out, rows
batched by padding.

The fallback for a graph that was not compiled (docs/inside/language-model.md). Every step copies
the whole cache; on a GPU the cache stays in its memory while the same rows step.

Rows of different length share a batch by left padding: the pasts of all rows end at the same
column, the attention mask hides the columns before a row's past, and `position_ids` has the row's
actual positions.
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
"""Largest difference that counts as equal, in standard deviations of the logits. Rounding in fp16
stays below it; a row that reads another row's past or the padding does not."""

Cache = Sequence[NDArray[np.floating] | ort.OrtValue]
"""2 × layers of [B, heads, past, head_dim]: key, value, key, …; on a GPU as OrtValues."""


def cache_of(session: ort.InferenceSession) -> dict[str, NDArray[np.floating]]:
    """Return the inputs for keys and values, each with an empty cache. Raises ModelError when the
    graph is not a language model."""
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
    dtype = np.float16 if key.type == "tensor(float16)" else np.float32
    return {name: np.zeros((1, heads, 0, head_dim), dtype) for name in names}


@dataclass(slots=True)
class _Batch:
    """Rows with a common cache, left-padded to the longest past."""

    slots: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    cache: Cache = ()

    @property
    def width(self) -> int:
        """Positions of the common cache."""
        return max(self.lengths, default=0)

    def on_host(self) -> list[NDArray[np.floating]]:
        return [kv.numpy() if isinstance(kv, ort.OrtValue) else kv for kv in self.cache]

    def select(self, slots: Sequence[int]) -> "_Batch":
        """Return a batch of these rows, in this order, without superfluous padding."""
        rows = [self.slots.index(slot) for slot in slots]
        lengths = [self.lengths[row] for row in rows]
        start = self.width - max(lengths, default=0)
        return _Batch(list(slots), lengths, [kv[rows, :, start:] for kv in self.on_host()])

    def join(self, other: "_Batch") -> "_Batch":
        if not self.slots or not other.slots:
            return self if self.slots else other
        width = max(self.width, other.width)
        halves = (
            [
                np.pad(kv, ((0, 0), (0, 0), (width - batch.width, 0), (0, 0)))
                for kv in batch.on_host()
            ]
            for batch in (self, other)
        )
        cache = [np.concatenate(pair) for pair in zip(*halves, strict=True)]
        return _Batch(self.slots + other.slots, self.lengths + other.lengths, cache)


class PublishedLanguageModel:
    """A `LanguageModel` on the published graph."""

    def __init__(
        self,
        session: ort.InferenceSession,
        embed: Embedder,
        *,
        slots: int,
        capacity: int,
        memory: Memory | None = None,
    ) -> None:
        """`capacity`: positions that the graph has embeddings for. `memory`: device that keeps the
        cache between steps; None: keep it in host arrays."""
        self.no_cache = cache_of(session)
        self._outputs = ["logits", *(name.replace(PAST, PRESENT) for name in self.no_cache)]
        self._session = session
        self._embed = embed
        self.slots, self.capacity, self.vocab = slots, capacity, 0
        self._memory = memory
        self._batch = _Batch()
        self._single: dict[int, _Batch] = {}  # rows that are not in `_batch`, each on its own
        self.batched = False
        self.batched = self._rows_equal_alone()

    def prefill(self, slot: int, prompt: PrefixedPrompt) -> F32:
        return self._prefill(slot, np.concatenate([prompt.prefix, self._embed.text(prompt.ids)]))

    def decode(self, slots: Sequence[int], tokens: I64) -> F32:
        embeds = self._embed.codes(tokens)
        if not self.batched:
            rows = zip(slots, embeds, strict=True)
            stepped = [self._run(self._single[slot], row[None, None]) for slot, row in rows]
            self._single.update(zip(slots, [batch for _, batch in stepped], strict=True))
            return np.concatenate([logits for logits, _ in stepped])
        batch = self._batch
        # Rows that pause are kept in `_single` until they step again.
        paused = {slot: batch.select([slot]) for slot in batch.slots if slot not in slots}
        if batch.slots != list(slots):
            known = [s for s in slots if s in batch.slots]
            batch = batch.select(known)
            for slot in [s for s in slots if s not in known]:
                batch = batch.join(self._single[slot])
            batch = batch.select(slots)
        logits, batch = self._run(batch, embeds[:, None])
        # State changes only now: after an exception the call is repeated for some of the rows.
        single = self._single | paused
        self._single = {slot: row for slot, row in single.items() if slot not in slots}
        self._batch = batch
        return logits

    def free(self, slot: int) -> None:
        self._single.pop(slot, None)
        if slot in self._batch.slots:
            self._batch = self._batch.select([s for s in self._batch.slots if s != slot])

    def cache_prefix(self, prompt: PrefixedPrompt) -> None:
        """Do nothing: a prefill computes its prefix."""

    def _prefill(self, slot: int, embeds: F32) -> F32:
        empty = _Batch([slot], [0], list(self.no_cache.values()))
        logits, self._single[slot] = self._run(empty, embeds[None])
        last: F32 = logits[0]
        return last

    def _run(self, batch: _Batch, embeds: F32) -> tuple[F32, _Batch]:
        """Append `embeds` [B, S, hidden] to the rows of a batch. Returns the last position's logits
        [B, vocab], and the batch after it."""
        new = embeds.shape[1]
        past = np.array(batch.lengths)  # [B]
        columns = np.arange(batch.width + new)
        feeds: dict[str, Any] = {
            "inputs_embeds": embeds,
            "attention_mask": (columns >= (batch.width - past)[:, None]).astype(np.int64),
            "position_ids": past[:, None] + np.arange(new),
        }
        feeds |= zip(self.no_cache, batch.cache, strict=True)
        run = self._session.run if self._memory is None else self._run_on_device
        logits, *cache = run(self._outputs, feeds)
        lengths = [length + new for length in batch.lengths]
        self.vocab = logits.shape[-1]
        return np.ascontiguousarray(logits[:, -1], np.float32), _Batch(batch.slots, lengths, cache)

    def _run_on_device(self, outputs: list[str], feeds: dict[str, Any]) -> list[Any]:
        """Run the graph and leave all outputs except the logits on the device."""
        assert self._memory is not None
        binding = self._session.io_binding()
        for name, value in feeds.items():
            if isinstance(value, ort.OrtValue):
                binding.bind_ortvalue_input(name, value)
            else:
                binding.bind_cpu_input(name, np.ascontiguousarray(value))
        binding.bind_output(outputs[0], "cpu")
        for name in outputs[1:]:
            binding.bind_output(name, self._memory.device, self._memory.device_id)
        self._session.run_with_iobinding(binding)
        logits, *cache = binding.get_outputs()
        return [logits.numpy(), *cache]

    def _rows_equal_alone(self) -> bool:
        """Return whether two rows of different length have the same logits together as alone."""
        rng = np.random.default_rng(0)
        texts = [np.append(rng.integers(0, 200, n), [0, 0]).astype(np.int64) for n in (5, 11)]
        for slot, ids in enumerate(texts):
            self._prefill(slot, self._embed.text(ids))
        codes = np.array([7, 1234], np.int64)
        both = self._single[0].join(self._single[1])
        together, _ = self._run(both, self._embed.codes(codes)[:, None])
        alone = self.decode((0, 1), codes)  # one by one, since `batched` is still False
        self._single.clear()
        return bool(np.abs(together - alone).max() <= BATCH_TOLERANCE * (alone.std() + 1e-6))
