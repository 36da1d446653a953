"""Finds the GPU, checks that onnxruntime can compute on it, and explains failures."""

import ctypes
import os
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnxruntime as ort

from chatterbox.errors import first_line
from chatterbox.runtime import cudart

CUDA = "CUDAExecutionProvider"
INSTALL = "pip install -r requirements-cuda.txt"
NEEDED_CUDA = 13000  # the driver's number for 13.0
NEEDED_DRIVER = "580"
SUPPORTED = "7.5, 8.x, 9.0 and 12.0"
"""Compute capabilities that onnxruntime-gpu 1.31 has kernels for."""
MAJOR, MINOR = 75, 76  # CUdevice_attribute
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
SEVERITY_ERROR, SEVERITY_FATAL = 3, 4  # onnxruntime's log levels
PROBE_GRAPH = bytes.fromhex(
    "080812003aae010a0f0a01780a01771201632204436f6e760a110a01630a016d12017022064d61744d756c0a"
    "0b0a017012017922034e6567120570726f62652a1508020801080110014201774a080000803f0000803f2a2b"
    "08040802100142016d4a200000803f0000803f0000803f0000803f0000803f0000803f0000803f0000803f5a"
    "170a017812120a100801120c0a0208010a0208010a02080462170a017912120a100801120c0a0208010a0208"
    "020a02080242040a001011"
)
"""An ONNX model, opset 17: [1, 1, 4] → Conv → MatMul → Neg, which need cuDNN, cuBLAS and a kernel
of onnxruntime."""


class NoGpu(Exception):
    """CUDA cannot be used; the message is one line with the remedy. `expected`: nothing is
    wrong, as on a machine without a GPU."""

    def __init__(self, reason: str, *, expected: bool = False) -> None:
        super().__init__(reason)
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Gpu:
    """A graphics card, as its driver describes it."""

    name: str
    memory_gib: float
    capability: str  # "8.9"

    def __str__(self) -> str:
        return f"{self.name}, {self.memory_gib:.0f} GiB"


@cache
def usable_gpu(device_id: int) -> Gpu:
    """Return GPU `device_id` after a test run on it. Raises NoGpu."""
    if CUDA not in ort.get_available_providers():
        raise NoGpu("this onnxruntime is built without CUDA", expected=True)
    gpu = _query_driver(device_id)
    _compute(device_id, gpu)
    return gpu


