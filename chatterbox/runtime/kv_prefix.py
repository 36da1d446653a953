"""Prompts with a prefix that is kept, and how its keys and values get into a slot: copied."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chatterbox.arrays import I64
from chatterbox.runtime import cudart
from chatterbox.runtime.bound_call import Rows
from chatterbox.runtime.buffers import Buffer, CudaBuffer, HostBuffer, Window


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
        return [Window.entries(self.buffer, i, 1) for i in range(self.buffer.shape[0])]

    def load(self, arena: Sequence[Buffer], slot: int) -> None:
        """Copy to the beginning of a slot. `arena`: 2 × layers of [slots, heads, capacity,
        head_dim]."""
        if not self.rows:
            return
        if isinstance(self.buffer, CudaBuffer):
            self._load_on_device(arena, slot)
            return
        for source, target in zip(self.buffer.get(), arena, strict=True):
            assert isinstance(target, HostBuffer)
            target.array[slot, :, : self.rows] = source

    def _load_on_device(self, arena: Sequence[Buffer], slot: int) -> None:
        """A head's rows are one row of the copy."""
        _, heads, capacity, head_dim = arena[0].shape
        position = head_dim * self.buffer.dtype.itemsize
        width = self.rows * position
        blocks = [
            (Window.entries(target, slot, 1).address, source.address, capacity * position, width)
            for source, target in zip(self.layers(), arena, strict=True)
        ]
        assert isinstance(self.buffer, CudaBuffer)
        cudart.copy_rows(blocks, width, heads, self.buffer.device_id)
