"""Reads settings from flags, `CHATTERBOX_*` variables, `.env` and defaults, in that order.

The old name of a renamed setting still works for one version (`RENAMED`).
"""

import os
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from dotenv import dotenv_values
from pydantic import SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from chatterbox.errors import ConfigError

C = TypeVar("C", bound="Settings")
ENV_PREFIX = "CHATTERBOX_"

RENAMED = {
    "guard": "runaway_guard",
    "tune": "compile_lm",
    "segments_ahead": "max_inflight_segments",
    "lame_duck": "shutdown_delay_s",
    "decoder_memory_mb": "decoder_prompt_cache_mb",
    "decoder_prompt_seconds": "decoder_prompt_s",
    "prefix_cache_mb": "kv_prefix_cache_mb",
    "max_positions": "max_sequence_length",
    "max_batch_size": "max_sequences",
    "thread_pool_size": "voice_workers",
    "max_voice_seconds": "max_reference_s",
    "max_sockets": "max_websockets",
    "max_sockets_per_key": "max_websockets_per_key",
    "request_timeout": "request_timeout_s",
    "first_audio_timeout": "first_audio_timeout_s",
    "stall_timeout": "stall_timeout_s",
    "drain_timeout": "drain_timeout_s",
    "socket_idle_timeout": "websocket_idle_timeout_s",
}
"""Old name → new name. Both work until the next version; the new name takes precedence."""
OLD_NAMES = {new: old for old, new in RENAMED.items()}


class Settings(BaseSettings):
    """Base class of the configs: reads keywords, then the environment, then `.env`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        def renamed(values: Mapping[str, Any], prefix: str = "") -> PydanticBaseSettingsSource:
            """Return a source with the values that have an old name."""
            new_names = {(prefix + old).lower(): new for old, new in RENAMED.items()}
            matches = {new_names[n.lower()]: v for n, v in values.items() if n.lower() in new_names}
            return InitSettingsSource(settings_cls, matches)

        assert isinstance(init_settings, InitSettingsSource)
        return (
            init_settings,
            renamed(init_settings.init_kwargs),
            env_settings,
            renamed(os.environ, ENV_PREFIX),
            dotenv_settings,
            renamed(dotenv_values(".env"), ENV_PREFIX),
        )


def load(config: type[C], flags: dict[str, Any] | None = None) -> C:
    """Build a config. Flags that belong to other configs are ignored.

    Raises ConfigError with one line that names the first invalid setting and the reason.
    """
    own_flags = {
        name: value
        for name, value in (flags or {}).items()
        if RENAMED.get(name, name) in config.model_fields
    }
    try:
        return config(**own_flags)
    except ValidationError as failure:
        first = failure.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        is_flag = name in own_flags or OLD_NAMES.get(name) in own_flags
        source = f"--{name.replace('_', '-')}" if is_flag else f"{ENV_PREFIX}{name.upper()}"
        secret = name in config.model_fields and config.model_fields[name].annotation is SecretStr
        value = "…" if secret else repr(first.get("input"))
        raise ConfigError(f"{source}={value}: {first['msg']}") from None


def renamed_settings(flags: dict[str, Any]) -> list[str]:
    """Return a line "OLD is now called NEW" for each setting in use under its old name."""
    present = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    lines = []
    for old, new in RENAMED.items():
        if old in flags:
            lines.append(f"--{old} is now called --{new}".replace("_", "-"))
        if ENV_PREFIX + old.upper() in present:
            lines.append(f"{ENV_PREFIX}{old.upper()} is now called {ENV_PREFIX}{new.upper()}")
    return lines


def silence_telemetry() -> None:
    """Disable ONNX Runtime's telemetry. Call this before importing onnxruntime."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


CHILD_VARIABLES = re.compile(
    r"PATH|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|TZ|LANG|LC_\w+|MALLOC_\w+|OPENBLAS_\w+"
)
"""Variables that an interpreter and its libraries need. An allow list cannot leak a secret."""


def environment_for_child() -> dict[str, str]:
    """Return the environment of a child process that reads untrusted files, without any secrets."""
    return {name: v for name, v in os.environ.items() if CHILD_VARIABLES.fullmatch(name)}


def notify_socket() -> str | None:
    """Return the address of systemd's notification socket; None if systemd did not start us."""
    return os.environ.get("NOTIFY_SOCKET")
