"""Prompts with a prefix that is kept, and how its keys and values get into a slot: copied."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from chatterbox.arrays import I64
from chatterbox.runtime.bound_call import GraphShape, Rows
from chatterbox.runtime.buffers import Buffer, HostBuffer, Memory, Window


@dataclass(frozen=True, slots=True, eq=False)
class PrefixedPrompt:
    """Implements `Prompt`: rows that are kept under a key, then ids that an `Embedder` turns into
    rows."""

    prefix_key: str
    prefix: Rows  # [P, …]
    ids: I64  # [S]; none: the prefix alone

    def __len__(self) -> int:
        """Positions in a slot."""
        return len(self.prefix) + len(self.ids)

    def then(self, ids: I64) -> "PrefixedPrompt":
        """The same prefix with these ids behind it."""
        return PrefixedPrompt(self.prefix_key, self.prefix, ids)

    @property
    def text_tokens(self) -> int:
        """Ids behind the prefix."""
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """Keys and values of a prompt's first rows, in one piece: a small model's voices have few
    bytes in each layer, and objects for each would take more than they hold."""

    rows: int
    buffer: Buffer  # [2 × layers, heads, rows, head_dim]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(np.prod(self.buffer.shape)) * self.buffer.dtype.itemsize

    def layers(self) -> list[Window]:
        """2 × layers of [1, heads, rows, head_dim]: where they are."""
        return [Window(self.buffer, i, 1) for i in range(self.buffer.shape[0])]


class PrefixLoader:
    """Copies a prefix to the beginning of a slot."""

    def __init__(self, shape: GraphShape, memory: Memory) -> None:
        self._memory = memory
        self._session = None if memory.device == "cpu" else pad_session(shape, memory)

    def load(self, prefix: Prefix, arena: Sequence[Buffer], slot: int) -> None:
        """`arena`: 2 × layers of [slots, heads, capacity, head_dim]."""
        if not prefix.rows:
            return
        if self._session is not None:
            load_by_graph(self._session, self._memory, prefix, arena, slot)
            return
        for source, target in zip(prefix.buffer.get(), arena, strict=True):
            assert isinstance(target, HostBuffer)
            target.array[slot, :, : prefix.rows] = source


def pad_session(shape: GraphShape, memory: Memory) -> ort.InferenceSession:
    """The graph that fills a slot with a prefix and zeros: on a GPU the copy is strided, and this
    is how onnxruntime does one there."""
    cuda = ("CUDAExecutionProvider", {"device_id": str(memory.device_id)})
    providers = [cuda] if memory.device == "cuda" else ["CPUExecutionProvider"]
    return ort.InferenceSession(shape.prefix_graph, providers=providers)


def load_by_graph(
    session: ort.InferenceSession,
    memory: Memory,
    prefix: Prefix,
    arena: Sequence[Buffer],
    slot: int,
) -> None:
    """`PrefixLoader.load` by `pad_session`; the rest of the slot becomes zero."""
    binding = session.io_binding()
    pads = HostBuffer((8,), np.int64)
    pads.array[6] = arena[0].shape[2] - prefix.rows  # behind the third axis
    Memory("cpu").bind_input(binding, "pads", pads)
    names = [i.name for i in session.get_inputs()][1:]
    outputs = [o.name for o in session.get_outputs()]
    for name, output, source, target in zip(names, outputs, prefix.layers(), arena, strict=True):
        memory.bind_input(binding, name, source)
        memory.bind_output(binding, output, Window(target, slot, 1))
    session.run_with_iobinding(binding)
