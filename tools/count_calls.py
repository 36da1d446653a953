"""Counts the Python calls in `chatterbox/` for one streamed sentence through a real server.

`python tools/count_calls.py [--text TEXT] [--runs N] [--top N]` serves `mini` on a free port, sends
one streamed `POST /tts` at a time, and counts between the request and the end of its answer, in all
threads. Resuming a generator or a coroutine counts as a call. Prints the median run.
"""

import argparse
import http.client
import json
import os
import shutil
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from tempfile import mkdtemp
from types import CodeType, FrameType

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PACKAGE = str(ROOT / "chatterbox") + os.sep
TEXT = "The quick brown fox jumps over the lazy dog."
WARMUP_S = 0.5
"""What runs now and then, as the sweep of connections, has run."""


class CallCounter:
    """A profile function that counts calls by code object while `on`."""

    def __init__(self) -> None:
        self.on = False
        self.calls: Counter[CodeType] = Counter()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if self.on and event == "call":
            self.calls[frame.f_code] += 1

    def counted(self) -> Counter[CodeType]:
        """The calls so far of code below `chatterbox/`."""
        own = {c: n for c, n in self.calls.items() if c.co_filename.startswith(PACKAGE)}
        return Counter(own)


def speak(port: int, text: str) -> None:
    """One request, its answer read to the end."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    body = json.dumps({"text": text, "seed": 1})
    connection.request("POST", "/tts", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    sound = answer.read()
    assert answer.status == http.HTTPStatus.OK, sound
    connection.close()


def report(calls: Counter[CodeType], top: int) -> str:
    """The totals, the busiest files and the busiest functions."""
    files: Counter[str] = Counter()
    for code, count in calls.items():
        files[code.co_filename.removeprefix(PACKAGE)] += count
    lines = [
        f"{calls.total()} calls, {len(calls)} functions, {len(files)} files of chatterbox/",
        *(f"{count:6} {name}" for name, count in files.most_common(top)),
        *(
            f"{count:6} {code.co_filename.removeprefix(PACKAGE)}:{code.co_qualname}"
            for code, count in calls.most_common(top)
        ),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--top", type=int, default=10, help="lines of files and of functions")
    given = parser.parse_args()
    counter = CallCounter()
    threading.setprofile(counter)
    sys.setprofile(counter)

    from chatterbox.config import ServerConfig, TTSConfig
    from chatterbox.dialects.registry import DIALECTS
    from chatterbox.engine.engine import TTSEngine
    from chatterbox.server.run import bind, serve

    config = ServerConfig(port=0, log_level="warning", _env_file=None)
    data_dir = Path(mkdtemp(prefix="count-calls-"))
    engine = TTSEngine(TTSConfig(model="mini", device="cpu", data_dir=data_dir, _env_file=None))
    sock = bind(config.host, config.port)

    def client() -> None:
        sys.setprofile(None)  # of this thread
        speak(sock.getsockname()[1], given.text)
        runs = []
        for _ in range(given.runs):
            time.sleep(WARMUP_S)
            counter.calls.clear()
            counter.on = True
            speak(sock.getsockname()[1], given.text)
            counter.on = False
            runs.append(counter.counted())
        runs.sort(key=Counter.total)
        print("calls of each run:", *(run.total() for run in runs))
        print(report(runs[len(runs) // 2], given.top), flush=True)
        shutil.rmtree(data_dir)
        os._exit(0)  # without waiting for the server's threads

    serve(engine, config, DIALECTS, sock, lambda _: threading.Thread(target=client).start())


if __name__ == "__main__":
    main()
