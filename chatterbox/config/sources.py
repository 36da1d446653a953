"""Where settings are read from: flags over `CHATTERBOX_*` over `.env` over defaults.

A renamed setting is still accepted by its old name for one version (`RENAMED`).
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
"""Old name → new name. Both are accepted until the next version; the new one has precedence."""
OLD_NAMES = {new: old for old, new in RENAMED.items()}


class Settings(BaseSettings):
    """Base of the two configs: read from keywords, the environment, then `.env`."""

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
            """What is given there by an old name."""
            known = {(prefix + old).lower(): new for old, new in RENAMED.items()}
            found = {known[n.lower()]: v for n, v in values.items() if n.lower() in known}
            return InitSettingsSource(settings_cls, found)

        given = init_settings.init_kwargs if isinstance(init_settings, InitSettingsSource) else {}
        return (
            init_settings,
            renamed(given),
            env_settings,
            renamed(os.environ, ENV_PREFIX),
            dotenv_settings,
            renamed(dotenv_values(".env"), ENV_PREFIX),
        )


def load(config: type[C], flags: dict[str, Any] | None = None) -> C:
    """The config from flags over environment over `.env` over defaults.

    Raises ConfigError with one line naming the first wrong setting and why.
    """
    given = {
        name: value
        for name, value in (flags or {}).items()
        if RENAMED.get(name, name) in config.model_fields
    }
    try:
        return config(**given)
    except ValidationError as failure:
        first = failure.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        flag = name in given or OLD_NAMES.get(name) in given
        source = f"--{name.replace('_', '-')}" if flag else f"{ENV_PREFIX}{name.upper()}"
        secret = name in config.model_fields and config.model_fields[name].annotation is SecretStr
        value = "…" if secret else repr(first.get("input"))
        raise ConfigError(f"{source}={value}: {first['msg']}") from None


def renamed_settings(flags: dict[str, Any]) -> list[str]:
    """One line for each setting that is given by its old name: "OLD is now called NEW"."""
    present = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    lines = []
    for old, new in RENAMED.items():
        if old in flags:
            lines.append(f"--{old} is now called --{new}".replace("_", "-"))
        if ENV_PREFIX + old.upper() in present:
            lines.append(f"{ENV_PREFIX}{old.upper()} is now called {ENV_PREFIX}{new.upper()}")
    return lines


def silence_telemetry() -> None:
    """Tell onnxruntime, before it is imported, to send nothing from this machine."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


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
