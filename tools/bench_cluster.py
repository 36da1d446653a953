"""Measures the overhead of a cluster (`overhead`) and its throughput by replicas (`scale`).

    ./run.sh --model mini --port 8001 &   ./run.sh cluster --model mini --port 8002 &
    .venv/bin/python tools/bench_cluster.py overhead http://127.0.0.1:8001 http://127.0.0.1:8002

    .venv/bin/python tools/bench_cluster.py scale 1,2,4,8 --sleep 200,200 --cpus-per-replica 0
    .venv/bin/python tools/bench_cluster.py scale 1,2,4 --model turbo --gpus-per-replica 1 \
        --cluster-address auto

With `--sleep STEP,WINDOW` the replicas compute nothing: a step of the language model and a call of
the decoder sleep for so many milliseconds, whatever is in them, as on a GPU that has room. Such
replicas need no GPU each, so that a laptop shows whether all else grows with them.
Needs requirements-cluster.txt; `overhead` does not.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
import numpy as np

TEXT = "The quick brown fox jumps over the lazy dog, and goes home before it rains."
TOKENS = 40  # 1.6 s of sound
WARM_S = 12.0
ROWS = 8


class SleepingModel:
    """Says the same whatever it is asked, in slots of a real model's number and length."""

    def __init__(self, real, step_s: float) -> None:
        self.slots, self.capacity, self.vocab = real.slots, real.capacity, real.vocab
        self._step_s = step_s
        self._said: dict[int, int] = {}  # slot → tokens

    def _logits(self, slot: int) -> np.ndarray:
        said = self._said[slot] = self._said[slot] + 1
        logits = np.full(self.vocab, -100.0, np.float32)
        logits[self.vocab - 1 if said > TOKENS else said * 7] = 100.0  # the last one: stop
        return logits

    def prefill(self, slot: int, _prompt) -> np.ndarray:
        time.sleep(self._step_s)
        self._said[slot] = 0
        return self._logits(slot)

    def decode(self, slots: Sequence[int], _tokens) -> np.ndarray:
        time.sleep(self._step_s)
        return np.stack([self._logits(slot) for slot in slots])

    def free(self, slot: int) -> None:
        del self._said[slot]

    def cache_prefix(self, _prompt) -> None:
        pass


class SleepingDecoder:
    """A hum, in a real decoder's windows."""

    max_rows = ROWS
    window_frames = ()

    def __init__(self, real, window_s: float) -> None:
        self.codec = real.codec
        self._real, self._window_s = real, window_s

    def open(self, voice, seed: int):
        return self._real.open(voice, seed)

    def warm(self, voice) -> None:
        pass

    def bucket(self, _job) -> None:
        return None

    def start(self, jobs) -> Callable[[], list]:
        return lambda: self.run(jobs)

    def run(self, jobs) -> list:
        from chatterbox.families.base import Rendered

        time.sleep(self._window_s)
        rendered = []
        for job in jobs:
            at = job.window.begin * self.codec.samples_per_frame
            when = np.arange(at, job.window.end_sample, dtype=np.float32)
            rendered.append(Rendered(0.1 * np.sin(when / 30), at))
        return rendered


def sleeping(step_s: float, window_s: float):
    """Makes engines of the embedded model, with sleep in the place of its graphs."""

    def make(config):
        from chatterbox.engine.engine import TTSEngine
        from chatterbox.families.load import load_model

        class Sleeping(TTSEngine):
            def load(self, _model=None) -> None:
                real = load_model(self.config, print)
                model = SleepingModel(real.language_model, step_s)
                decoder = SleepingDecoder(real.decoder, window_s)
                super().load(replace(real, language_model=model, decoder=decoder))

        return Sleeping(config)

    return make


@dataclass
class Spoken:
    """What came of requests: seconds to each first sound, when how much sound came, refusals."""

    firsts: list[float] = field(default_factory=list)
    pieces: list[tuple[float, float]] = field(default_factory=list)  # (when, seconds of sound)
    refused: int = 0

    def sound_per_s(self, begin: float, end: float) -> float:
        return sum(sound for when, sound in self.pieces if begin <= when < end) / (end - begin)


async def speak(client: httpx.AsyncClient, spoken: Spoken) -> None:
    call = {"input": TEXT, "voice": "slt", "seed": 7, "response_format": "pcm"}
    began, first = time.monotonic(), None
    async with client.stream("POST", "/v1/audio/speech", json=call) as answer:
        answer.raise_for_status()
        async for piece in answer.aiter_bytes():
            first = first or time.monotonic() - began
            spoken.pieces.append((time.monotonic(), len(piece) / 48_000))
    spoken.firsts.append(first or 0.0)


