"""Tensors at fixed addresses in host or GPU memory, which sessions read and write."""

import math
import weakref
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike, NDArray

from chatterbox.runtime import cudart

Array = NDArray[Any]
Fields = dict[str, tuple[tuple[int, ...], DTypeLike]]
"""Shapes and types of tensors, by name."""
ALIGNMENT_BYTES = 256  # as CUDA's own allocator aligns


class TensorView:
    """A tensor of fixed shape at a fixed address; it may be part of another tensor."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.address, self.shape, self.dtype = address, shape, np.dtype(dtype)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def entries(self, first: int, count: int) -> "TensorView":
        """Return `count` adjacent entries of the first axis, without a copy."""
        stride = math.prod(self.shape[1:]) * self.dtype.itemsize
        return TensorView(self.address + first * stride, (count, *self.shape[1:]), self.dtype)


class HostBuffer(TensorView):
    """A zeroed tensor in this process's memory, whose pages are allocated when first written."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.array = np.zeros(shape, dtype)
        super().__init__(self.array.ctypes.data, shape, dtype)

    def get(self) -> Array:
        return self.array


class CudaBuffer(TensorView):
    """A zeroed tensor on a GPU.

    Without a session, `cudaMalloc` allocates the tensor. With a session, the session's
    allocator does, within the provider's memory limit.
    """

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
        """Return a copy of the tensor on the host."""
        values = np.empty(self.shape, self.dtype)
        cudart.copy(values.ctypes.data, self.address, self.nbytes, self.device_id)
        return values


Buffer = HostBuffer | CudaBuffer


class Memory:
    """Allocates tensors on one device, and binds them to the inputs and outputs of sessions."""

    def __init__(self, device: str, device_id: int = 0) -> None:
        self.device = device
        self.device_id = device_id

    def buffer(
        self, shape: tuple[int, ...], dtype: DTypeLike, session: ort.InferenceSession | None = None
    ) -> Buffer:
        """Allocate a tensor of zeros.

        `session`: count the tensor towards this session's memory limit. Allowed only until the
        session captures a CUDA graph: its graphs' scratch memory is in the same allocator.
        """
        if self.device == "cuda":
            return CudaBuffer(shape, dtype, self.device_id, session)
        return HostBuffer(shape, dtype)

    def bind_input(self, binding: ort.IOBinding, name: str, at: TensorView) -> None:
        """Let the graph read the input `name` from `at`."""
        binding.bind_input(name, self.device, self.device_id, at.dtype.type, at.shape, at.address)

    def bind_output(self, binding: ort.IOBinding, name: str, at: TensorView) -> None:
        """Let the graph write the output `name` to `at`."""
        binding.bind_output(name, self.device, self.device_id, at.dtype.type, at.shape, at.address)


class Mirror:
    """A byte buffer on a device with a page-locked twin on the host; on a CPU, the same bytes."""

    def __init__(self, memory: Memory, nbytes: int) -> None:
        self._buffer = memory.buffer((nbytes,), np.uint8)
        self.address = self._buffer.address
        self._device_id = memory.device_id
        self._is_separate = memory.device == "cuda"
        pinned = cudart.pinned(nbytes, memory.device_id) if self._is_separate else None
        self.host: Array = self._buffer.get() if pinned is None else pinned

    def upload(self, nbytes: int) -> None:
        """Copy the first `nbytes` bytes to the device."""
        if self._is_separate:
            cudart.copy(self.address, self.host.ctypes.data, nbytes, self._device_id)

    def download(self, nbytes: int) -> None:
        """Copy the first `nbytes` bytes to the host."""
        if self._is_separate:
            cudart.copy(self.host.ctypes.data, self.address, nbytes, self._device_id)


def block_offsets(fields: Fields) -> tuple[dict[str, int], int]:
    """Return the offset of each tensor in a common block, and the block's size, in bytes."""
    offsets, end = {}, 0
    for name, (shape, dtype) in fields.items():
        offsets[name] = end
        size = math.prod(shape) * np.dtype(dtype).itemsize
        end += -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return offsets, end


class Block:
    """Several tensors in one `Mirror`, copied between host and device with one copy."""

    def __init__(self, fields: Fields, mirror: Mirror) -> None:
        """The tensors start at the mirror's beginning; `mirror` may be larger than the block."""
        self._mirror = mirror
        offsets, self._nbytes = block_offsets(fields)
        self.device = {
            name: TensorView(mirror.address + offsets[name], *field)
            for name, field in fields.items()
        }
        self.host: dict[str, Array] = {
            name: mirror.host[offsets[name] :][: at.nbytes].view(at.dtype).reshape(at.shape)
            for name, at in self.device.items()
        }

    @classmethod
    def allocate(cls, fields: Fields, memory: Memory) -> "Block":
        """Place the tensors in a mirror of their own."""
        return cls(fields, Mirror(memory, block_offsets(fields)[1]))

    def upload(self) -> None:
        self._mirror.upload(self._nbytes)

    def download(self) -> None:
        self._mirror.download(self._nbytes)
