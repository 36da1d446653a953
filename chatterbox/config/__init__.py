"""The settings: frozen objects, `TTSConfig`, `ServerConfig` and `ClusterConfig`.

The only room that reads environment variables.
"""

import os
from collections.abc import Sequence

from dotenv import dotenv_values

from chatterbox.config.server import ClusterConfig, ServerConfig, key_list, prepare_ray
from chatterbox.config.sources import (
    ENV_PREFIX,
    OLD_NAMES,
    RENAMED,
    Settings,
    environment_for_child,
    load,
    notify_socket,
    renamed_settings,
    silence_telemetry,
)
from chatterbox.config.tts import (
    SAMPLING,
    MaxNewTokens,
    MinP,
    PenaltyWindow,
    PrecisionSetting,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    TTSConfig,
    configs_of,
    default_data_dir,
)

CONFIGS: tuple[type[Settings], ...] = (TTSConfig, ServerConfig, ClusterConfig)


def unknown_environment(names: Sequence[str] | None = None) -> list[str]:
    """`CHATTERBOX_*` variables, and lines of `.env`, that no setting reads: misspelt, perhaps."""
    fields = [*RENAMED, *(name for config in CONFIGS for name in config.model_fields)]
    known = {ENV_PREFIX + name.upper() for name in fields}
    present = names if names is not None else {*os.environ, *dotenv_values(".env")}
    return sorted(n for n in present if n.upper().startswith(ENV_PREFIX) and n.upper() not in known)


__all__ = [
    "CONFIGS",
    "OLD_NAMES",
    "RENAMED",
    "SAMPLING",
    "ClusterConfig",
    "MaxNewTokens",
    "MinP",
    "PenaltyWindow",
    "PrecisionSetting",
    "RepetitionPenalty",
    "ServerConfig",
    "Settings",
    "TTSConfig",
    "Temperature",
    "TopK",
    "TopP",
    "configs_of",
    "default_data_dir",
    "environment_for_child",
    "key_list",
    "load",
    "notify_socket",
    "prepare_ray",
    "renamed_settings",
    "silence_telemetry",
    "unknown_environment",
]
