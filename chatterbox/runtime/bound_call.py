"""One shape of call to the compiled language model: its buffers, bound to memory for good."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from chatterbox.errors import ModelError
from chatterbox.runtime.buffers import Buffer, HostBuffer, Memory, Window
from chatterbox.runtime.contract import F32, I64

METADATA_KEY = "chatterbox.compiled"
"""The compiled graph's metadata entry with its dimensions."""
PREFIX_GRAPH_KEY = "chatterbox.prefix_graph"
"""The entry with the graph that copies a prefix into a slot (`kv_prefix.py`), in base64."""
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
    """What a compiled session says of itself."""

    layers: int
    heads: int
    head_dim: int
    hidden: int
    vocab: int
    positions: int
    kv_type: type[np.generic]
    prefix_graph: bytes  # ONNX: a slot from a prefix and zeros

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

    def cache_shape(self, slots: int, capacity: int) -> tuple[int, ...]:
        """Shape of one layer's keys, or values."""
        return slots, self.heads, capacity, self.head_dim


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
        self._inputs: dict[str, Buffer] = {
            "embeds": memory.buffer((active, new, shape.hidden), np.float32),
            "position_ids": memory.buffer((active, new), np.int64),
            "rows": memory.buffer((slots,), np.int64),
            "active": memory.buffer((active,), np.int64),
            "seqlens_k": memory.buffer((slots,), np.int32),
        }
        self._total = HostBuffer((), np.int32)  # the operator reads it on the host
        self._logits = logits or memory.buffer((active, shape.vocab), np.float32)
        self._binding = session.io_binding()
        for name, buffer in self._inputs.items():
            memory.bind_input(self._binding, name, buffer)
        Memory("cpu").bind_input(self._binding, "total_length", self._total)
        for name, cache in zip(shape.past_names, caches, strict=True):
            memory.bind_input(self._binding, name, cache)
        for name, cache in zip(shape.present_names, caches, strict=True):
            memory.bind_output(self._binding, name, cache)  # the same memory: updated in place
        memory.bind_output(self._binding, "logits", self._logits)

    @property
    def signature(self) -> tuple[Any, ...]:
        """Everything that a captured CUDA graph bakes in: shapes and addresses."""
        buffers = [*self._inputs.values(), self._logits]
        return tuple((buffer.address, buffer.shape) for buffer in buffers)

    def run(
        self,
        embeds: F32,  # [active, new, hidden]
        past: I64,  # [slots]: positions each slot holds
        active: I64,  # [active]: the slot of each row
        total_length: int,
        options: ort.RunOptions | None = None,
    ) -> NDArray[np.float32]:
        """Logits [active, vocab] of each row's last position; the caches grow by `new`."""
        rows = np.zeros(len(past), np.int64)  # a slot that does not step computes row 0 in vain
        rows[active] = np.arange(len(active))
        values: dict[str, NDArray[Any]] = {
            "embeds": embeds,
            "position_ids": past[active][:, None] + np.arange(self._new),
            "rows": rows,
            "active": active,
            "seqlens_k": past + (self._new - 1),
        }
        for name, value in values.items():
            self._inputs[name].put(value)
        self._total.put(np.array(total_length))
        self._session.run_with_iobinding(self._binding, options)
        return self._logits.get()
