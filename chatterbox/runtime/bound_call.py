"""Calls of a compiled language model whose inputs and outputs are bound to fixed memory."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64
from chatterbox.errors import ModelError
from chatterbox.runtime.buffers import (
    Block,
    Fields,
    HostBuffer,
    Memory,
    Mirror,
    TensorView,
    block_offsets,
)

METADATA_KEY = "chatterbox.compiled"
"""Metadata entry of a compiled graph that holds its dimensions."""
KV_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
}
IDS, EMBEDS = "input_ids", "embeds"
"""Names of the inputs with ids and with embeddings. A graph with both adds up their embeddings."""
Rows = NDArray[Any]
"""Input of a call: ids [active, new] or embeddings [active, new, hidden]."""
TOTAL = "total_length"


def past_name(layer: int, kind: str) -> str:
    """Return the name of the graph input with a layer's cached "key" or "value"."""
    return f"past.{layer}.{kind}"


def present_name(layer: int, kind: str) -> str:
    """Return the name of the graph output that is bound to the same memory."""
    return f"present.{layer}.{kind}"


@dataclass(frozen=True, slots=True)
class GraphShape:
    """Dimensions and inputs of a compiled language model."""

    layers: int
    heads: int  # of keys and values
    head_dim: int
    hidden: int
    vocab: int
    positions: int
    kv_type: type[np.generic]
    inputs: frozenset[str]
    width: int  # columns of the logits: `vocab`, then padding
    prefill_rows: int = 1 << 20  # most positions of one prefill call

    @classmethod
    def of(cls, session: ort.InferenceSession) -> "GraphShape":
        """Read the shape from a session. Raises ModelError unless `compile/` wrote the graph."""
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
    def adds_ids_and_embeds(self) -> bool:
        """Whether the graph takes both ids and embeddings, and adds them up."""
        return {IDS, EMBEDS} <= self.inputs

    @property
    def past_names(self) -> list[str]:
        """Graph inputs of keys and values, layer by layer."""
        return [past_name(i, kind) for i in range(self.layers) for kind in ("key", "value")]

    @property
    def present_names(self) -> list[str]:
        """Graph outputs of keys and values, in the order of `past_names`."""
        return [present_name(i, kind) for i in range(self.layers) for kind in ("key", "value")]

    def cache_shape(self, slots: int, capacity: int) -> tuple[int, ...]:
        """Return the shape of one layer's keys, and of its values."""
        return slots, self.heads, capacity, self.head_dim

    @property
    def call_type(self) -> "type[Call]":
        """The class that calls graphs of this kind."""
        return Call

    def fields(self, slots: int, active: int, new: int, *, by_ids: bool) -> Fields:
        """Return the inputs of a call other than the caches."""
        fields: Fields = {
            "position_ids": ((active, new), np.int64),
            "rows": ((slots,), np.int64),
            "active": ((active,), np.int64),
            "seqlens_k": ((slots,), np.int32),
            IDS: ((active, new), np.int64),
        }
        if not by_ids:
            fields[EMBEDS] = ((active, new, self.hidden), np.float32)
        return {name: field for name, field in fields.items() if name in self.inputs}

    def logits(self, slots: int, active: int, new: int) -> Fields:  # noqa: ARG002
        """Return the output of a call other than the caches: logits of each row's last position."""
        return {"logits": ((active, self.width), np.float32)}


class CallMemory:
    """Memory that all calls of one model share; only one call may run at a time.

    All inputs of a call are in one block, so that they reach the device with one copy.
    """

    def __init__(self, shape: GraphShape, memory: Memory, *, slots: int, most_new: int) -> None:
        """`slots`: most rows of a step. `most_new`: most positions of a prefill."""
        largest = (slots, slots, 1), (1, 1, min(most_new, shape.prefill_rows))
        inputs = [block_offsets(shape.fields(*sizes, by_ids=False))[1] for sizes in largest]
        outputs = [block_offsets(shape.logits(*sizes))[1] for sizes in largest]
        self.shape = shape
        self.memory = memory
        self.inputs, self.outputs = Mirror(memory, max(inputs)), Mirror(memory, max(outputs))
        self.total = HostBuffer((), np.int32)  # the operator reads it on the host
        self.last: Call | None = None  # the call whose inputs were written last
        both = shape.adds_ids_and_embeds
        self.zero_rows = memory.buffer((slots, 1, shape.hidden), np.float32) if both else None


