"""Opens onnxruntime sessions with the configured device, provider options and threads."""

import gc
import logging
import os
import platform
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort

from chatterbox.config import TTSConfig
from chatterbox.errors import ConfigError, ModelError, first_line
from chatterbox.hub.files import readable_graph
from chatterbox.runtime.gpu import (
    CUDA,
    SEVERITY_ERROR,
    Gpu,
    NoGpu,
    default_settings,
    usable_gpu,
)

log = logging.getLogger(__name__)

Device = Literal["cpu", "cuda"]

SWITCHES = (
    "cudnn_conv_use_max_workspace",
    "cudnn_conv1d_pad_to_nc1d",
    "use_tf32",
    "prefer_nhwc",
)  # of the CUDA provider
WEIGHTS_FOLDER_KEY = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Device and options of all sessions of the process."""

    device: Device
    threads: int  # of a session on the CPU
    cuda_options: dict[str, str]
    gpu_threads: int = 1  # of a session on a GPU, which computes almost nothing on the host
    gpu: Gpu | None = None
    note: str = ""  # for the operator: what was chosen and why

    @property
    def machine(self) -> str:
        """Name of the GPU, or of the CPU and its cores."""
        return str(self.gpu) if self.gpu else f"{cpu_name()}, {usable_cores()} cores"

    @property
    def device_id(self) -> int:
        return int(self.cuda_options.get("device_id", 0))

    def on_gpu(self, device_id: int | None) -> "SessionSettings":
        """Return the settings for another card, or these settings if `device_id` is None."""
        if device_id is None:
            return self
        return replace(self, cuda_options=self.cuda_options | {"device_id": str(device_id)})


def session_settings(config: TTSConfig) -> SessionSettings:
    """Return the settings for `config` on this machine. Raises ModelError when it requires a GPU
    that cannot be used, ConfigError for settings that a GPU does not support."""
    gpu, note = _gpu(config)
    if gpu is not None and config.kv_dtype == "int8":
        raise ConfigError(
            "CHATTERBOX_KV_DTYPE=int8 is for CPUs: attention on a GPU would unpack the whole cache"
            " in every step. Use auto or float."
        )
    threads = config.threads or usable_cores()
    options, gpu_threads = cuda_options(config), config.threads or 1
    return SessionSettings("cuda" if gpu else "cpu", threads, options, gpu_threads, gpu, note)


def _gpu(config: TTSConfig) -> tuple[Gpu | None, str]:
    """Return the GPU to use, or None, and a note for the operator."""
    if config.device == "cpu":
        return None, ""
    try:
        gpu = usable_gpu(config.gpu_device_id)
        if config.decoder_device_id is not None:
            usable_gpu(config.decoder_device_id)
    except NoGpu as why:
        if config.device == "cuda":
            raise ModelError(f"CHATTERBOX_DEVICE=cuda: {why}") from why
        return None, "" if why.expected else f"on the CPU, not on a GPU: {why}"
    chosen = ", ".join(f"{name} {getattr(config, name)}" for name in default_settings(0))
    return gpu, f"GPU: {gpu}; {chosen} (where not set, by the memory of the card)"


def fitted(config: TTSConfig) -> TTSConfig:
    """Return `config` with unset values filled with the defaults for this machine's GPU, if any.
    Raises the same errors as `session_settings`."""
    gpu = session_settings(config).gpu
    if gpu is None:
        return config
    defaults = default_settings(min(gpu.memory_gib, config.gpu_mem_limit_gb or gpu.memory_gib))
    unset = {name: value for name, value in defaults.items() if name not in config.model_fields_set}
    return config.model_copy(update=unset)


def cpu_name() -> str:
    """Return the CPU's model name, or the architecture if the system does not provide it."""
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cuda_options(config: TTSConfig) -> dict[str, str]:
    """Return the CUDA provider options from the settings; docs/run/gpu.md has the reasons."""
    options = {
        "device_id": str(config.gpu_device_id),
        "arena_extend_strategy": config.arena_extend_strategy,
        "cudnn_conv_algo_search": config.cudnn_conv_algo_search,
        "sdpa_kernel": str(config.sdpa_kernel),
        "do_copy_in_default_stream": "1",
    }
    options |= {name: str(int(getattr(config, name))) for name in SWITCHES}
    if config.gpu_mem_limit_gb is not None:
        options["gpu_mem_limit"] = str(int(config.gpu_mem_limit_gb * 1024**3))
    return options


def captures(config: TTSConfig, settings: SessionSettings) -> bool:
    """Return whether repeated shapes are captured as CUDA graphs."""
    return settings.device == "cuda" and config.cuda_graphs


def open_session(
    source: Path | bytes,
    settings: SessionSettings,
    *,
    provider_options: dict[str, str] | None = None,
    weights_in: Path | None = None,
    spin_us: int = 0,
) -> ort.InferenceSession:
    """Open a session on `source`: a path, or a model in memory whose weights are in `weights_in`.

    Its threads spin for up to `spin_us` between the operators of a run, but not between runs: the
    language model, the decoder and the encoder share the cores, and an idle pool that spins would
    take them from the others (docs/inside/language-model.md has the figures). Raises ModelError.
    """
    options = ort.SessionOptions()
    on_gpu = settings.device == "cuda"
    options.intra_op_num_threads = settings.gpu_threads if on_gpu else settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = SEVERITY_ERROR
    # A pattern would be stored for every shape, and the number of shapes is unbounded.
    options.enable_mem_pattern = False
    # Planning the reuse of memory takes seconds for thousands of nodes. The arena reuses memory
    # at run time, as quickly and with no more memory.
    options.enable_mem_reuse = on_gpu
    if spin_us:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_us))
        options.add_session_config_entry("session.force_spinning_stop", "1")  # when a run ends
    else:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = ["CPUExecutionProvider"]
    if on_gpu:
        providers.insert(0, (CUDA, settings.cuda_options | (provider_options or {})))
    name = source.name if isinstance(source, Path) else "a graph in memory"
    try:
        graph, folder = readable_graph(source, weights_in)
        if folder is not None:
            options.add_session_config_entry(WEIGHTS_FOLDER_KEY, str(folder))
        # Without `enable_fallback=0` the session would continue on the CPU when CUDA fails.
        session = ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)
    except Exception as fault:
        raise ModelError(f"{name} cannot be loaded: {first_line(fault)}") from fault
    if on_gpu and session.get_providers()[0] != CUDA:
        raise ModelError(f"{name} was opened on the CPU: CUDA did not start for it")
    return session


def close_unreachable_sessions() -> None:
    """Destroy sessions that only reference cycles keep alive, in this thread.

    The destructor of a CUDA session selects its GPU for the thread that runs it. If Python's
    garbage collector ran it later, in a thread that computes on another GPU, that thread's next
    call would fail.
    """
    gc.collect()


def require(session: ort.InferenceSession, graph: str, inputs: set[str], outputs: set[str]) -> None:
    """Raise ModelError unless the session's graph has these inputs and outputs."""
    missing = inputs - {i.name for i in session.get_inputs()}
    missing |= outputs - {o.name for o in session.get_outputs()}
    if missing:
        raise ModelError(f"{graph} has no {', '.join(sorted(missing))}: it is of another family")
