"""Does one thread do all of it, and does a fault come back to who asked?"""

import threading

import pytest
from fakes import FakeDecoder, FakeEncoder, FakeLanguageModel, FakeTokenizer

from chatterbox.config import TTSConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.engine.worker_thread import WorkerThread
from chatterbox.errors import ModelError
from chatterbox.families.turbo import load


def test_all_calls_and_its_lifes_work_are_one_threads():
    owner, seen, done = WorkerThread("somebody"), [], threading.Event()

    def work() -> int:
        seen.append(threading.current_thread())
        return len(seen)

    assert [owner.call(work), owner.call(work)] == [1, 2]

    def life() -> None:
        work()
        done.set()

    owner.run_forever(life)
    assert done.wait(5)
    owner.join(5)
    assert len(set(seen)) == 1
    assert seen[0].name == "somebody"
    assert not seen[0].is_alive()


def test_a_fault_comes_back_and_the_thread_goes_on():
    owner = WorkerThread("somebody")
    with pytest.raises(ZeroDivisionError):
        owner.call(lambda: 1 / 0)
    assert owner.call(lambda: 7) == 7
    owner.stop()
    owner.join(5)
    assert not owner._thread.is_alive()


@pytest.mark.parametrize("captures", [True, False])
def test_what_is_captured_is_opened_by_the_thread_that_calls_it(captures, monkeypatch, tmp_path):
    opened_by = {}

    def noting(name: str, opener):
        def opened(*args):
            opened_by[name] = threading.current_thread().name
            return opener(*args)

        return opened

    monkeypatch.setattr(load, "captures", lambda *_: captures)
    for name in ("open_language_model", "_decoder"):
        monkeypatch.setattr(load, name, noting(name, getattr(load, name)))
    engine = TTSEngine(TTSConfig(model="mini", data_dir=tmp_path))
    engine.load()
    engine.close()
    here = threading.current_thread().name
    told = {"open_language_model": "engine", "_decoder": "decoder"}
    assert opened_by == (told if captures else dict.fromkeys(told, here))


def test_a_model_that_cannot_be_had_leaves_no_thread(tmp_path):
    before = threading.enumerate()  # a hanging engine of another test may still hang
    engine = TTSEngine(TTSConfig(model=str(tmp_path / "none"), data_dir=tmp_path))
    with pytest.raises(ModelError):
        engine.load()
    engine.close()
    left = [t for t in threading.enumerate() if t not in before]
    for thread in left:
        thread.join(5)
    assert not any(thread.is_alive() for thread in left)


def test_closed_while_it_loads_it_closes_once_it_has(tmp_path, monkeypatch):
    before = threading.enumerate()
    asked, told = threading.Event(), threading.Event()

    def slowly(*_args, **_more) -> load.LoadedModel:
        asked.set()
        assert told.wait(5)
        info = load.ModelInfo("fake", {}, "cpu", None, ())
        parts = FakeTokenizer(), FakeEncoder(), FakeLanguageModel(), FakeDecoder()
        return load.LoadedModel(info, *parts, voice_key="fake")

    monkeypatch.setattr("chatterbox.engine.engine.load_model", slowly)
    engine = TTSEngine(TTSConfig(data_dir=tmp_path))
    loading = threading.Thread(target=engine.load)
    loading.start()
    assert asked.wait(5)
    engine.close()
    told.set()
    loading.join(5)
    assert engine.state == "closed"
    assert not [t for t in threading.enumerate() if t not in before]
