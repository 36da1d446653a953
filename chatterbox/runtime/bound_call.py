"""One shape of call to a compiled language model, bound to its memory for good."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64
from chatterbox.errors import ModelError
from chatterbox.runtime.buffers import Fields, HostBuffer, Memory, Mirror, Window, offsets_in_block

METADATA_KEY = "chatterbox.compiled"
"""The compiled graph's metadata entry with its dimensions."""
KV_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
}
IDS, EMBEDS = "input_ids", "embeds"
"""What a graph is given at each position: an id, a row of embeddings, or both, which it adds."""
Rows = NDArray[Any]
"""Whichever a call is made with: ids [active, new], or embeddings [active, new, hidden]."""
TOTAL = "total_length"


def takes_both(session: ort.InferenceSession) -> bool:
    """Whether a graph takes ids and embeddings, and adds them."""
    return {IDS, EMBEDS} <= {i.name for i in session.get_inputs()}


def past_name(layer: int, kind: str) -> str:
    """Graph input of a layer's cached "key" or "value"."""
    return f"past.{layer}.{kind}"


def present_name(layer: int, kind: str) -> str:
    """Graph output that is bound to the same memory."""
    return f"present.{layer}.{kind}"


@dataclass(frozen=True, slots=True)
class GraphShape:
    """What a session says of itself."""

    layers: int
    heads: int  # of keys and values
    head_dim: int
    hidden: int
    vocab: int
    positions: int
    kv_type: type[np.generic]
    inputs: frozenset[str]
    width: int  # of the logits as they come out: `vocab`, and what is left away
    prefill_rows: int = 1 << 20  # most positions of one call

    @classmethod
    def of(cls, session: ort.InferenceSession) -> "GraphShape":
        """Read from the session. Raises ModelError when the graph is not one of ours."""
        metadata = session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise ModelError("this language model was not written by `chatterbox compile`")
        inputs = {i.name: i for i in session.get_inputs()}
        key = inputs[past_name(0, "key")]
        return cls(
            layers=sum(name.startswith("past.") for name in inputs) // 2,
            heads=key.shape[1],
            head_dim=key.shape[3],
            kv_type=KV_TYPES[key.type],
            inputs=frozenset(inputs),
            width=session.get_outputs()[0].shape[1],
            **json.loads(metadata[METADATA_KEY]),
        )

    @property
    def past_names(self) -> list[str]:
        """Graph inputs of keys and values, layer by layer."""
        return [past_name(i, kind) for i in range(self.layers) for kind in ("key", "value")]

    @property
    def present_names(self) -> list[str]:
        """Graph outputs in the same order."""
        return [present_name(i, kind) for i in range(self.layers) for kind in ("key", "value")]

    def cache_shape(self, slots: int, capacity: int) -> tuple[int, ...]:
        """Shape of one layer's keys, or values."""
        return slots, self.heads, capacity, self.head_dim

    @property
    def call(self) -> "type[Call]":
        """What runs a graph that has this shape."""
        return Call

    def fields(self, slots: int, active: int, new: int, *, by_ids: bool) -> Fields:
        """The inputs of a call besides the caches, those that change with every call."""
        made: Fields = {
            "position_ids": ((active, new), np.int64),
            "rows": ((slots,), np.int64),
            "active": ((active,), np.int64),
            "seqlens_k": ((slots,), np.int32),
            IDS: ((active, new), np.int64),
        }
        if not by_ids:
            made[EMBEDS] = ((active, new, self.hidden), np.float32)
        return {name: field for name, field in made.items() if name in self.inputs}

    def logits(self, slots: int, active: int, new: int) -> tuple[int, ...]:  # noqa: ARG002
        """Shape of a call's logits: of each row's last position."""
        return active, self.width


