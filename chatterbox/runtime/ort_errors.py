"""Tells what a graph's failure means: too little memory, a lost device, or one row's own fault."""

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
"""How CUDA's libraries, and ONNX Runtime for them, report an error ("CUDA failure 700: …"). Their
names alone say nothing: messages hold paths such as `providers/cuda/nn/conv.cc`."""
_ARGUMENT = re.compile(
    r"_(bad_param|invalid_value|not_supported)\b|cuda_?error_?invalid_?value|: invalid argument\b"
)
"""Errors of theirs that blame what was handed in and leave the device as it was."""

REQUEST_ERRORS = (ValueError, LookupError, TypeError, ArithmeticError, AssertionError)
"""What our own code raises on data that it cannot use."""
INVALID_ARGUMENT = "InvalidArgument"
"""ONNX Runtime's class for inputs of a wrong shape or type."""


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether less at once may do: nothing is broken."""
    text = str(fault).lower()
    return isinstance(fault, MemoryError) or any(words in text for words in _NO_MEMORY)


def device_is_lost(fault: BaseException) -> bool:
    """Whether the device itself failed. CUDA keeps such an error for the rest of the process: every
    later call fails too, and only a new process helps."""
    text = str(fault).lower()
    if is_out_of_memory(fault) or _ARGUMENT.search(text):
        return False
    return _DEVICE.search(text) is not None


def is_request_error(fault: BaseException) -> bool:
    """Whether what was handed in is to blame, so that other rows are not concerned."""
    if device_is_lost(fault):
        return False
    return isinstance(fault, REQUEST_ERRORS) or type(fault).__name__ == INVALID_ARGUMENT