def _query_driver(device_id: int) -> Gpu:
    """Return the driver's description of a GPU. Raises NoGpu for faults that onnxruntime would not
    distinguish."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        why = f"no NVIDIA driver was found (install one of version {NEEDED_DRIVER} or newer)"
        raise NoGpu(why, expected=True) from None
    version, count, device = (ctypes.c_int(0) for _ in range(3))
    driver.cuDriverGetVersion(ctypes.byref(version))
    if 0 < version.value < NEEDED_CUDA:
        spoken = f"{version.value // 1000}.{version.value % 1000 // 10}"
        raise NoGpu(
            f"the NVIDIA driver is too old: it speaks CUDA {spoken}, and CUDA 13 needs driver "
            f"{NEEDED_DRIVER} or newer"
        )
    status = driver.cuInit(0)
    if status and status != NO_DEVICE:
        raise NoGpu(
            f"the NVIDIA driver does not start: {_error_text(driver, status)} (try nvidia-smi)"
        )
    driver.cuDeviceGetCount(ctypes.byref(count))
    if status == NO_DEVICE or not count.value:
        raise NoGpu("the NVIDIA driver sees no GPU (a container needs --gpus all)")
    if device_id >= count.value:
        raise NoGpu(f"there is no GPU {device_id}: the numbers go from 0 to {count.value - 1}")
    name = ctypes.create_string_buffer(256)
    memory, major, minor = ctypes.c_size_t(0), ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDeviceGet(ctypes.byref(device), device_id)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), MINOR, device)
    capability = f"{major.value}.{minor.value}"
    return Gpu(name.value.decode(errors="replace"), memory.value / 1024**3, capability)


def _error_text(driver: ctypes.CDLL, status: int) -> str:
    text = ctypes.c_char_p()
    driver.cuGetErrorString(status, ctypes.byref(text))
    return f"{(text.value or b'error').decode(errors='replace')} ({status})"


def _compute(device_id: int, gpu: Gpu) -> None:
    """Run the probe graph, which needs the same libraries as speech. Raises NoGpu."""
    ort.preload_dlls()
    ort.set_default_logger_severity(SEVERITY_ERROR)  # otherwise each session logs about plug-ins
    options = ort.SessionOptions()
    options.log_severity_level = SEVERITY_FATAL
    providers = [(CUDA, {"device_id": str(device_id)}), "CPUExecutionProvider"]
    try:
        session = ort.InferenceSession(PROBE_GRAPH, options, providers=providers, enable_fallback=0)
        if session.get_providers()[0] != CUDA:
            raise NoGpu(f"the CUDA 13 libraries were not found ({INSTALL})")
        session.run(None, {"x": np.ones((1, 1, 4), np.float32)})
        cudart.pinned(1, device_id)
    except OSError as fault:
        raise NoGpu(f"CUDA's runtime library was not found: {fault} ({INSTALL})") from fault
    except NoGpu:
        raise
    except Exception as fault:
        raise NoGpu(_meaning(first_line(fault), gpu)) from fault


MEANINGS = (
    (("insufficient driver", "insufficientdriver", "failure 35"),
     f"the NVIDIA driver is too old: CUDA 13 needs driver {NEEDED_DRIVER} or newer"),
    (("invalid device ordinal", "no cuda-capable device", "failure 100", "failure 101"),
     "onnxruntime does not see this GPU: is CUDA_VISIBLE_DEVICES set?"),
    (("cudnn is unavailable", "not_implemented"), f"cuDNN 9 was not found ({INSTALL})"),
    (("no kernel image", "failure 209"), "{gpu} has compute capability {gpu.capability}: "
     f"onnxruntime has kernels for {SUPPORTED} alone"),
    (("out of memory", "alloc"), "{gpu} has no memory left: end what else runs on it"),
)  # fmt: skip
"""Words in onnxruntime's errors, and the message for the user."""


def _meaning(fault: str, gpu: Gpu) -> str:
    for words, meaning in MEANINGS:
        if any(word in fault.lower() for word in words):
            return meaning.format(gpu=gpu)
    return f"CUDA did not start: {fault}"


DEFAULTS: tuple[tuple[float, dict[str, int]], ...] = (
    (70, {"max_sequences": 128, "max_concurrent_requests": 96, "max_queued_requests": 192,
          "kv_prefix_cache_mb": 8192}),
    (40, {"max_sequences": 64, "max_concurrent_requests": 48, "max_queued_requests": 96,
          "kv_prefix_cache_mb": 3072}),
    (20, {"max_sequences": 32, "max_concurrent_requests": 24, "max_queued_requests": 64,
          "kv_prefix_cache_mb": 2048}),
    (11, {"max_sequences": 16, "max_concurrent_requests": 12, "max_queued_requests": 32,
          "kv_prefix_cache_mb": 1024}),
    (0, {"max_sequences": 8, "max_concurrent_requests": 8, "max_queued_requests": 32,
         "kv_prefix_cache_mb": 512}),
)  # fmt: skip
"""Defaults of settings, by the least memory of a card in GiB. A slot of 2,048 positions takes
192 MiB in fp16; graphs, scratch memory and CUDA itself take about 4 GiB (docs/run/gpu.md has the
calculation)."""


def default_settings(memory_gib: float) -> dict[str, int]:
    """Return the defaults for a card with this much memory."""
    return next(settings for minimum, settings in DEFAULTS if memory_gib >= minimum)