class CallMemory:
    """What all calls of one model share, since they are made one after the other: a block for all
    inputs, which goes up in one copy, and the logits, which come down in one."""

    def __init__(self, shape: GraphShape, memory: Memory, *, slots: int, most_new: int) -> None:
        """`slots`: that step together at most; `most_new`: positions of a prefill."""
        largest = (slots, slots, 1), (1, 1, min(most_new, shape.prefill_rows))
        fields = [shape.fields(*sizes, by_ids=False) for sizes in largest]
        logits = [math.prod(shape.logits(*sizes)) for sizes in largest]
        self.shape = shape
        self.memory = memory
        self.inputs = Mirror(memory, max(offsets_in_block(some)[1] for some in fields))
        self.logits = Mirror(memory, max(logits) * np.dtype(np.float32).itemsize)
        self.total = HostBuffer((), np.int32)  # the operator reads it on the host
        summed = {IDS, EMBEDS} <= shape.inputs
        self.no_rows = memory.buffer((slots, 1, shape.hidden), np.float32) if summed else None


class Call:
    """`active` rows of `new` positions each, on caches of some slots that lie side by side."""

    def __init__(
        self,
        session: ort.InferenceSession,
        shared: CallMemory,
        *,
        slots: int,
        active: int,
        new: int = 1,
        by_ids: bool = False,
    ) -> None:
        """`by_ids`: given ids, else embeddings."""
        shape, memory = shared.shape, shared.memory
        self._session, self._shared, self._new = session, shared, new
        self._given = IDS if by_ids else EMBEDS
        fields = shape.fields(slots, active, new, by_ids=by_ids)
        self._offsets, self._nbytes = offsets_in_block(fields)
        windows, self._inputs = {}, {}
        for name, field in fields.items():
            window, host = shared.inputs.window(self._offsets[name], *field)
            windows[name], self._inputs[name] = window, host
        sizes = shape.logits(slots, active, new)
        logits, self._logits = shared.logits.window(0, sizes, np.float32)
        if by_ids and shared.no_rows is not None:
            windows[EMBEDS] = shared.no_rows.entries(0, active)
        self._binding = session.io_binding()
        for name, window in windows.items():
            memory.bind_input(self._binding, name, window)
        if TOTAL in shape.inputs:
            Memory("cpu").bind_input(self._binding, TOTAL, shared.total)
        memory.bind_output(self._binding, "logits", logits)
        self._windows = [*windows.values(), logits]

    def bind(self, caches: Sequence[Window]) -> None:
        """Keys and values: 2 × layers of [slots, heads, capacity, head_dim], updated in place."""
        shape, memory = self._shared.shape, self._shared.memory
        for past, present, cache in zip(shape.past_names, shape.present_names, caches, strict=True):
            memory.bind_input(self._binding, past, cache)
            memory.bind_output(self._binding, present, cache)

    @property
    def signature(self) -> tuple[Any, ...]:
        """What a captured CUDA graph bakes in of it: shapes and addresses."""
        return tuple((window.address, window.shape) for window in self._windows)

    def run(
        self,
        given: Rows,
        past: I64,  # [slots]: positions each slot holds
        active: I64,  # [active]: the slot of each row
        total_length: int,
        options: ort.RunOptions | None = None,
    ) -> F32:
        """Logits [active, vocab or wider] of each row's last position; the caches grow by `new`.
        They lie where the next call's will."""
        rows = np.zeros(len(past), np.int64)  # a slot that does not step computes row 0 in vain
        rows[active] = np.arange(len(active))
        values: dict[str, Any] = {
            "position_ids": past[active][:, None] + np.arange(self._new),
            "rows": rows,
            "active": active,
            "seqlens_k": past + (self._new - 1),
            IDS: self._shared.shape.vocab,  # of a row of zeros, where both are taken
            self._given: given,
        }
        for name, target in self._inputs.items():
            target[...] = values[name]
        self._shared.total.array[...] = total_length
        self._shared.inputs.up(self._nbytes)
        self._session.run_with_iobinding(self._binding, options)
        self._shared.logits.down(self._logits.nbytes)
        return self._logits
