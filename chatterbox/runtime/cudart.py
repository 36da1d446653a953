"""Functions of CUDA's runtime library that onnxruntime's Python interface lacks: device memory by
the byte, page-locked host memory, strided copies.

onnxruntime's CUDA provider must have loaded the library before. Its streams do not wait for the
default stream, which these functions use, so each function waits until its work is done.
"""

import ctypes
import os
import weakref
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIBRARY = "cudart64_13.dll" if os.name == "nt" else "libcudart.so.13"
_BY_ADDRESS = 4  # cudaMemcpyDefault: the direction follows from the addresses
_PORTABLE = 1  # cudaHostAllocPortable: page-locked for every device
_DEFAULT_STREAM = None

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cudaSetDevice": (ctypes.c_int,),
    "cudaMemGetInfo": (ctypes.c_void_p, ctypes.c_void_p),
    "cudaMalloc": (ctypes.c_void_p, ctypes.c_size_t),
    "cudaFree": (ctypes.c_void_p,),
    "cudaMemset": (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t),
    "cudaHostAlloc": (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint),
    "cudaFreeHost": (ctypes.c_void_p,),
    "cudaMemcpy": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
    "cudaMemcpy2DAsync": (
        *(ctypes.c_void_p, ctypes.c_size_t) * 2,
        *(ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p),
    ),
    "cudaStreamSynchronize": (ctypes.c_void_p,),
}


@cache
def _functions() -> dict[str, Any]:
    library = ctypes.CDLL(LIBRARY)
    library.cudaGetErrorString.restype = ctypes.c_char_p
    functions = {name: getattr(library, name) for name in (*_SIGNATURES, "cudaGetErrorString")}
    for name, arguments in _SIGNATURES.items():
        functions[name].argtypes = arguments
    return functions


def _call(name: str, *arguments: Any) -> None:
    functions = _functions()
    status = functions[name](*arguments)
    if status:
        text = functions["cudaGetErrorString"](status).decode(errors="replace")
        raise RuntimeError(f"CUDA failure {status}: {text}; {name}")  # worded as by onnxruntime


def memory(device_id: int) -> tuple[int, int]:
    """Return the free and the total bytes of a device."""
    _call("cudaSetDevice", device_id)
    available, total = ctypes.c_size_t(), ctypes.c_size_t()
    _call("cudaMemGetInfo", ctypes.byref(available), ctypes.byref(total))
    return available.value, total.value


def malloc(nbytes: int, device_id: int) -> int:
    """Allocate zeroed memory on a device. Returns its address."""
    _call("cudaSetDevice", device_id)
    address = ctypes.c_void_p()
    _call("cudaMalloc", ctypes.byref(address), max(nbytes, 1))
    assert address.value is not None
    zero(address.value, nbytes, device_id)
    return address.value


def zero(address: int, nbytes: int, device_id: int) -> None:
    _call("cudaSetDevice", device_id)
    _call("cudaMemset", address, 0, nbytes)
    _call("cudaStreamSynchronize", _DEFAULT_STREAM)


def free(address: int) -> None:
    """Free device memory. Waits for all work on the device."""
    _call("cudaFree", address)


def pinned(nbytes: int, device_id: int) -> NDArray[np.uint8]:
    """Allocate page-locked host memory, which a device copies from and to without the CPU."""
    _call("cudaSetDevice", device_id)  # else the first device would get a context
    address = ctypes.c_void_p()
    _call("cudaHostAlloc", ctypes.byref(address), max(nbytes, 1), _PORTABLE)
    assert address.value is not None
    memory = (ctypes.c_uint8 * nbytes).from_address(address.value)
    weakref.finalize(memory, _call, "cudaFreeHost", address.value).atexit = False
    return np.ctypeslib.as_array(memory)


def copy(target: int, source: int, nbytes: int, device_id: int) -> None:
    """Copy between page-locked memory and a device."""
    _call("cudaSetDevice", device_id)
    _call("cudaMemcpy", target, source, nbytes, _BY_ADDRESS)


Rows = tuple[int, int, int, int]
"""Addresses of target and source, and the strides of their rows in bytes."""


def copy_rows(blocks: list[Rows], width: int, rows: int, device_id: int) -> None:
    """Copy `rows` rows of `width` bytes in each block, from device to device."""
    _call("cudaSetDevice", device_id)
    for target, source, target_stride, source_stride in blocks:
        _call(
            *("cudaMemcpy2DAsync", target, target_stride, source, source_stride),
            *(width, rows, _BY_ADDRESS, _DEFAULT_STREAM),
        )
    _call("cudaStreamSynchronize", _DEFAULT_STREAM)
