"""In which session does a graph run, with which provider options?

Knows providers and threads; knows nothing of what a graph computes.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort

from chatterbox.config import TTSConfig
from chatterbox.errors import ConfigError, ModelError, first_line
from chatterbox.hub.external_data import readable_graph

Device = Literal["cpu", "cuda"]

SEVERITY_ERROR = 3  # onnxruntime's log levels: 2 warning, 3 error, 4 fatal
SEVERITY_FATAL = 4
PROBE_GRAPH = bytes.fromhex(
    "08083a360a0b0a017812017922034e6567120570726f62655a0f0a0178120a0a08080112040a0208"
    "01620f0a0179120a0a08080112040a02080142040a001011"
)
"""An ONNX graph that negates one number (opset 17): it shows whether CUDA starts."""
WEIGHTS_FOLDER_KEY = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Where and how sessions run; one for the whole process."""

    device: Device
    threads: int
    cuda_options: dict[str, str]

    @property
    def providers(self) -> list[Any]:
        """As `InferenceSession` takes them."""
        cpu = ["CPUExecutionProvider"]
        if self.device == "cuda":
            return [("CUDAExecutionProvider", self.cuda_options), *cpu]
        return cpu


def session_settings(config: TTSConfig) -> SessionSettings:
    """What `config` asks for on this machine. Raises ConfigError when it asks for a GPU that
    cannot be used."""
    device: Device = "cpu"
    if config.device != "cpu":
        reason = cuda_problem(config.gpu_device_id)
        if reason is None:
            device = "cuda"
        elif config.device == "cuda":
            raise ConfigError(f"CHATTERBOX_DEVICE=cuda: {reason}")
    return SessionSettings(device, config.threads or usable_cores(), cuda_options(config))


def usable_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cuda_options(config: TTSConfig) -> dict[str, str]:
    """CUDA provider options; each is a setting (docs/configuration.md has the reasons)."""
    options = {
        "device_id": str(config.gpu_device_id),
        "arena_extend_strategy": config.arena_extend_strategy,
        "cudnn_conv_algo_search": config.cudnn_conv_algo_search,
        "cudnn_conv_use_max_workspace": str(int(config.cudnn_conv_use_max_workspace)),
        "cudnn_conv1d_pad_to_nc1d": str(int(config.cudnn_conv1d_pad_to_nc1d)),
        "use_tf32": str(int(config.use_tf32)),
        "prefer_nhwc": str(int(config.prefer_nhwc)),
        "do_copy_in_default_stream": "1",
    }
    if config.gpu_mem_limit_gb is not None:
        options["gpu_mem_limit"] = str(int(config.gpu_mem_limit_gb * 1024**3))
    return options


def captures(config: TTSConfig, settings: SessionSettings) -> bool:
    """Whether shapes that come again are to be CUDA graphs."""
    return settings.device == "cuda" and config.cuda_graphs


def cuda_problem(device_id: int) -> str | None:
    """Why CUDA cannot be used here, in one clause; None when it can."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this onnxruntime is built without CUDA"
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return "no NVIDIA driver was found"
    ort.preload_dlls()
    options = ort.SessionOptions()
    options.log_severity_level = SEVERITY_FATAL
    try:
        session = ort.InferenceSession(
            PROBE_GRAPH,
            options,
            providers=[("CUDAExecutionProvider", {"device_id": str(device_id)})],
        )
    except Exception as fault:  # noqa: BLE001 - onnxruntime raises its own kinds; any of them is a no
        return f"CUDA did not start: {first_line(fault)}"
    if session.get_providers()[0] != "CUDAExecutionProvider":
        return (
            "the CUDA 13 or cuDNN 9 libraries were not found (pip install -r requirements-cuda.txt)"
        )
    return None


def open_session(
    source: Path | bytes,
    settings: SessionSettings,
    *,
    provider_options: dict[str, str] | None = None,
    weights_in: Path | None = None,
    spin_us: int = 0,
) -> ort.InferenceSession:
    """A session on `source`: a path, or a model in memory whose weights lie in `weights_in`.

    Its threads do not spin while idle, or for up to `spin_us` between the operators of a run: the
    language model, the decoder and the encoder share the cores, and a pool of one that spins after
    its run would take them from another (docs/language-model.md has the figures). Raises
    ModelError.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = SEVERITY_ERROR
    # A pattern is kept for every shape ever seen, and there is no end of lengths.
    options.enable_mem_pattern = False
    if spin_us:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_us))
        options.add_session_config_entry("session.force_spinning_stop", "1")  # when a run ends
    else:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = settings.providers
    if provider_options and settings.device == "cuda":
        providers[0] = ("CUDAExecutionProvider", {**settings.cuda_options, **provider_options})
    name = source.name if isinstance(source, Path) else "a graph in memory"
    with _as_model_error(name):
        given, folder = readable_graph(source, weights_in)
        if folder is not None:
            options.add_session_config_entry(WEIGHTS_FOLDER_KEY, str(folder))
        return ort.InferenceSession(given, options, providers=providers)


@contextmanager
def _as_model_error(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as fault:
        raise ModelError(f"{name} cannot be loaded: {first_line(fault)}") from fault
