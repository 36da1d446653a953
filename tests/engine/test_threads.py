"""Worker threads do what they are asked; a thread that hangs is found, one that idles is not."""

import threading

import pytest
from fakes import FakeDecoder, FakeEncoder, FakeLanguageModel, FakePrompts

from chatterbox.config import TTSConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.engine.threads import Heartbeat, StallDetector, WorkerThread
from chatterbox.errors import ModelError
from chatterbox.families.model import LoadedModel, ModelInfo
from chatterbox.families.turbo import load as turbo
from chatterbox.families.turbo.spec import TURBO
from chatterbox.loading import Loading, listening, report_progress


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
    assert done.wait(60)
    owner.join(60)
    assert len(set(seen)) == 1
    assert seen[0].name == "somebody"
    assert not seen[0].is_alive()


def test_a_call_tells_the_listener_of_its_caller():
    owner, told = WorkerThread("somebody"), []
    with listening(told.append):
        owner.call(lambda: report_progress("compiling", "a part", 0.5))
    owner.call(lambda: report_progress("opening"))
    owner.stop()
    owner.join(60)
    assert told == [Loading("compiling", "a part", 0.5)]


def test_a_fault_comes_back_and_the_thread_goes_on():
    owner = WorkerThread("somebody")
    with pytest.raises(ZeroDivisionError):
        owner.call(lambda: 1 / 0)
    assert owner.call(lambda: 7) == 7
    owner.stop()
    owner.join(60)
    assert not owner.alive


@pytest.mark.parametrize("captures", [True, False])
def test_what_is_captured_is_opened_by_the_thread_that_calls_it(captures, monkeypatch, tmp_path):
    opened_by = {}

    def noting(name: str, opener):
        def opened(*args):
            opened_by[name] = threading.current_thread().name
            return opener(*args)

        return opened

    monkeypatch.setattr("chatterbox.families.load.captures", lambda *_: captures)
    for name in ("open_language_model", "open_decoder"):
        monkeypatch.setattr(turbo, name, noting(name, getattr(turbo, name)))
    here = threading.current_thread().name
    decoders = ["decoder"] * 2 if captures else [here, "loading"]  # beside, once it is compiled
    for decoder in decoders:
        engine = TTSEngine(TTSConfig(model="mini", data_dir=tmp_path))
        engine.load()
        engine.close()
        language_model = "engine" if captures else here
        assert opened_by == {"open_language_model": language_model, "open_decoder": decoder}


def test_a_model_that_cannot_be_had_leaves_no_thread(tmp_path):
    before = threading.enumerate()  # a hanging engine of another test may still hang
    engine = TTSEngine(TTSConfig(model=str(tmp_path / "none"), data_dir=tmp_path))
    with pytest.raises(ModelError):
        engine.load()
    engine.close()
    left = [t for t in threading.enumerate() if t not in before]
    for thread in left:
        thread.join(60)
    assert not any(thread.is_alive() for thread in left)


def test_closed_while_it_loads_it_closes_once_it_has(tmp_path, monkeypatch):
    before = threading.enumerate()
    asked, told = threading.Event(), threading.Event()

    def slowly(*_args, **_more) -> LoadedModel:
        asked.set()
        assert told.wait(60)
        info = ModelInfo("fake", {}, "cpu", None, ())
        parts = TURBO, FakePrompts(), FakeLanguageModel(), FakeDecoder()
        return LoadedModel(info, *parts, cloned=FakeEncoder())

    monkeypatch.setattr("chatterbox.engine.engine.load_model", slowly)
    engine = TTSEngine(TTSConfig(data_dir=tmp_path))
    loading = threading.Thread(target=engine.load)
    loading.start()
    assert asked.wait(60)
    engine.close()
    told.set()
    loading.join(60)
    assert engine.state == "closed"
    assert not [t for t in threading.enumerate() if t not in before]


def looks(watch: StallDetector, heartbeat: Heartbeat, count: int) -> list[str | None]:
    return [watch.check([heartbeat]) for _ in range(count)]


def test_standing_still_is_found_after_so_many_looks():
    heartbeat, watch = Heartbeat("engine"), StallDetector(3)
    heartbeat.beat()
    assert looks(watch, heartbeat, 4) == [None, None, None, "engine"]


def test_resting_and_getting_on_are_not():
    heartbeat, watch = Heartbeat("engine"), StallDetector(3)
    assert looks(watch, heartbeat, 9) == [None] * 9
    for _ in range(9):
        heartbeat.beat()
        assert looks(watch, heartbeat, 2) == [None, None]
    heartbeat.idle()
    assert looks(watch, heartbeat, 9) == [None] * 9


def test_who_comes_later_is_watched_from_then_on():
    first, second, watch = Heartbeat("engine"), Heartbeat("speech encoder"), StallDetector(2)
    second.beat()
    assert [watch.check([first]) for _ in range(5)] == [None] * 5
    assert [watch.check([first, second]) for _ in range(3)] == [None, None, "speech encoder"]
