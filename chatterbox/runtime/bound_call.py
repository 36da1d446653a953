"""One shape of call to the compiled language model: its buffers, bound to memory for good."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from chatterbox.arrays import I64
from chatterbox.errors import ModelError
from chatterbox.runtime.buffers import Buffer, HostBuffer, Memory, Window

METADATA_KEY = "chatterbox.compiled"
"""The compiled graph's metadata entry with its dimensions."""
PREFIX_GRAPH_KEY = "chatterbox.prefix_graph"
"""The entry with the graph that copies a prefix into a slot (`kv_prefix.py`), in base64."""
Rows = NDArray[Any]
"""What a graph is given at each position: a row of embeddings [hidden], or an id."""
KV_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
}


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
    prefix_graph: bytes  # ONNX: a slot from a prefix and zeros
    ids: bool = False  # whether it takes ids, not rows of embeddings
    rotary: bool = False  # whether it knows each row's positions from its past
    prefill_rows: int = 1 << 20  # most positions of one call

    @classmethod
    def of(cls, session: ort.InferenceSession) -> "GraphShape":
        """Read from the session. Raises ModelError when the graph is not one of ours."""
        metadata = session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata or PREFIX_GRAPH_KEY not in metadata:
            raise ModelError("this language model was not written by `chatterbox compile`")
        inputs = {i.name: i for i in session.get_inputs()}
        layers = sum(name.startswith("past.") for name in inputs) // 2
        key = inputs[past_name(0, "key")]
        numbers = json.loads(metadata[METADATA_KEY])
        return cls(
            layers,
            key.shape[1],
            key.shape[3],
            kv_type=KV_TYPES[key.type],
            ids="input_ids" in inputs,
            rotary="position_ids" not in inputs,
            prefix_graph=base64.b64decode(metadata[PREFIX_GRAPH_KEY]),
            **numbers,
        )

    @property
    def past_names(self) -> list[str]:
        """Graph inputs of keys and values, layer by layer."""
        return [past_name(i, kind) for i in range(self.layers) for kind in ("key", "value")]

    @property
    def present_names(self) -> list[str]:
        """Graph outputs in the same order."""
        return [present_name(i, kind) for i in range(self.layers) for kind in ("key", "value")]

    def rows(self, *count: int) -> Rows:
        """So many empty rows: embeddings of zeros, or ids 0."""
        shape = count if self.ids else (*count, self.hidden)
        return np.zeros(shape, np.int64 if self.ids else np.float32)

    def call(
        self,
        session: ort.InferenceSession,
        memory: Memory,
        caches: Sequence[Buffer | Window],
        *,
        active: int,
        new: int,
        logits: Buffer | None = None,
    ) -> "Call":
        """Of the graph that has this shape; see `Call`."""
        return Call(session, self, memory, caches, active=active, new=new, logits=logits)

    def cache_shape(self, slots: int, capacity: int) -> tuple[int, ...]:
        """Shape of one layer's keys, or values."""
        return slots, self.heads, capacity, self.head_dim


def bind_in_place(
    session: ort.InferenceSession,
    shape: GraphShape,
    memory: Memory,
    caches: Sequence[Buffer | Window],
) -> ort.IOBinding:
    """A binding whose past and present keys and values are the same memory."""
    binding = session.io_binding()
    for name, cache in zip(shape.past_names, caches, strict=True):
        memory.bind_input(binding, name, cache)
    for name, cache in zip(shape.present_names, caches, strict=True):
        memory.bind_output(binding, name, cache)
    return binding


class Call:
    """`active` rows of `new` positions each, on caches of some slots that lie side by side."""

    def __init__(
        self,
        session: ort.InferenceSession,
        shape: GraphShape,
        memory: Memory,
        caches: Sequence[Buffer | Window],
        *,
        active: int,
        new: int,
        logits: Buffer | None = None,
    ) -> None:
        """`logits`: [active, vocab], where several calls put theirs, one at a time; none: into
        memory of its own."""
        slots = caches[0].shape[0]
        self._session = session
        self._new = new
        rows = shape.rows(active, new)
        self._first = "input_ids" if shape.ids else "embeds"
        self._inputs: dict[str, Buffer] = {
            self._first: memory.buffer(rows.shape, rows.dtype),
            "position_ids": memory.buffer((active, new), np.int64),
            "rows": memory.buffer((slots,), np.int64),
            "active": memory.buffer((active,), np.int64),
            "seqlens_k": memory.buffer((slots,), np.int32),
        }
        if shape.rotary:
            del self._inputs["position_ids"]
        self._total = HostBuffer((), np.int32)  # the operator reads it on the host
        self._logits = logits or memory.buffer((active, shape.vocab), np.float32)
        self._binding = bind_in_place(session, shape, memory, caches)
        for name, buffer in self._inputs.items():
            memory.bind_input(self._binding, name, buffer)
        Memory("cpu").bind_input(self._binding, "total_length", self._total)
        memory.bind_output(self._binding, "logits", self._logits)

    @property
    def signature(self) -> tuple[Any, ...]:
        """Everything that a captured CUDA graph bakes in: shapes and addresses."""
        buffers = [*self._inputs.values(), self._logits]
        return tuple((buffer.address, buffer.shape) for buffer in buffers)

    def run(
        self,
        values: Rows,  # [active, new, …]
        past: I64,  # [slots]: positions each slot holds
        active: I64,  # [active]: the slot of each row
        total_length: int,
        options: ort.RunOptions | None = None,
    ) -> NDArray[np.float32]:
        """Logits [active, vocab] of each row's last position; the caches grow by `new`."""
        rows = np.zeros(len(past), np.int64)  # a slot that does not step computes row 0 in vain
        rows[active] = np.arange(len(active))
        inputs: dict[str, NDArray[Any]] = {
            self._first: values,
            "position_ids": past[active][:, None] + np.arange(self._new),
            "rows": rows,
            "active": active,
            "seqlens_k": past + (self._new - 1),
        }
        for name, buffer in self._inputs.items():
            buffer.put(inputs[name])
        self._total.put(np.array(total_length))
        self._session.run_with_iobinding(self._binding, options)
        return self._logits.get()
