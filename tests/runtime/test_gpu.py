"""What is chosen for a GPU, and what is refused there."""

import onnxruntime as ort
import pytest

from chatterbox.config import TTSConfig
from chatterbox.errors import ConfigError, ModelError
from chatterbox.runtime import sessions
from chatterbox.runtime.gpu import CUDA, DEFAULTS, PROBE_GRAPH, Gpu, NoGpu, default_settings
from chatterbox.runtime.sessions import SessionSettings, fitted, open_session, session_settings


@pytest.fixture
def l40s(monkeypatch):
    monkeypatch.setattr(sessions, "usable_gpu", lambda _: Gpu("NVIDIA L40S", 44.4, "8.9"))


def missing(monkeypatch, *, expected):
    def no(_):
        raise NoGpu("the driver is too old", expected=expected)

    monkeypatch.setattr(sessions, "usable_gpu", no)


@pytest.mark.parametrize(
    ("memory_gib", "sequences", "requests"),
    [(139, 128, 96), (79, 128, 96), (44.4, 64, 48), (23.5, 32, 24), (15.6, 16, 12), (7.6, 8, 8)],
)
def test_defaults_follow_the_cards_memory(memory_gib, sequences, requests):
    chosen = default_settings(memory_gib)
    assert (chosen["max_sequences"], chosen["max_concurrent_requests"]) == (sequences, requests)


def test_slots_and_prefixes_leave_a_third_of_the_smallest_card_that_gets_them():
    slot_gib = 192 / 1024  # of 2,048 positions in fp16
    for least, chosen in DEFAULTS[:-1]:
        taken = chosen["max_sequences"] * slot_gib + chosen["kv_prefix_cache_mb"] / 1024
        assert taken < least * 2 / 3


def test_what_is_set_stays(l40s):
    config = fitted(TTSConfig(max_sequences=5, kv_prefix_cache_mb=7))
    assert (config.max_sequences, config.kv_prefix_cache_mb) == (5, 7)
    assert (config.max_concurrent_requests, config.max_queued_requests) == (48, 96)
    assert fitted(config) == config
    note = session_settings(config).note
    assert note.startswith("GPU: NVIDIA L40S, 44 GiB; max_sequences 5, ")


def test_a_limit_of_memory_counts_as_the_cards(l40s):
    assert fitted(TTSConfig(gpu_mem_limit_gb=12)).max_sequences == 16


def test_without_a_gpu_nothing_changes(monkeypatch):
    missing(monkeypatch, expected=True)
    config = TTSConfig()
    assert fitted(config) is config
    assert session_settings(config).note == ""


def test_a_gpu_that_cannot_be_used_is_said_or_ends_the_start(monkeypatch):
    missing(monkeypatch, expected=False)
    settings = session_settings(TTSConfig())
    assert settings.device == "cpu"
    assert settings.note == "on the CPU, not on a GPU: the driver is too old"
    with pytest.raises(ModelError, match="CHATTERBOX_DEVICE=cuda: the driver is too old"):
        session_settings(TTSConfig(device="cuda"))


def test_int8_keys_and_values_are_refused_on_a_gpu(l40s):
    with pytest.raises(ConfigError, match="KV_DTYPE=int8 is for CPUs"):
        session_settings(TTSConfig(kv_dtype="int8"))
    assert session_settings(TTSConfig(kv_dtype="int8", device="cpu")).device == "cpu"


def test_a_gpus_sessions_have_one_thread_unless_more_are_asked_for(l40s):
    assert session_settings(TTSConfig()).gpu_threads == 1
    assert session_settings(TTSConfig(threads=3)).gpu_threads == 3


def test_the_decoder_may_have_a_card_of_its_own(l40s):
    settings = session_settings(TTSConfig(gpu_device_id=1, decoder_device_id=2))
    assert settings.device_id == 1
    assert settings.on_gpu(2).device_id == 2
    assert settings.on_gpu(None) is settings


def test_a_card_for_the_decoder_that_cannot_be_used_is_said(monkeypatch):
    def one(device_id):
        if device_id:
            raise NoGpu("there is no GPU 1: the numbers go from 0 to 0")
        return Gpu("NVIDIA L40S", 44.4, "8.9")

    monkeypatch.setattr(sessions, "usable_gpu", one)
    with pytest.raises(ModelError, match="CHATTERBOX_DEVICE=cuda: there is no GPU 1"):
        session_settings(TTSConfig(device="cuda", decoder_device_id=1))
    settings = session_settings(TTSConfig(decoder_device_id=1))
    assert settings.device == "cpu"
    assert settings.note.endswith("there is no GPU 1: the numbers go from 0 to 0")


@pytest.mark.parametrize("opened_on", [["CPUExecutionProvider"], [CUDA, "CPUExecutionProvider"]])
def test_no_session_goes_on_with_the_cpu_by_itself(monkeypatch, opened_on):
    asked = {}

    class Opened:
        def __init__(self, given, options, **how):
            asked.update(how)

        def get_providers(self):
            return opened_on

    monkeypatch.setattr(ort, "InferenceSession", Opened)
    settings = SessionSettings("cuda", 1, {"device_id": "0"})
    if opened_on[0] == CUDA:
        assert isinstance(open_session(PROBE_GRAPH, settings), Opened)
    else:
        with pytest.raises(ModelError, match="was opened on the CPU: CUDA did not start for it"):
            open_session(PROBE_GRAPH, settings)
    assert asked["enable_fallback"] == 0
    assert asked["providers"][0] == (CUDA, {"device_id": "0"})


def test_attention_is_not_left_to_kernels_that_plan_for_each_length():
    assert sessions.cuda_options(TTSConfig())["sdpa_kernel"] == "3"
