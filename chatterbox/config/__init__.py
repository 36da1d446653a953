"""The settings: frozen objects, `TTSConfig`, `ServerConfig` and `ClusterConfig`.

The only room that reads environment variables.
"""

import os
from collections.abc import Sequence

from dotenv import dotenv_values

from chatterbox.config.cluster import ClusterConfig, prepare_ray
from chatterbox.config.flags import EVERYTHING, HelpFormatter, add_flags
from chatterbox.config.models import configs_of
from chatterbox.config.server import MAX_KEY_CHARS, MIN_KEY_CHARS, ServerConfig, key_list
from chatterbox.config.sources import (
    ENV_PREFIX,
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
    "EVERYTHING",
    "MAX_KEY_CHARS",
    "MIN_KEY_CHARS",
    "RENAMED",
    "SAMPLING",
    "ClusterConfig",
    "HelpFormatter",
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
    "add_flags",
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