class Call:
    """A call with `active` rows of `new` positions each, on the caches of adjacent slots."""

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
        """`by_ids`: rows are ids rather than embeddings."""
        shape, memory = shared.shape, shared.memory
        self._session, self._shared, self._new = session, shared, new
        self._rows_name = IDS if by_ids else EMBEDS
        self._inputs = Block(shape.fields(slots, active, new, by_ids=by_ids), shared.inputs)
        self._outputs = Block(shape.logits(slots, active, new), shared.outputs)
        inputs = dict(self._inputs.device)
        if by_ids and shared.zero_rows is not None:
            inputs[EMBEDS] = shared.zero_rows.entries(0, active)
        self._binding = session.io_binding()
        for name, view in inputs.items():
            memory.bind_input(self._binding, name, view)
        if TOTAL in shape.inputs:
            Memory("cpu").bind_input(self._binding, TOTAL, shared.total)
        logits = self._outputs.device["logits"]
        memory.bind_output(self._binding, "logits", logits)
        self._views = [*inputs.values(), logits]
        self._ahead = np.arange(new)
        self._active: I64 | None = None  # as last written

    def bind(self, caches: Sequence[TensorView]) -> None:
        """Bind keys and values, which are updated in place: 2 × layers of
        [slots, heads, capacity, head_dim]."""
        shape, memory = self._shared.shape, self._shared.memory
        for past, present, cache in zip(shape.past_names, shape.present_names, caches, strict=True):
            memory.bind_input(self._binding, past, cache)
            memory.bind_output(self._binding, present, cache)

    @property
    def signature(self) -> tuple[Any, ...]:
        """Shapes and addresses that a captured CUDA graph has baked in."""
        return tuple((view.address, view.shape) for view in self._views)

    def run(
        self,
        rows: Rows,
        past: I64,  # [slots]: positions in each slot
        active: I64,  # [active]: the slot of each row
        total_length: int,
        options: ort.RunOptions | None = None,
    ) -> F32:
        """Run the graph, which appends `new` positions to the caches of the active slots.

        Returns the logits [active, width] of each row's last position. The next call overwrites
        them. Pass the same `active` array while the same rows run, and never change it: inputs
        that follow from it alone are written once.
        """
        inputs, shared = self._inputs.host, self._shared
        if shared.last is not self or self._active is not active:
            self._write_constants(active)
        if (positions := inputs.get("position_ids")) is not None:
            positions[...] = past[active][:, None]
            if self._new > 1:
                positions += self._ahead
        inputs["seqlens_k"][...] = past if self._new == 1 else past + (self._new - 1)
        inputs[self._rows_name][...] = rows
        shared.total.array.fill(total_length)
        return self._execute(options)

    def _write_constants(self, active: I64) -> None:
        """Write the inputs that depend only on which slots are active."""
        inputs = self._inputs.host
        inputs["rows"][...] = 0  # the result of an inactive slot is unused
        inputs["rows"][active] = np.arange(len(active))
        inputs["active"][...] = active
        if self._rows_name != IDS and IDS in inputs:
            inputs[IDS][...] = self._shared.shape.vocab  # the id of a row of zeros
        self._shared.last, self._active = self, active

    def _execute(self, options: ort.RunOptions | None) -> F32:
        """Copy the inputs to the device, run, and copy the logits back."""
        self._inputs.upload()
        self._session.run_with_iobinding(self._binding, options)
        self._outputs.download()
        return self._outputs.host["logits"]
