"""Tensors at fixed addresses, of the host or of a GPU, that a session works on in place."""

import math
import weakref
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike, NDArray

from chatterbox.runtime import cudart

Array = NDArray[Any]
Fields = dict[str, tuple[tuple[int, ...], DTypeLike]]
"""Shapes and types of tensors."""
ALIGNMENT_BYTES = 256  # as CUDA's own allocator aligns


class Window:
    """A tensor of fixed shape at a fixed address: its own, or part of another, without a copy."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.address, self.shape, self.dtype = address, shape, np.dtype(dtype)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def entries(self, first: int, count: int) -> "Window":
        """Some neighbours along the first axis."""
        stride = math.prod(self.shape[1:]) * self.dtype.itemsize
        return Window(self.address + first * stride, (count, *self.shape[1:]), self.dtype)


class HostBuffer(Window):
    """In this process's memory. Pages are taken when first written."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.array = np.zeros(shape, dtype)
        super().__init__(self.array.ctypes.data, shape, dtype)

    def get(self) -> Array:
        return self.array


class CudaBuffer(Window):
    """On a GPU, zero at first: exactly as large as it must be, or by a session's own allocator,
    which keeps to the provider's memory limit."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        device_id: int,
        session: ort.InferenceSession | None = None,
    ) -> None:
        super().__init__(0, shape, dtype)
        self.device_id = device_id
        if session is None:
            self.address = cudart.malloc(self.nbytes, device_id)
            weakref.finalize(self, cudart.free, self.address).atexit = False
        else:
            self._value = session.create_ortvalue_from_shape_and_type(
                shape, self.dtype.type, "cuda", device_id
            )
            self.address = int(self._value.data_ptr())
            cudart.zero(self.address, self.nbytes, device_id)

    def get(self) -> Array:
        made = np.empty(self.shape, self.dtype)
        cudart.copy(made.ctypes.data, self.address, self.nbytes, self.device_id)
        return made


Buffer = HostBuffer | CudaBuffer


class Memory:
    """Makes buffers where a session's provider reads them."""

    def __init__(self, device: str, device_id: int = 0) -> None:
        self.device = device
        self.device_id = device_id

    def buffer(
        self, shape: tuple[int, ...], dtype: DTypeLike, session: ort.InferenceSession | None = None
    ) -> Buffer:
        """A new tensor of zeros on this device. `session`: whose limit of memory it falls under;
        only before that session captures its first CUDA graph, whose scratch memory the same
        allocator holds."""
        if self.device == "cuda":
            return CudaBuffer(shape, dtype, self.device_id, session)
        return HostBuffer(shape, dtype)

    def bind_input(self, binding: ort.IOBinding, name: str, at: Window) -> None:
        """Let the graph read `name` there."""
        binding.bind_input(name, self.device, self.device_id, at.dtype.type, at.shape, at.address)

    def bind_output(self, binding: ort.IOBinding, name: str, at: Window) -> None:
        """Let the graph write `name` there."""
        binding.bind_output(name, self.device, self.device_id, at.dtype.type, at.shape, at.address)


class Mirror:
    """Bytes on a device and beside them on the host, with one copy between the two, up or down. On
    a CPU they are the same bytes."""

    def __init__(self, memory: Memory, nbytes: int) -> None:
        self._buffer = memory.buffer((nbytes,), np.uint8)
        self._device_id = memory.device_id
        self._apart = memory.device == "cuda"
        pinned = cudart.pinned(nbytes, memory.device_id) if self._apart else None
        self.host: Array = self._buffer.get() if pinned is None else pinned

    def window(self, offset: int, shape: tuple[int, ...], dtype: DTypeLike) -> tuple[Window, Array]:
        """A tensor at `offset`: on the device, and on the host."""
        window = Window(self._buffer.address + offset, shape, dtype)
        host = self.host[offset : offset + window.nbytes].view(window.dtype).reshape(shape)
        return window, host

    def up(self, nbytes: int) -> None:
        """Copy the first bytes to the device."""
        if self._apart:
            cudart.copy(self._buffer.address, self.host.ctypes.data, nbytes, self._device_id)

    def down(self, nbytes: int) -> None:
        """Copy the first bytes to the host."""
        if self._apart:
            cudart.copy(self.host.ctypes.data, self._buffer.address, nbytes, self._device_id)


def offsets_in_block(fields: Fields) -> tuple[dict[str, int], int]:
    """Where each tensor begins in a common block, and where the block ends."""
    offsets, end = {}, 0
    for name, (shape, dtype) in fields.items():
        offsets[name] = end
        size = math.prod(shape) * np.dtype(dtype).itemsize
        end += -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return offsets, end


class Block:
    """Several tensors, which are copied all at once."""

    def __init__(self, memory: Memory, fields: Fields) -> None:
        offsets, self._nbytes = offsets_in_block(fields)
        self._mirror = Mirror(memory, self._nbytes)
        placed = {n: self._mirror.window(offsets[n], *field) for n, field in fields.items()}
        self.device = {name: window for name, (window, _) in placed.items()}
        self.host = {name: array for name, (_, array) in placed.items()}

    def up(self) -> None:
        self._mirror.up(self._nbytes)

    def down(self) -> None:
        self._mirror.down(self._nbytes)
