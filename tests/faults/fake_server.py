"""A whole server on fake graphs as a process of its own: `python fake_server.py DIRECTORY JSON`.

JSON: `engine` and `server` settings, and `fault`, the name of one of FAULTS; it happens at the
first step (or prefill, or decode: `at`) after a file `armed` has appeared in DIRECTORY.
"""

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

if True:  # the imports below need the path above
    from faults.harness import fake_engine
    from server.harness import server_config

    from chatterbox.server.run import address_of, bind, serve


class Killed(BaseException):
    """What no `except Exception` sees."""


def sticky() -> None:
    raise RuntimeError("CUDA error 700: an illegal memory access was encountered")


def killed() -> None:
    raise Killed


def out_of_memory() -> None:
    raise MemoryError


def hang() -> None:
    threading.Event().wait()


def slow() -> None:
    time.sleep(0.3)


FAULTS = {fault.__name__: fault for fault in (sticky, killed, out_of_memory, hang, slow)}


def tell(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def main(directory: Path, settings: dict) -> int:
    logging.basicConfig(level="INFO")
    engine = fake_engine(directory, **settings.get("engine", {}))
    engine.load = lambda: None  # it is
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
    sock = bind("127.0.0.1", settings.get("port", 0))
    tell("bound", address_of(sock))
    config = server_config(port=0, **settings.get("server", {}))
    return serve(engine, config, sock, lambda address: tell("ready", address))


if __name__ == "__main__":
    os._exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
