"""Settings: where they come from, what a wrong one says."""

import argparse

import pytest

from chatterbox.config import (
    CONFIGS,
    ServerConfig,
    TTSConfig,
    add_flags,
    key_list,
    load,
    unknown_environment,
)
from chatterbox.errors import ConfigError


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No `.env` and no variables of the machine."""
    monkeypatch.chdir(tmp_path)
    for name in unknown_environment() + [
        "CHATTERBOX_" + field.upper() for config in CONFIGS for field in config.model_fields
    ]:
        monkeypatch.delenv(name, raising=False)


def test_the_first_servers_defaults_stand():
    tts, server = load(TTSConfig), load(ServerConfig)
    assert tts.max_concurrent_requests == 8
    assert tts.max_new_tokens == 1024
    assert set(tts.sampling().values()) == {None}, "as the model says"
    assert tts.voice_cache_size == 100
    assert not tts.apply_watermark
    assert (server.host, server.port) == ("127.0.0.1", 8000)
    assert server.max_text_length == 5000
    assert server.max_voice_file_size == 50 * 1024 * 1024
    assert server.request_timeout == 120


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
    with pytest.raises(ConfigError, match=r"--max-batch-size='x'"):
        load(TTSConfig, {"max_batch_size": "x"})


def test_misspelt_variables_are_found():
    names = ["CHATTERBOX_PROT", "CHATTERBOX_PORT", "HOME", "chatterbox_host"]
    assert unknown_environment(names) == ["CHATTERBOX_PROT"]


def test_every_setting_says_what_it_is():
    for config in CONFIGS:
        for name, field in config.model_fields.items():
            assert field.description, name
