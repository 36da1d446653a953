"""What can be set, with which bounds: flags, environment `CHATTERBOX_*`, `.env`, defaults.

The only file that reads environment variables. Knows nothing of what the settings do.
"""

import argparse
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from chatterbox.errors import ConfigError

C = TypeVar("C", bound="_Settings")
ENV_PREFIX = "CHATTERBOX_"

PrecisionSetting = Literal["auto", "fp32", "fp16", "q8", "q4", "q4f16"]

SAMPLING_BOUNDS = {
    "temperature": (0.0, 5.0),
    "top_k": (0, 6563),
    "top_p": (1e-6, 1.0),
    "repetition_penalty": (0.5, 5.0),
}
"""What a model may say of itself (`generation_config.json`); the settings' own bounds, which are
those of a call too."""


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/chatterbox`, else `~/.local/share/chatterbox`."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "chatterbox"


def silence_telemetry() -> None:
    """Tell onnxruntime, before it is imported, to send nothing from this machine."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


MIN_KEY_CHARS = 8
"""Guesses are slowed down (`server/auth.py`); a key that is a short word would still be found."""
MAX_KEY_CHARS = 512
_KEY = re.compile(r"[!-~]+")


def key_list(keys: SecretStr) -> list[str]:
    """The keys in the setting `api_keys`."""
    return [key.strip() for key in keys.get_secret_value().split(",") if key.strip()]


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )


class TTSConfig(_Settings):
    """Model, engine and voices."""

    # --- model
    model: str = Field("auto", description="auto | mini | a hub id | a directory in hub layout")
    model_revision: str = Field(
        "d21799bd0354adb85e348b8a0442a8405110a2cf", description="Revision of a hub model"
    )
    model_dtype: PrecisionSetting = Field(
        "auto", description="Precision of all graphs; auto: fp16 on CUDA, q4 on a CPU"
    )
    speech_encoder_dtype: PrecisionSetting | None = Field(
        None, description="Precision of this graph alone"
    )
    embed_tokens_dtype: PrecisionSetting | None = Field(
        None, description="Precision of this graph alone"
    )
    language_model_dtype: PrecisionSetting | None = Field(
        None, description="Precision of this graph alone"
    )
    conditional_decoder_dtype: PrecisionSetting | None = Field(
        None, description="Precision of this graph alone"
    )
    data_dir: Path = Field(
        default_factory=default_data_dir, description="Voices, caches and downloaded models"
    )

    # --- device
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: CUDA where it works, else the CPU"
    )
    gpu_device_id: int = Field(0, ge=0, le=63, description="Which GPU")
    gpu_mem_limit_gb: float | None = Field(
        None, gt=0, le=1024, description="Bound on ONNX Runtime's GPU arena; none: no bound"
    )
    cudnn_conv_algo_search: Literal["HEURISTIC", "EXHAUSTIVE", "DEFAULT"] = Field(
        "HEURISTIC", description="EXHAUSTIVE costs about 0.6 s for each new shape"
    )
    cudnn_conv_use_max_workspace: bool = Field(True, description="Let cuDNN pick by speed alone")
    cudnn_conv1d_pad_to_nc1d: bool = Field(False, description="Pad 1-D convolutions the other way")
    arena_extend_strategy: Literal["kSameAsRequested", "kNextPowerOfTwo"] = Field(
        "kSameAsRequested", description="How the GPU arena grows"
    )
    use_tf32: bool = Field(True, description="TF32 matrix products in fp32 graphs")
    prefer_nhwc: bool = Field(False, description="NHWC convolutions on CUDA")
    threads: int = Field(
        0, ge=0, le=256, description="CPU threads of each session; 0: the cores of this process"
    )

    # --- graphs
    tune: bool = Field(
        True, description="Rebuild the language model around an in-place cache, once, if equal"
    )
    kv_dtype: Literal["auto", "float", "int8"] = Field(
        "auto",
        description="Keys and values; auto: int8 for quantised models on a CPU, once proven",
    )
    cuda_graphs: bool = Field(
        False, description="Replay captured steps and windows on a GPU (not measured yet)"
    )
    max_positions: int = Field(
        2048, ge=512, le=8196, description="Conditioning rows, text and codes that a slot can hold"
    )
    prefix_cache_mb: int = Field(
        1024, ge=0, le=1_000_000, description="Memory for the prepared prefixes of voices"
    )
    decoder_prompt_seconds: float = Field(
        3.0, ge=1.0, le=10.0, description="Reference sound that every decoded window is given"
    )
    decoder_memory_mb: int = Field(
        320,
        ge=0,
        le=1_000_000,
        description="On a CPU: memory for voices' prompts, decoded once (35 MB a voice at 3 s)"
        " instead of in every window; 0: in every window",
    )
    decoder_int8: bool = Field(
        True, description="On a CPU, the decoder's matrix products in 8 bits where close enough"
    )

    # --- engine
    max_concurrent_requests: int = Field(
        8, ge=1, le=1024, description="Requests synthesised at once"
    )
    max_queued_requests: int = Field(
        32, ge=0, le=65536, description="Requests waiting behind those; more get 429"
    )
    max_batch_size: int = Field(
        16, ge=1, le=1024, description="Rows (segments) the language model steps together"
    )
    thread_pool_size: int = Field(
        2, ge=1, le=64, description="Threads that read recordings and encode voices"
    )
    max_new_tokens: int = Field(
        1024, ge=8, le=4096, description="Most codes for one segment (25 codes are a second)"
    )
    temperature: float | None = Field(
        None, ge=0.0, le=5.0, description="0: greedy; none: as the model's own settings say"
    )
    top_k: int | None = Field(None, ge=0, le=6563, description="0: off; none: as the model says")
    top_p: float | None = Field(None, gt=0.0, le=1.0, description="1: off; none: as the model says")
    repetition_penalty: float | None = Field(
        None, ge=0.5, le=5.0, description="1: off; none: as the model says"
    )
    guard: bool = Field(
        True, description="Notice loops, runaways and dead air; retry or end the segment"
    )
    segments_ahead: int = Field(
        3, ge=1, le=64, description="Segments of one request that are in work at once"
    )

    # --- text
    first_segment_words: int = Field(40, ge=1, le=1000, description="Most words of the first one")
    next_segment_words: int = Field(140, ge=1, le=1000, description="Most words of later ones")
    tail_segment_words: int = Field(
        12, ge=0, le=1000, description="A last one of fewer words joins the one before"
    )
    max_segment_chars: int = Field(280, ge=40, le=1000, description="Ceiling over all of these")
    code_blocks: Literal["skip", "speak"] = Field(
        "skip", description="Fenced code in Markdown; skip: a short pause instead, speak: read out"
    )
    segment_pause_ms: int = Field(120, ge=0, le=5000, description="Silence between segments")

    # --- voices
    default_voice: str = Field("slt", description="Speaks where a call names no voice")
    voice_cache_size: int = Field(100, ge=1, le=100_000, description="Encoded voices in memory")
    voice_cache_mb: int = Field(512, ge=1, le=1_000_000, description="And their bytes in memory")
    max_voice_seconds: float = Field(300, ge=5, le=3600, description="Longest reference read")
    max_voices: int = Field(
        10_000, ge=1, le=1_000_000, description="Voices kept on disk; one more gets 507"
    )
    apply_watermark: bool = Field(
        False, description="Inaudible watermark; needs the package resemble-perth"
    )

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    def sampling(self) -> dict[str, float | None]:
        """How codes are drawn, as far as it is set here."""
        return {name: getattr(self, name) for name in SAMPLING_BOUNDS}


class ServerConfig(_Settings):
    """Sockets, limits and deadlines."""

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any free one")
    max_text_length: int = Field(5000, ge=1, le=1_000_000, description="Characters of one request")
    max_voice_file_size: int = Field(
        50 * 1024 * 1024, ge=1024, le=2**31, description="Bytes of one uploaded voice"
    )
    request_timeout: float = Field(120, gt=0, le=3600, description="Seconds for a whole request")
    first_audio_timeout: float = Field(
        60,
        gt=0,
        le=3600,
        description="Seconds until a request has a place and, if streamed, its first sound",
    )
    stall_timeout: float = Field(
        30,
        gt=0,
        le=3600,
        description="Seconds that one step of the engine may take before the process ends itself",
    )
    drain_timeout: float = Field(
        20, ge=0, le=3600, description="Seconds that running requests get when asked to stop"
    )
    lame_duck: float = Field(
        0, ge=0, le=300, description="Seconds to go on listening when asked to stop, for a balancer"
    )
    api_keys: SecretStr = Field(
        SecretStr(""), description="Keys, with commas between; none: anyone may call"
    )
    max_requests_per_key: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="Of one key at once; none: all, or of several keys each three quarters",
    )
    max_characters_per_key: int | None = Field(
        None, ge=1, description="Characters of one key's requests at once; none: any"
    )
    allowed_hosts: str = Field(
        "",
        pattern=r"^(\*|[\w.-]+(, *[\w.-]+)*)?$",
        description="Names that this server is called by, with commas between; *: any",
    )
    body_memory_mb: int = Field(
        64,
        ge=1,
        le=1_000_000,
        description="Memory for the fields of all requests at once; more get 429",
    )
    upload_disk_mb: int = Field(
        256,
        ge=1,
        le=1_000_000,
        description="Space in the temporary directory for all uploads at once; more get 507",
    )
    max_connections: int = Field(
        512, ge=16, le=65536, description="Open connections; idle ones make room, then 503"
    )
    max_sockets: int = Field(256, ge=0, le=65536, description="Open WebSockets; more get 503")
    max_sockets_per_key: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="Of one key; none: all, or of several keys each three quarters",
    )
    socket_idle_timeout: float = Field(
        60, gt=0, le=3600, description="Seconds a socket may be silent while nothing is spoken"
    )
    cors_origins: str = Field(
        "",
        pattern=r"^(\*|https?://[^\s,/*]+(, *https?://[^\s,/*]+)*)?$",
        description="Web pages elsewhere that may call, as `http://host:port`, with commas between",
    )
    wyoming_port: int = Field(
        0, ge=0, le=65535, description="Port of the Wyoming protocol (usually 10200); 0: off"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Log level")

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @field_validator("api_keys")
    @classmethod
    def _plain(cls, value: SecretStr) -> SecretStr:
        for key in key_list(value):
            if not (MIN_KEY_CHARS <= len(key) <= MAX_KEY_CHARS and _KEY.fullmatch(key)):
                raise ValueError(
                    f"a key is {MIN_KEY_CHARS} to {MAX_KEY_CHARS} visible ASCII characters"
                )
        return value


CONFIGS: tuple[type[_Settings], ...] = (TTSConfig, ServerConfig)


def add_flags(parser: argparse.ArgumentParser, config: type[_Settings]) -> None:
    """One `--flag-name` for each field; values are checked by the config class, not here."""
    group = parser.add_argument_group(config.__name__)
    for name, field in config.model_fields.items():
        group.add_argument(
            "--" + name.replace("_", "-"),
            dest=name,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=(field.description or "").replace("%", "%%"),
        )


def load(config: type[C], flags: dict[str, Any] | None = None) -> C:
    """The config from flags over environment over `.env` over defaults.

    Raises ConfigError with one line naming the first wrong setting and why.
    """
    given = {k: v for k, v in (flags or {}).items() if k in config.model_fields}
    try:
        return config(**given)
    except ValidationError as failure:
        first = failure.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        source = f"--{name.replace('_', '-')}" if name in given else f"{ENV_PREFIX}{name.upper()}"
        secret = name in config.model_fields and config.model_fields[name].annotation is SecretStr
        value = "…" if secret else repr(first.get("input"))
        raise ConfigError(f"{source}={value}: {first['msg']}") from None


def unknown_environment(names: Sequence[str] | None = None) -> list[str]:
    """`CHATTERBOX_*` variables that no setting reads (a misspelling is worth a warning)."""
    known = {ENV_PREFIX + f.upper() for config in CONFIGS for f in config.model_fields}
    present = names if names is not None else list(os.environ)
    return sorted(n for n in present if n.upper().startswith(ENV_PREFIX) and n.upper() not in known)


CHILD_VARIABLES = re.compile(
    r"PATH|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|TZ|LANG|LC_\w+|MALLOC_\w+|OPENBLAS_\w+"
)
"""What an interpreter and its libraries need; a list of what to leave out would miss a secret."""


def environment_for_child() -> dict[str, str]:
    """The environment of a child that reads untrusted files: no keys, no tokens, no settings."""
    return {n: value for n, value in os.environ.items() if CHILD_VARIABLES.fullmatch(n)}


def notify_socket() -> str | None:
    """Where systemd listens for the state of the service; None where it did not start this."""
    return os.environ.get("NOTIFY_SOCKET")
