"""Rows of any length in a compiled language model: slots in one arena, updated in place.

Nothing is copied while rows step: a row joins by prefill into its slot and leaves by being
forgotten. Rows stepping together need not lie side by side. The graph takes the smallest range of
slots that holds them all; a slot inside it that does not step (free, or paused) costs its attention
alone: a free one counts as empty, and what is written behind a paused one's last position is
overwritten when it goes on. Each slot has one position more than `capacity` for that. What prompts
begin with is kept under a key, and copied into the slot.
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
from chatterbox.runtime.buffers import Buffer, HostBuffer, Memory, Window
from chatterbox.runtime.cuda_graphs import REHEARSALS, Buckets
from chatterbox.runtime.embedding import Embedder
from chatterbox.runtime.lru import ByteLru


@dataclass(frozen=True, slots=True, eq=False)
class PrefixedPrompt:
    """Implements `Prompt`: rows that are kept under a key, then ids that an `Embedder` turns into
    rows."""

    prefix_key: str
    prefix: Rows  # [P, …]
    ids: I64  # [S]; none: the prefix alone

    def __len__(self) -> int:
        return len(self.prefix) + len(self.ids)

    def then(self, ids: I64) -> "PrefixedPrompt":
        """The same prefix with these ids behind it."""
        return PrefixedPrompt(self.prefix_key, self.prefix, ids)

    @property
    def text_tokens(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """Keys and values of a prompt's first rows, in one piece: a small model's voices have few
    bytes in each layer, and objects for each would take more than they hold."""

    rows: int
    buffer: Buffer  # [2 × layers, heads, rows, head_dim]

    def layers(self) -> list[Window]:
        """2 × layers of [1, heads, rows, head_dim]: where they are."""
        return [self.buffer.entries(i, 1) for i in range(self.buffer.shape[0])]

    def load(self, arena: Sequence[Buffer], slot: int) -> None:
        """Copy to the beginning of a slot. `arena`: 2 × layers of [slots, heads, capacity,
        head_dim]."""
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


KEPT_CALLS = 256
"""Bound shapes kept for reuse, of steps and of prefills; one saves about 0.3 ms a step. It holds
some 20 kilobytes."""


class SlottedLanguageModel:
    """Implements `LanguageModel` on a compiled graph."""

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
        """`capacity`: positions of a slot; the graph's embeddings bound it, less one for a row that
        is full and waits. `buckets`: step in fixed shapes that can be captured as CUDA graphs;
        none: in the smallest shape. `shape`: of a graph that is not ours; none: as our compiler
        noted it."""
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
        self._lengths = np.zeros(slots, np.int64)  # positions each slot holds; 0: free
        self._shared = CallMemory(self._shape, self._memory, slots=slots, most_new=self.capacity)
        self._calls: OrderedDict[Hashable, Call] = OrderedDict()
        self._picked: F32 | None = None
        self._prefixes: ByteLru[Prefix] = ByteLru(prefix_cache_bytes)

    @property
    def arena_bytes(self) -> int:
        """What all slots take together when every position is in use."""
        return sum(buffer.nbytes for buffer in self._arena)

    @property
    def prefix_bytes(self) -> int:
        """What the voices' cached prefixes take now."""
        return self._prefixes.nbytes

    def prefill(self, slot: int, prompt: PrefixedPrompt) -> F32:
        """The prefix from the cache, then the text; see `LanguageModel.prefill`."""
        rows = self._embed.text(prompt.ids)
        prefix = self._prefix(prompt)
        filled = prefix.rows + len(rows)
        assert filled <= self.capacity, "the engine admits no row that cannot fit"
        prefix.load(self._arena, slot)
        self._lengths[slot] = 0  # nothing of the old row is left, should the next line fail
        logits = self._prefill(self._windows(slot, 1), rows, prefix.rows)
        self._lengths[slot] = filled
        return logits

    def decode(self, slots: Sequence[int], tokens: I64) -> F32:
        """One token for each of `slots`; see `LanguageModel.decode`."""
        active = np.asarray(slots, np.int64)
        held = self._lengths[active].tolist()  # of a few numbers, Python's `min` is the quicker
        assert min(held) > 0, "only rows that have begun can step"
        assert max(held) < self.capacity, "the row's slot is full"
        step = self._step_captured if self._buckets else self._step_smallest
        logits = step(active, self._embed.codes(tokens))
        self._lengths[active] += 1
        return logits[:, : self.vocab]

    def free(self, slot: int) -> None:
        self._lengths[slot] = 0

    def cache_prefix(self, prompt: PrefixedPrompt) -> None:
        """Compute the prompt's prefix unless it is cached, or would push out another one."""
        layers = self._prefix_shape(prompt)
        if self._prefixes.has_room(math.prod(layers) * np.dtype(self._shape.kv_type).itemsize):
            self._prefix(prompt)

    def rehearse(self) -> None:
        """Step every bucket, for onnxruntime to capture it. Only before the first row begins."""
        assert self._buckets is not None
        assert not self._lengths.any(), "a step writes into every slot of its bucket"
        nothing = self._embed.codes(np.zeros(1, np.int64))
        for _ in range(REHEARSALS):
            for size in self._buckets.sizes:
                self._step_captured(np.array([size - 1]), nothing)

    def _step_smallest(self, active: I64, rows: Rows) -> F32:
        places = active.tolist()
        first = min(places)
        span = max(places) + 1 - first
        past = self._lengths[first : first + span]
        call = self._call(span, len(active), 1, rows, first)
        return call.run(rows[:, None], past, active - first, int(past.max()) + 1)

    def _step_captured(self, active: I64, rows: Rows) -> F32:
        """All slots of a bucket step, those that are not asked for in vain."""
        assert self._buckets is not None
        span = self._buckets.holding(int(active.max()) + 1)
        everyone = np.zeros((span, 1, *rows.shape[1:]), rows.dtype)
        everyone[active, 0] = rows
        call = self._call(span, span, 1, rows, 0)
        options = self._buckets.options(span, call.signature)
        longest = self.capacity + 1  # a captured graph must not depend on the rows' lengths
        logits = call.run(everyone, self._lengths[:span], np.arange(span), longest, options)
        if np.array_equal(active, np.arange(len(active))):
            return logits[: len(active)]
        if self._picked is None:  # kept, since new pages cost more than the copy
            self._picked = np.empty((self.slots, logits.shape[1]), np.float32)
        return np.take(logits, active, axis=0, out=self._picked[: len(active)], mode="clip")

    def _prefix(self, prompt: PrefixedPrompt) -> Prefix:
        held = self._prefixes.get(prompt.prefix_key)
        if held is not None:
            return held
        layers = self._prefix_shape(prompt)
        prefix = Prefix(len(prompt.prefix), self._memory.buffer(layers, self._shape.kv_type))
        if prefix.rows:  # else there is nothing to hold, nor to bound it by
            self._prefill(prefix.layers(), prompt.prefix, 0)
            self._prefixes.put(prompt.prefix_key, prefix, prefix.buffer.nbytes)
        return prefix

    def _prefix_shape(self, prompt: PrefixedPrompt) -> tuple[int, ...]:
        return self._shape.cache_shape(len(self._arena), len(prompt.prefix))

    def _prefill(self, caches: Sequence[Window], rows: Rows, past: int) -> F32:
        """Rows behind the `past` positions of one slot → logits [vocab] of the last."""
        options = self._buckets.uncaptured if self._buckets else None
        one, most = np.zeros(1, np.int64), self._shape.prefill_rows
        for begin in range(0, len(rows), most):
            piece = rows[begin : begin + most]
            call = self._call(1, 1, len(piece), rows)
            call.bind(caches)
            held = past + begin
            logits = call.run(piece[None], np.array([held]), one, held + len(piece), options)
        return logits[0, : self.vocab].copy()

    def _call(
        self, slots: int, active: int, new: int, rows: Rows, first: int | None = None
    ) -> Call:
        """`first`: of the slots that a step is bound to for good."""
        by_ids = rows.dtype == np.int64
        key = slots, active, new, by_ids, first
        if key not in self._calls:
            call = self._shape.call(
                self._session, self._shared, slots=slots, active=active, new=new, by_ids=by_ids
            )
            if first is not None:
                call.bind(self._windows(first, slots))
            self._calls[key] = call
            if len(self._calls) > KEPT_CALLS:
                self._calls.popitem(last=False)
        self._calls.move_to_end(key)
        return self._calls[key]

    def _windows(self, first: int, count: int) -> list[Window]:
        return [buffer.entries(first, count) for buffer in self._arena]
