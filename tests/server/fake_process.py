"""A server process around the fake engine, for tests of signals, sockets and exit codes.

`python fake_process.py SCENARIO`; prints `ready URL` once it is.
"""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

if True:  # the imports below need the path above
    from harness import PIECE_SAMPLES, FakeEngine, server_config

    from chatterbox.dialects.registry import DIALECTS
    from chatterbox.server.run import address_of, bind, serve


def tell(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def main(scenario: str) -> int:
    script = [PIECE_SAMPLES, 0.5, PIECE_SAMPLES]
    engine = FakeEngine(script=script)
    engine.state = "loading"  # as a real one begins
    if scenario == "stuck":
        engine.script = [PIECE_SAMPLES, 3600.0]
    if scenario == "loads forever":
        engine.load_gate.clear()
    if scenario == "rehearses forever":
        engine.rehearse_gate.clear()
    scenario, _, wyoming_port = scenario.partition(":")
    if scenario == "held":  # speech goes on once the test says so
        go_on = asyncio.Event()
        signal.signal(signal.SIGUSR1, lambda *_: go_on.set())
        engine.script = [PIECE_SAMPLES, go_on, PIECE_SAMPLES]
    config = server_config(
        port=0,
        drain_timeout_s=0.3 if scenario == "stuck" else 10,
        wyoming_port=int(wyoming_port or 0),
    )
    sock = bind("127.0.0.1", 0)
    tell("bound", address_of(sock))
    return serve(engine, config, DIALECTS, sock, lambda address: tell("ready", address))


if __name__ == "__main__":
    logging.basicConfig(level="INFO")
    os._exit(main(sys.argv[1]))
