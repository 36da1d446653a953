"""Where do the tensors that a session works on in place lie? Host or CUDA memory, one face.

Knows addresses and copies; knows no graph.
"""

from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]


class Buffer(Protocol):
    """A tensor of fixed shape at a fixed address."""

    @property
    def address(self) -> int:
        """Where it lies."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its type."""
        ...

    def put(self, values: Array) -> None:
        """Overwrite all of it."""
        ...

    def get(self) -> Array:
        """Its content on the host; a view where that costs nothing."""
        ...


class HostBuffer:
    """In this process's memory. Pages are taken when first written."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.array = np.zeros(shape, dtype)
        self.address = self.array.ctypes.data
        self.shape = shape
        self.dtype = self.array.dtype

    def put(self, values: Array) -> None:
        """Overwrite all of it."""
        assert values.shape == self.shape, "a value of another shape would be spread over it"
        self.array[...] = values

    def get(self) -> Array:
        """The memory itself."""
        return self.array


class CudaBuffer:
    """On a GPU."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, device_id: int) -> None:
        kind = np.dtype(dtype)
        self._value = ort.OrtValue.ortvalue_from_shape_and_type(shape, kind.type, "cuda", device_id)
        self.address = int(self._value.data_ptr())
        self.shape = shape
        self.dtype = kind

    def put(self, values: Array) -> None:
        """Copy from the host."""
        self._value.update_inplace(np.ascontiguousarray(values, self.dtype))

    def get(self) -> Array:
        """Copy to the host."""
        copied: Array = self._value.numpy()
        return copied


class Memory:
    """Makes buffers where a session's provider reads them."""

    def __init__(self, device: str, device_id: int = 0) -> None:
        self.device = device
        self.device_id = device_id

    def buffer(self, shape: tuple[int, ...], dtype: DTypeLike) -> Buffer:
        """A new tensor on this device."""
        if self.device == "cuda":
            return CudaBuffer(shape, dtype, self.device_id)
        return HostBuffer(shape, dtype)

    def bind_input(self, binding: ort.IOBinding, name: str, at: "Buffer | Window") -> None:
        """Let the graph read `name` there."""
        binding.bind_input(name, self.device, self.device_id, at.dtype.type, at.shape, at.address)

    def bind_output(self, binding: ort.IOBinding, name: str, at: "Buffer | Window") -> None:
        """Let the graph write `name` there."""
        binding.bind_output(name, self.device, self.device_id, at.dtype.type, at.shape, at.address)


class Window:
    """Some neighbouring entries of a buffer's first axis, by address: no copy."""

    def __init__(self, buffer: Buffer, first: int, count: int) -> None:
        stride = buffer.dtype.itemsize * int(np.prod(buffer.shape[1:]))
        self.address = buffer.address + first * stride
        self.shape = (count, *buffer.shape[1:])
        self.dtype = buffer.dtype
