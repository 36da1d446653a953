"""Whole servers on fake graphs as processes of their own.

Started once, this process has everything imported and forks a server for each line that it reads:
`{"directory": …, "settings": {…}}`, answered with its process id; `{"wait": pid}` is answered with
its exit code, or null while it runs. A server's output is in `out` and `log` in its directory.

Settings: `engine` and `server`; `pace_s`, how long a step takes; `in_process`: no decode child; and
`fault`, the name of one of FAULTS, which happens at the first step (or prefill, or decode: `at`)
after a file `armed` has appeared in the directory. With `tones`, the engine is one that says tones;
`loads`, `rehearses` or `held` then wait for ever, or for SIGUSR1. `environment`: variables.
`notice_s`: how long it is there to be asked after its engine has died.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

if True:  # the imports below need the path above
    from faults.harness import fake_engine
    from harness import PIECE_SAMPLES, FakeEngine, server_config
    from voices.clips import babble, encoded

    from chatterbox.dialects.registry import DIALECTS
    from chatterbox.engine.engine import TTSEngine
    from chatterbox.families.turbo.voice import TurboVoices
    from chatterbox.server import run
    from chatterbox.server.run import address_of, bind, serve
    from chatterbox.voices import library
    from chatterbox.voices.reference import prepare_reference
    from chatterbox.voices.sandbox import AudioDecoder


class Killed(BaseException):
    """An error that `except Exception` does not catch."""


def sticky() -> None:
    raise RuntimeError("CUDA error 700: an illegal memory access was encountered")


def killed() -> None:
    raise Killed


def out_of_memory() -> None:
    raise MemoryError


def hang() -> None:
    threading.Event().wait()


def slow() -> None:
    time.sleep(0.8)


FAULTS = {fault.__name__: fault for fault in (sticky, killed, out_of_memory, hang, slow)}


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def tones(kind: str) -> FakeEngine:
    """Return a fake engine without threads. `kind`: the stage in which it waits."""
    engine = FakeEngine(script=[PIECE_SAMPLES, 0.5, PIECE_SAMPLES])
    engine.state = "loading"  # as a real one begins
    if kind == "loads":
        engine.load_gate.clear()
    if kind == "rehearses":
        engine.rehearse_gate.clear()
    if kind == "held":
        go_on = asyncio.Event()
        signal.signal(signal.SIGUSR1, lambda *_: go_on.set())
        engine.script[1] = go_on
    return engine


def on_fakes(directory: Path, settings: dict) -> TTSEngine:
    """Return a real engine on fake graphs."""
    if settings.get("in_process"):  # no child, so that a life costs little
        library.guarded_decoder = AudioDecoder
    engine = fake_engine(directory, **settings.get("engine", {}))
    engine.load = lambda: None  # it is
    engine.warm_up = lambda: None  # faults are for those who listen
    parts = engine.parts
    pace_s = settings.get("pace_s", 0.0)

    def on_step(*_about: object) -> None:
        time.sleep(pace_s)
        if (directory / "armed").exists():
            FAULTS[settings["fault"]]()

    where = settings.get("at", "step")
    if where == "step":
        parts.language_model.on_step = on_step
    elif where == "prefill":
        parts.language_model.on_begin = on_step
    else:
        run = parts.decoder.run
        parts.decoder.run = lambda jobs: (on_step(), run(jobs))[1]
    return engine


def main(directory: Path, settings: dict) -> int:
    logging.basicConfig(level="INFO")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    os.environ.update(settings.get("environment", {}))
    run.DEATH_NOTICE_S = settings.get("notice_s", run.DEATH_NOTICE_S)
    with_tones = "tones" in settings
    engine = tones(settings["tones"]) if with_tones else on_fakes(directory, settings)
    sock = bind("127.0.0.1", settings.get("port", 0))
    say("bound", address_of(sock))
    config = server_config(port=0, **settings.get("server", {}))
    return serve(engine, config, DIALECTS, sock, lambda address: say("ready", address))


def fork(directory: Path, settings: dict) -> int:
    """Fork a server and return its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            for name, number in (("out", 1), ("log", 2)):
                file = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(file, number)
                os.close(file)
            os.close(0)
            code = main(directory, settings)
            sys.stderr.flush()
            os._exit(code)
        except BaseException:  # noqa: BLE001 - a child must never go on as its parent
            traceback.print_exc()
            os._exit(1)
    return pid


def exit_code(pid: int) -> int | None:
    """Return a server's exit code: None while it runs, negative if a signal killed it."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


if __name__ == "__main__":
    # What registering a voice imports late is imported by now.
    prepare_reference(
        AudioDecoder(), encoded(babble(2, 8000), rate_hz=8000), TurboVoices.rules, max_seconds=9
    )
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer = exit_code(order["wait"])
        else:
            answer = fork(Path(order["directory"]), order["settings"])
        say(json.dumps(answer))
