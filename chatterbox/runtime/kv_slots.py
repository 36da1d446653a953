"""A compiled language model whose sequences have slots in one key-value cache, updated in place.

A sequence joins by a prefill into its slot and leaves by `free`; nothing is copied while sequences
step. Sequences that step together need not be in adjacent slots: a call covers the smallest range
of slots that contains them. A slot in this range that does not step (free or paused) costs only its
attention. The graph still writes a position into that slot: a free slot counts as empty, and a
paused sequence overwrites the position when it continues. Each slot therefore has one position more
than `capacity`.

Keys and values of a prompt's prefix are cached under a key, and copied into the slot.
"""

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from chatterbox.arrays import F32, I64
from chatterbox.runtime import cudart
from chatterbox.runtime.bound_call import Call, CallMemory, GraphShape, Rows
from chatterbox.runtime.buffers import Buffer, HostBuffer, Memory, TensorView
from chatterbox.runtime.cuda_graphs import RUNS_TO_CAPTURE, Buckets, round_up
from chatterbox.runtime.embedding import Embedder
from chatterbox.runtime.lru import ByteLru


@dataclass(frozen=True, slots=True, eq=False)
class PrefixedPrompt:
    """A `Prompt` of a cacheable prefix, and text ids that an `Embedder` turns into rows."""

    prefix_key: str
    prefix: Rows  # [P, …]
    ids: I64  # [S]; empty: the prefix alone

    def __len__(self) -> int:
        return len(self.prefix) + len(self.ids)

    def with_text(self, ids: I64) -> "PrefixedPrompt":
        return PrefixedPrompt(self.prefix_key, self.prefix, ids)

    @property
    def text_tokens(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """Keys and values of a prompt's prefix, in one tensor.

    A small model's prefix has few bytes in each layer; a tensor for each would take more memory
    than the values.
    """

    rows: int
    buffer: Buffer  # [2 × layers, heads, rows, head_dim]

    def layers(self) -> list[TensorView]:
        """Return 2 × layers views of [1, heads, rows, head_dim]."""
        return [self.buffer.entries(i, 1) for i in range(self.buffer.shape[0])]

    def load(self, arena: Sequence[Buffer], slot: int) -> None:
        """Copy the prefix to the beginning of a slot of `arena`: 2 × layers of
        [slots, heads, capacity, head_dim]."""
        if not self.rows:
            return
        if isinstance(self.buffer, HostBuffer):
            for values, target in zip(self.buffer.array, arena, strict=True):
                target.get()[slot, :, : self.rows] = values
            return
        _, heads, capacity, head_dim = arena[0].shape
        position = head_dim * self.buffer.dtype.itemsize
        width = self.rows * position  # a head's rows are one row of the copy
        blocks = [
            (target.entries(slot, 1).address, source.address, capacity * position, width)
            for source, target in zip(self.layers(), arena, strict=True)
        ]
        cudart.copy_rows(blocks, width, heads, self.buffer.device_id)


@dataclass(slots=True, eq=False)
class Batch:
    """The rows of a step, and values that depend only on their slots."""

    slots: list[int]
    active: I64  # [B]: `slots`
    first: int  # first slot of the smallest range that contains them
    count: int  # slots in that range
    places: I64  # [B]: each row's index in the range
    call: Call | None = None  # steps the range

    @classmethod
    def of(cls, slots: Sequence[int]) -> "Batch":
        active, first = np.array(slots, np.int64), min(slots)
        return cls(list(slots), active, first, max(slots) + 1 - first, active - first)


MAX_CALLS = 256
"""Most bound calls, of steps and prefills, in the cache, which drops the least recently used. Reuse
saves about 0.3 ms a step; a call takes some 20 kB."""


class SlottedLanguageModel:
    """A `LanguageModel` on a compiled graph."""

    def __init__(
        self,
        session: ort.InferenceSession,
        embed: Embedder,
        *,
        slots: int,
        capacity: int,
        prefix_cache_bytes: int,
        memory: Memory | None = None,
        buckets: Buckets | None = None,
        shape: GraphShape | None = None,
    ) -> None:
        """`capacity`: positions of a slot, at most one less than the graph has embeddings for.
        `buckets`: step in these fixed shapes, which CUDA graphs need; None: in the smallest shape.
        `shape`: required for a graph that `compile/` did not write.
        """
        self._shape = shape or GraphShape.of(session)
        self._session = session
        self._embed = embed
        self._memory = memory or Memory("cpu")
        self._buckets = buckets
        self.slots, self.vocab = slots, self._shape.vocab
        self.capacity = min(capacity, self._shape.positions - 1)
        arena = self._shape.cache_shape(slots, self.capacity + 1)
        self._arena = [
            self._memory.buffer(arena, self._shape.kv_type, session)
            for _ in range(2 * self._shape.layers)
        ]
        self._lengths = np.zeros(slots, np.int64)  # positions in each slot; 0: free
        self._shared = CallMemory(self._shape, self._memory, slots=slots, most_new=self.capacity)
        self._calls: OrderedDict[Hashable, Call] = OrderedDict()
        self._batch: Batch | None = None  # of the last step
        self._selected: F32 | None = None
        self._prefixes: ByteLru[Prefix] = ByteLru(prefix_cache_bytes)

    @property
    def arena_bytes(self) -> int:
        """Size of all slots when every position is in use."""
        return sum(buffer.nbytes for buffer in self._arena)

    @property
    def prefix_bytes(self) -> int:
        return self._prefixes.nbytes

    def prefill(self, slot: int, prompt: PrefixedPrompt) -> F32:
        rows = self._embed.text(prompt.ids)
        prefix = self._prefix(prompt)
        length = prefix.rows + len(rows)
        assert length <= self.capacity, "the engine admits no row that cannot fit"
        prefix.load(self._arena, slot)
        self._lengths[slot] = 0  # leave the slot free if the next line raises
        logits = self._prefill(self._slot_views(slot, 1), rows, prefix.rows)
        self._lengths[slot] = length
        return logits

    def decode(self, slots: Sequence[int], tokens: I64) -> F32:
        batch = self._batch
        if batch is None or batch.slots != slots:
            batch = self._batch = Batch.of(slots)
        past = self._lengths[batch.active]
        lengths = past.tolist()  # Python's `min` is quicker on a few numbers
        assert min(lengths) > 0, "only rows that have begun can step"
        assert max(lengths) < self.capacity, "the row's slot is full"
        rows = self._embed.codes(tokens)
        if self._buckets:
            logits = self._step_bucket(batch.active, rows)
        else:
            logits = self._step_range(batch, rows)
        self._lengths[batch.active] = past + 1
        return logits[:, : self.vocab]

    def free(self, slot: int) -> None:
        self._lengths[slot] = 0

    def cache_prefix(self, prompt: PrefixedPrompt) -> None:
        """Compute and cache the prompt's prefix, unless it would displace another prefix."""
        size = math.prod(self._prefix_shape(prompt)) * np.dtype(self._shape.kv_type).itemsize
        if self._prefixes.has_room(size):
            self._prefix(prompt)

    def capture_steps(self) -> None:
        """Step every bucket until onnxruntime has captured it. Call before the first prefill."""
        assert self._buckets is not None
        assert not self._lengths.any(), "a step writes into every slot of its bucket"
        row = self._embed.codes(np.zeros(1, np.int64))
        for _ in range(RUNS_TO_CAPTURE):
            for size in self._buckets.sizes:
                self._step_bucket(np.array([size - 1]), row)

    def _step_range(self, batch: Batch, rows: Rows) -> F32:
        """Step the smallest range of slots that contains all active ones."""
        if batch.call is None:
            batch.call = self._call(batch.count, len(batch.slots), 1, rows, batch.first)
        past = self._lengths[batch.first : batch.first + batch.count]
        return batch.call.run(rows[:, None], past, batch.places, max(past.tolist()) + 1)

    def _step_bucket(self, active: I64, rows: Rows) -> F32:
        """Step all slots of the smallest bucket that contains the active ones."""
        assert self._buckets is not None
        size = round_up(self._buckets.sizes, int(active.max()) + 1)
        padded = np.zeros((size, 1, *rows.shape[1:]), rows.dtype)
        padded[active, 0] = rows
        call = self._call(size, size, 1, rows, 0)
        options = self._buckets.options(size, call.signature)
        longest = self.capacity + 1  # a captured graph must not depend on the rows' lengths
        logits = call.run(padded, self._lengths[:size], np.arange(size), longest, options)
        if np.array_equal(active, np.arange(len(active))):
            return logits[: len(active)]
        if self._selected is None:  # reused, since new pages cost more than the copy
            self._selected = np.empty((self.slots, logits.shape[1]), np.float32)
        return np.take(logits, active, axis=0, out=self._selected[: len(active)], mode="clip")

    def _prefix(self, prompt: PrefixedPrompt) -> Prefix:
        """Return the prompt's prefix from the cache, or compute and cache it."""
        cached = self._prefixes.get(prompt.prefix_key)
        if cached is not None:
            return cached
        shape = self._prefix_shape(prompt)
        prefix = Prefix(len(prompt.prefix), self._memory.buffer(shape, self._shape.kv_type))
        if prefix.rows:  # an empty prefix has no bytes, so the cache would never drop it
            self._prefill(prefix.layers(), prompt.prefix, 0)
            self._prefixes.put(prompt.prefix_key, prefix, prefix.buffer.nbytes)
        return prefix

    def _prefix_shape(self, prompt: PrefixedPrompt) -> tuple[int, ...]:
        return self._shape.cache_shape(len(self._arena), len(prompt.prefix))

    def _prefill(self, caches: Sequence[TensorView], rows: Rows, past: int) -> F32:
        """Append rows to a slot with `past` positions. Returns logits [vocab] of the last row."""
        options = self._buckets.uncaptured if self._buckets else None
        slot, most = np.zeros(1, np.int64), self._shape.prefill_rows
        for begin in range(0, len(rows), most):
            piece = rows[begin : begin + most]
            call = self._call(1, 1, len(piece), rows)
            call.bind(caches)
            length = past + begin
            logits = call.run(piece[None], np.array([length]), slot, length + len(piece), options)
        return logits[0, : self.vocab].copy()

    def _call(
        self, slots: int, active: int, new: int, rows: Rows, first: int | None = None
    ) -> Call:
        """Return the call of this shape, cached or new. `first`: bind it to `slots` slots
        from this slot on; None: the caller binds caches."""
        by_ids = rows.dtype == np.int64
        key = slots, active, new, by_ids, first
        if key not in self._calls:
            call = self._shape.call_type(
                self._session, self._shared, slots=slots, active=active, new=new, by_ids=by_ids
            )
            if first is not None:
                call.bind(self._slot_views(first, slots))
            self._calls[key] = call
            if len(self._calls) > MAX_CALLS:
                self._calls.popitem(last=False)
        self._calls.move_to_end(key)
        return self._calls[key]

    def _slot_views(self, first: int, count: int) -> list[TensorView]:
        return [buffer.entries(first, count) for buffer in self._arena]
