"""Several models: the settings of each."""

from pathlib import Path

from chatterbox.config.tts import TTSConfig
from chatterbox.errors import ConfigError


def configs_of(config: TTSConfig, models: str) -> dict[str, TTSConfig]:
    """The settings of each model, by its name, the default first; an only one has none. Raises
    ConfigError."""
    wanted = [word.strip() for word in models.split(",") if word.strip()]
    if "model" in config.model_fields_set or not wanted:
        wanted.insert(0, config.model)
    wanted = list(dict.fromkeys(wanted))
    if len(wanted) > 1 and config.model_revision:
        raise ConfigError("CHATTERBOX_MODEL_REVISION is of one model; CHATTERBOX_MODELS has more")
    configs: dict[str, TTSConfig] = {}
    for model in wanted:
        path = Path(model).expanduser()
        name = path.resolve().name if path.is_dir() else model
        if name.casefold() in map(str.casefold, configs):
            raise ConfigError(f"CHATTERBOX_MODELS: two are called {name}")
        configs[name] = config.model_copy(update={"model": model})
    return configs if len(configs) > 1 else {"": configs.popitem()[1]}