async def load(url: str, callers: int, seconds: float) -> tuple[Spoken, float]:
    """So many callers for so long, after WARM_S; what they were told, and seconds of sound a
    second. They begin one after another, so that they do not go on in step."""
    spoken = Spoken()
    limits = httpx.Limits(max_connections=callers)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        begin = time.monotonic() + WARM_S
        end = begin + seconds

        async def caller(number: int) -> None:
            await asyncio.sleep(WARM_S / 2 * number / callers)
            while time.monotonic() < end:
                try:
                    await speak(client, spoken)
                except httpx.HTTPError as fault:
                    spoken.refused += 1
                    print(fault, file=sys.stderr)
                    await asyncio.sleep(1)

        await asyncio.gather(*(caller(number) for number in range(callers)))
        return spoken, spoken.sound_per_s(begin, end)


def p95(values: Sequence[float]) -> float:
    return sorted(values)[max(0, int(0.95 * len(values)) - 1)]


def overhead(given: argparse.Namespace) -> None:
    """All servers take turns, so that what else the machine does is everybody's."""
    found: dict[str, dict[str, list[float]]] = {}

    async def round_of(url: str) -> None:
        of = found.setdefault(url, {what: [] for what in ("get", "first", "whole", "sound")})
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            for _ in range(20):
                began = time.monotonic()
                (await client.get("/health/live")).raise_for_status()
                of["get"].append(time.monotonic() - began)
            spoken = Spoken()
            for _ in range(5):
                began = time.monotonic()
                await speak(client, spoken)
                of["whole"].append(time.monotonic() - began)
            of["first"] += spoken.firsts
        of["sound"].append((await load(url, ROWS, given.seconds))[1])

    for _ in range(given.rounds):
        for url in given.urls:
            asyncio.run(round_of(url))
    print("| server | GET, ms | first sound, ms | whole, ms | sound, s/s, 8 callers |")
    print("|---|---|---|---|---|")
    for url, of in found.items():
        times = (f"{statistics.median(of[what]) * 1000:.1f}" for what in ("get", "first", "whole"))
        print(f"| {url} | {' | '.join(times)} | {statistics.median(of['sound']):.1f} |")


def scale(given: argparse.Namespace) -> None:
    """Deploys each number of replicas in turn, on a cluster of its own or one that runs."""
    from chatterbox.config import prepare_ray

    prepare_ray()
    from ray import serve

    from chatterbox.cluster.application import NAME, application, connected
    from chatterbox.config import ClusterConfig
    from chatterbox.config import load as settings

    cluster = settings(ClusterConfig, {"cluster_address": given.cluster_address})
    make_engine = None
    if given.sleep:
        make_engine = sleeping(*(float(ms) / 1000 for ms in given.sleep.split(",")))
    print("| replicas | requests/s | of one, times | first sound, s: median | p95 | refused |")
    print("|---|---|---|---|---|---|", flush=True)
    one = None
    with connected(cluster, "127.0.0.1", given.port):
        for replicas in map(int, given.replicas.split(",")):
            arguments = {
                "replicas": replicas,
                "model": "mini" if given.sleep else given.model,
                "gpus_per_replica": given.gpus_per_replica,
                "cpus_per_replica": given.cpus_per_replica,
                "max_concurrent_requests": ROWS,
                "log_level": "warning",
                **({"temperature": 0, "runaway_guard": False} if given.sleep else {}),
            }
            serve.run(application(arguments, make_engine), name=NAME)
            url, callers = f"http://127.0.0.1:{given.port}", ROWS * replicas
            spoken, sound = asyncio.run(load(url, callers, given.seconds))
            one = one or sound / replicas
            median = statistics.median(spoken.firsts)
            cells = (sound * len(spoken.firsts) / sum(s for _, s in spoken.pieces), sound / one)
            rest = f"{median:.2f} | {p95(spoken.firsts):.2f} | {spoken.refused} |"
            print(f"| {replicas} | {cells[0]:.2f} | {cells[1]:.2f} | {rest}", flush=True)
            serve.delete(NAME)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    costs = commands.add_parser("overhead")
    costs.add_argument("urls", nargs="+", metavar="URL")
    costs.add_argument("--rounds", type=int, default=5)
    costs.set_defaults(run=overhead)
    grows = commands.add_parser("scale")
    grows.add_argument("replicas", help="numbers of replicas, with commas between")
    grows.add_argument("--sleep", metavar="STEP,WINDOW", help="milliseconds; else `--model`")
    grows.add_argument("--model", default="turbo")
    grows.add_argument("--gpus-per-replica", type=float, default=0)
    grows.add_argument("--cpus-per-replica", type=float, default=0)
    grows.add_argument("--cluster-address", default="local")
    grows.add_argument("--port", type=int, default=8000)
    grows.set_defaults(run=scale)
    for each in (costs, grows):
        each.add_argument("--seconds", type=float, default=20, help="of each measurement")
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
