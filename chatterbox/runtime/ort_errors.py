"""Classifies exceptions of graphs: too little memory, a lost device, or bad input of one row."""

import re

_NO_MEMORY = (
    "failed to allocate memory",  # ONNX Runtime's arenas, on every device
    "bfcarena",
    "out of memory",  # CUDA error 2
    "bad allocation",  # std::bad_alloc, by compiler
    "bad_alloc",
    "cudaerrormemoryallocation",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "allocation_failed",  # cuDNN 9, of the host or the device
)
_DEVICE = re.compile(
    r"\b(cuda|cudnn|cudnn_fe|cublas|cublaslt|cufft|curand|cusparse|nccl)"
    r"( runtime)? (failure|error)\b"
    r"|\bcuda_?error_?[a-z]+|\b(cudnn|cublas|cufft|curand|cusparse)_(status|backend)_[a-z]+"
    r"|\bdevice-side assert|\billegal memory access|\bunspecified launch failure"
)
"""Error reports of CUDA's libraries, also through ONNX Runtime ("CUDA failure 700: …"). The names
of the libraries do not suffice: messages contain paths such as `providers/cuda/nn/conv.cc`."""
_ARGUMENT = re.compile(
    r"_(bad_param|invalid_value|not_supported)\b|cuda_?error_?invalid_?value|: invalid argument\b"
)
"""Errors of these libraries about arguments, which leave the device usable."""

REQUEST_ERRORS = (ValueError, LookupError, TypeError, ArithmeticError, AssertionError)
"""Exceptions that this project's code raises on unusable data."""
INVALID_ARGUMENT = "InvalidArgument"
"""ONNX Runtime's class for inputs of a wrong shape or type."""


def is_out_of_memory(fault: BaseException) -> bool:
    """Return whether memory ran out, so that a smaller call may succeed."""
    text = str(fault).lower()
    return isinstance(fault, MemoryError) or any(words in text for words in _NO_MEMORY)


def device_is_lost(fault: BaseException) -> bool:
    """Return whether the device failed. CUDA then fails every later call of the process, which must
    be restarted."""
    text = str(fault).lower()
    if is_out_of_memory(fault) or _ARGUMENT.search(text):
        return False
    return _DEVICE.search(text) is not None


def is_request_error(fault: BaseException) -> bool:
    """Return whether the input caused the exception, so that other rows are not affected."""
    if device_is_lost(fault):
        return False
    return isinstance(fault, REQUEST_ERRORS) or type(fault).__name__ == INVALID_ARGUMENT
