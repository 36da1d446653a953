"""A model's own word on how its codes are to be drawn."""

import json

import pytest

from chatterbox.config import TTSConfig
from chatterbox.errors import ModelError
from chatterbox.families import load
from chatterbox.families.load import FAMILIES, RegisteredFamily
from chatterbox.families.model import LoadRequest
from chatterbox.hub.files import ModelFiles
from chatterbox.runtime.sessions import session_settings


def own_sampling(directory):
    config = TTSConfig(device="cpu")
    files = ModelFiles(directory, {})
    return LoadRequest(config, session_settings(config), "a model", files).sampling()


def said(directory, **stated):
    (directory / "generation_config.json").write_text(json.dumps(stated))
    return own_sampling(directory)


def test_the_models_own_sampling_is_read_and_other_settings_are_not(tmp_path):
    stated = {"temperature": 0.3, "top_k": 50, "repetition_penalty": 1}
    assert said(tmp_path, **stated, eos_token_id=6562, do_sample=True) == stated


@pytest.mark.parametrize(
    "stated", [{}, {"temperature": "hot"}, {"temperature": 9.0}, {"top_p": 0}, {"top_k": None}]
)
def test_what_is_no_usable_setting_is_as_if_not_said(tmp_path, stated):
    assert said(tmp_path, **stated) == {}


def test_memory_that_is_short_is_said_with_its_remedy(monkeypatch):
    def short(_):
        raise RuntimeError("CUDA failure 2: out of memory; cudaMalloc")

    found = RegisteredFamily(FAMILIES[0].files, short, FAMILIES[0].compile_model)
    monkeypatch.setattr(load, "FAMILIES", (found,))
    with pytest.raises(ModelError, match=r"out of memory.*; lower CHATTERBOX_MAX_SEQUENCES"):
        load.load_model(TTSConfig(device="cpu", model="mini"), print)


def test_no_file_says_nothing(tmp_path):
    assert own_sampling(tmp_path) == {}
