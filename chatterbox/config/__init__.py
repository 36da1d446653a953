"""The settings, as frozen objects: `TTSConfig`, `ServerConfig` and `ClusterConfig`.

Only this package reads environment variables.
"""

import os
from collections.abc import Sequence

from dotenv import dotenv_values

from chatterbox.config.server import ClusterConfig, ServerConfig, key_list, prepare_ray
from chatterbox.config.sources import ENV_PREFIX, RENAMED, Settings, load, renamed_settings
from chatterbox.config.tts import TTSConfig, configs_of

CONFIGS: tuple[type[Settings], ...] = (TTSConfig, ServerConfig, ClusterConfig)


def unknown_environment(names: Sequence[str] | None = None) -> list[str]:
    """Return `CHATTERBOX_*` names that are no settings, from `names` or else from the environment
    and `.env`."""
    fields = [*RENAMED, *(name for config in CONFIGS for name in config.model_fields)]
    known = {ENV_PREFIX + name.upper() for name in fields}
    present = names if names is not None else {*os.environ, *dotenv_values(".env")}
    return sorted(n for n in present if n.upper().startswith(ENV_PREFIX) and n.upper() not in known)


__all__ = [
    "CONFIGS",
    "ClusterConfig",
    "ServerConfig",
    "Settings",
    "TTSConfig",
    "configs_of",
    "key_list",
    "load",
    "prepare_ray",
    "renamed_settings",
    "unknown_environment",
]
