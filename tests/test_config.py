"""Tests of settings: sources, precedence and error messages."""

import argparse

import pytest

from chatterbox.command_line import add_flags
from chatterbox.config import (
    CONFIGS,
    ServerConfig,
    TTSConfig,
    key_list,
    load,
    renamed_settings,
    unknown_environment,
)
from chatterbox.config.sources import RENAMED
from chatterbox.errors import ConfigError


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """Hide `.env` and the environment's settings."""
    monkeypatch.chdir(tmp_path)
    for name in unknown_environment() + [
        "CHATTERBOX_" + field.upper()
        for config in CONFIGS
        for field in [*config.model_fields, *RENAMED]
    ]:
        monkeypatch.delenv(name, raising=False)


def test_the_first_servers_defaults_stand():
    tts, server = load(TTSConfig), load(ServerConfig)
    assert tts.max_concurrent_requests == 8
    assert tts.max_new_tokens is None, "as suits the model"
    assert set(tts.sampling().values()) == {None}, "as the model says"
    assert tts.voice_cache_size == 100
    assert not tts.apply_watermark
    assert (server.host, server.port) == ("127.0.0.1", 8000)
    assert server.max_text_length == 5000
    assert server.max_voice_file_size == 50 * 1024 * 1024
    assert server.request_timeout_s == 120


def test_flags_beat_environment_beats_dotenv_beats_default(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("CHATTERBOX_PORT=1111\nCHATTERBOX_HOST=0.0.0.0\n")
    assert load(ServerConfig).port == 1111
    monkeypatch.setenv("CHATTERBOX_PORT", "2222")
    assert load(ServerConfig).port == 2222
    parser = argparse.ArgumentParser()
    add_flags(parser, ServerConfig)
    flags = vars(parser.parse_args(["--port", "3333"]))
    settings = load(ServerConfig, flags)
    assert (settings.port, settings.host) == (3333, "0.0.0.0")


@pytest.mark.parametrize(
    ("config", "name", "value", "said"),
    [
        (ServerConfig, "CHATTERBOX_PORT", "eight", "CHATTERBOX_PORT='eight'"),
        (ServerConfig, "CHATTERBOX_PORT", "70000", "less than or equal to 65535"),
        (TTSConfig, "CHATTERBOX_TEMPERATURE", "nan", "finite"),
        (TTSConfig, "CHATTERBOX_TEMPERATURE", "1e999", "finite"),
        (TTSConfig, "CHATTERBOX_MODEL_DTYPE", "int3", "'fp32'"),
        (TTSConfig, "CHATTERBOX_MAX_CONCURRENT_REQUESTS", "0", "greater than or equal to 1"),
    ],
)
def test_a_wrong_value_is_one_clear_line(monkeypatch, config, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as wrong:
        load(config)
    assert said in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_a_wrong_key_is_not_repeated(monkeypatch):
    monkeypatch.setenv("CHATTERBOX_API_KEYS", "long-enough-key,short")
    with pytest.raises(ConfigError, match="a key is 8 to 512 visible") as wrong:
        load(ServerConfig)
    assert "short" not in str(wrong.value)
    monkeypatch.setenv("CHATTERBOX_API_KEYS", " long-enough-key, , another-key ")
    settings = load(ServerConfig)
    assert key_list(settings.api_keys) == ["long-enough-key", "another-key"]
    assert "long-enough-key" not in repr(settings)


def test_a_wrong_flag_is_named_as_a_flag():
    with pytest.raises(ConfigError, match=r"--max-sequences='x'"):
        load(TTSConfig, {"max_sequences": "x"})


def test_misspelt_variables_are_found():
    names = ["CHATTERBOX_PROT", "CHATTERBOX_PORT", "HOME", "chatterbox_host"]
    assert unknown_environment(names) == ["CHATTERBOX_PROT"]


def parsed(*words: str) -> dict[str, object]:
    parser = argparse.ArgumentParser()
    for config in CONFIGS:
        add_flags(parser, config)
    return vars(parser.parse_args(words))


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_setting_is_accepted_by_its_old_name(old, new, tmp_path, monkeypatch):
    config = next(c for c in CONFIGS if new in c.model_fields)
    default = config.model_fields[new].default
    value = not default if isinstance(default, bool) else 7 if default is None else default + 1
    flag, variable = "--" + old.replace("_", "-"), "CHATTERBOX_" + old.upper()
    assert getattr(config(**{old: value}), new) == value
    assert getattr(load(config, parsed(flag, str(value))), new) == value
    (tmp_path / ".env").write_text(f"{variable}={value}\n")
    assert getattr(load(config), new) == value
    if default is not None:
        monkeypatch.setenv(variable, str(default))
        assert getattr(load(config), new) == default, "the environment beats .env"
    monkeypatch.setenv("CHATTERBOX_" + new.upper(), str(value))
    assert getattr(load(config), new) == value, "the new name beats the old one"
    assert not unknown_environment()


def test_old_names_are_said_with_the_new_ones(tmp_path, monkeypatch):
    assert renamed_settings(parsed("--port", "1")) == []
    monkeypatch.setenv("CHATTERBOX_GUARD", "false")
    (tmp_path / ".env").write_text("chatterbox_tune=false\n")
    assert renamed_settings(parsed("--lame-duck", "5")) == [
        "CHATTERBOX_GUARD is now called CHATTERBOX_RUNAWAY_GUARD",
        "CHATTERBOX_TUNE is now called CHATTERBOX_COMPILE_LM",
        "--lame-duck is now called --shutdown-delay-s",
    ]


def test_every_setting_says_what_it_is():
    for config in CONFIGS:
        for name, field in config.model_fields.items():
            assert field.description, name
