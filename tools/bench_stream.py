"""Measures time to first audio, real-time factor, and gaps heard by a listener in real time.

The engine, and beside it what one would use instead, in one run.

    python tools/bench_stream.py --model DIR --clients 1,4 --peers card --json FILE
    python tools/bench_stream.py --model DIR --clients 1 --segments 1,5 --peers card
    python tools/bench_stream.py --model DIR --rates 1,10,20            (open loop, Poisson)
    python tools/bench_stream.py --model DIR --soak 500
    python tools/bench_stream.py --model ORPHEUS --clients 1,2,4,8,12 --codes 350

Drives `TTSEngine` in this process, without HTTP. Weights may be random: the number of codes is
fixed (`--codes` for each segment), and cost does not depend on their values. A text of several
segments is heard as one stream: the listener begins with the first sound, plays on without a break
from what has come, and stands still where nothing has. The peers speak its segments one after the
other. Rounds go through all subjects in turn,
so that a slow spell of the machine falls on all of them. In its turn each speaks `--in-a-row`
times: on a virtual machine, memory that nobody has used for half a minute is slow at first. On a
shared machine `--quiet 0.1` waits for other processes to leave the cores alone, and repeats what
they disturbed.
"""

import argparse
import asyncio
import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import psutil
from numpy.typing import NDArray

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.bench.listener import Player
from chatterbox.config import TTSConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.families.base import Voice
from chatterbox.families.turbo.voice import VoiceTensors
from tools.bench_lm import QUIET_S, OtherProcesses
from tools.bench_peers import CardLoop

TEXT = "The lamp on the harbour wall was lit an hour before the boats came home that evening."
TEXT_IDS = 22
"""What GPT-2's tokenizer makes of this text: 17 words, a full stop, twice the end of text and two
starts. The text is cut to that many where a made tokenizer spells letters."""
PROMPT_CODES, LM_ROWS = 250, 376
PAUSE = " [pause:0.12s] "
"""Between the segments of a longer text, where it is cut: as long as `segment_pause_ms`."""
AUDIBLE = 1e-5
TORCH = "authors' PyTorch"
TRIES = 4


@dataclass(frozen=True, slots=True)
class Heard:
    """One utterance as its listener got it."""

    first_s: float
    total_s: float
    audio_s: float
    silences_s: tuple[float, ...] = ()  # after the first sound


@dataclass(slots=True)
class Result:
    """One line of the table."""

    peer: str
    edition: str
    precision: str
    clients: int | str
    segments: int = 1
    first_audio_ms_p50: float = 0.0
    first_audio_ms_p95: float = 0.0
    rtf: float = 0.0
    audio_s_per_s: float = 0.0
    requests_per_s: float = 0.0
    utterances: int = 0
    silences: float = 0.0  # of an utterance, mean
    silent_s_p50: float = 0.0  # of an utterance, all silences together
    silent_s_p95: float = 0.0
    longest_s_p50: float = 0.0  # an utterance's longest silence
    longest_s_max: float = 0.0
    heard: list[Heard] = field(default_factory=list, repr=False)
    busy_s: float = 0.0

    def add(self, heard: Sequence[Heard], busy_s: float) -> None:
        """What one round gave."""
        self.heard += heard
        self.busy_s += busy_s

    def close(self) -> None:
        """Work out the figures."""
        firsts = [1000 * h.first_s for h in self.heard]
        self.utterances = len(self.heard)
        self.first_audio_ms_p50 = statistics.median(firsts)
        self.first_audio_ms_p95 = float(np.percentile(firsts, 95))
        self.rtf = statistics.median(h.total_s / h.audio_s for h in self.heard)
        self.audio_s_per_s = sum(h.audio_s for h in self.heard) / self.busy_s
        self.requests_per_s = len(self.heard) / self.busy_s
        self.silences = statistics.mean(len(h.silences_s) for h in self.heard)
        silent = [sum(h.silences_s) for h in self.heard]
        self.silent_s_p50, self.silent_s_p95 = np.percentile(silent, [50, 95]).tolist()
        longest = [max(h.silences_s, default=0.0) for h in self.heard]
        self.longest_s_p50, self.longest_s_max = statistics.median(longest), max(longest)

    def row(self) -> dict[str, Any]:
        """For --json."""
        return {k: v for k, v in asdict(self).items() if k != "busy_s"}


def random_voice(hidden: int) -> Voice:
    """A voice of full length; its values cost nothing."""
    rng = np.random.default_rng(0)
    tensors = VoiceTensors(
        features=(0.1 * rng.normal(size=(LM_ROWS, hidden))).astype(np.float32),
        prompt_codes=rng.integers(0, 6561, PROMPT_CODES),
        speaker=rng.normal(size=192).astype(np.float32),
        prompt_mel=rng.normal(-6, 2.5, (2 * PROMPT_CODES, 80)).astype(np.float32),
    )
    return Voice("random", tensors)


class Ours:
    """The engine."""

    def __init__(self, config: TTSConfig, voice: str | None, codes: int) -> None:
        self.engine = TTSEngine(config)
        began = time.perf_counter()
        self.engine.load()
        self.load_s = time.perf_counter() - began
        self.codes = codes
        self.text = TEXT
        if voice or self.engine.model.fixed:
            self.voice = self.engine.voices.get(voice)
        else:
            stated = json.loads((Path(config.model) / "config.json").read_text())
            self.voice = random_voice(int(stated["hidden_size"]))
        while not self.engine.model.fixed and len(self.ids()) > TEXT_IDS:
            self.text = self.text[:-1].rstrip()
        self.engine.warm(self.voice)

    def ids(self) -> NDArray[np.int64]:
        """The text as the language model gets it."""
        return self.engine.model.prompts.prompt(self.text, self.voice).ids

    async def speak(self, seed: int, segments: int) -> Heard:
        """One utterance."""
        text = PAUSE.join([self.text] * segments)
        request = SpeechRequest(
            text, self.voice, self.engine.sampling(), seed, max_new_tokens=self.codes
        )
        began = time.perf_counter()
        first_s: float | None = None
        player = Player()
        async with self.engine.speak(request) as stream:
            async for piece in stream:
                now_s = time.perf_counter() - began
                if first_s is None and np.abs(piece).max(initial=0.0) > AUDIBLE:
                    first_s = now_s
                if first_s is not None:
                    player.play(len(piece) / SAMPLE_RATE_HZ, now_s)
        total_s = time.perf_counter() - began
        assert stream.report.segments == segments, stream.report.segment_texts
        silences = tuple(player.silences_s)
        return Heard(first_s or total_s, total_s, stream.report.audio_s, silences)

    async def together(self, clients: int, seed: int, segments: int = 1) -> list[Heard]:
        """One utterance for each of so many clients, begun at once."""
        return await asyncio.gather(*(self.speak(seed + i, segments) for i in range(clients)))

    async def open_loop(self, rate_hz: float, seconds: float, segments: int) -> list[Heard]:
        """Listeners who come as they like."""
        rng = random.Random(0)
        tasks, until = [], time.perf_counter() + seconds
        while time.perf_counter() < until:
            tasks.append(asyncio.create_task(self.speak(len(tasks), segments)))
            await asyncio.sleep(rng.expovariate(rate_hz))
        return await asyncio.gather(*tasks)


class Torch:
    """The authors' code in its own process and Python."""

    def __init__(self, python: str, authors: Path, codes: int, threads: int) -> None:
        command = [python, "-m", "tools.bench_peers", "--authors", str(authors)]
        command += ["--codes", str(codes), "--threads", str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, cwd=Path(__file__).resolve().parents[1],
        )  # fmt: skip
        self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("the authors' PyTorch did not start: run tools.bench_peers by itself")
        return json.loads(line)

    def speak(self) -> Heard:
        """One utterance."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Heard(**self._answer())

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()


def engine_rounds(ours: Ours, result: Result, clients: int) -> Callable[[int], None]:
    """A round of the engine at one number of clients and segments."""

    def round_(seed: int) -> None:
        began = time.perf_counter()
        heard = asyncio.run(ours.together(clients, seed, result.segments))
        result.add(heard, time.perf_counter() - began)

    return round_


def peer_rounds(speak: Callable[[], Heard], result: Result) -> Callable[[int], None]:
    """A round of a peer: one client, one segment after the other, heard as one stream."""

    def round_(_: int) -> None:
        player, total_s, audio_s, first_s = Player(), 0.0, 0.0, 0.0
        for _ in range(result.segments):
            segment = speak()
            first_s = first_s or segment.first_s
            total_s += segment.total_s
            audio_s += segment.audio_s
            player.play(segment.audio_s, total_s)
        result.add([Heard(first_s, total_s, audio_s, tuple(player.silences_s))], total_s)

    return round_


def subjects(given: argparse.Namespace, ours: Ours, config: TTSConfig) -> list[Any]:
    """(result, round) for everything that is compared."""
    info = ours.engine.info
    note = next((n for n in info.notes if n.startswith("decoder")), "")
    said = note.removeprefix("decoder: ").partition(";")[0].partition(",")[0]
    edition = "split, int8 flow" if "8 bits" in note else said
    made = []
    for segments, clients in itertools.product(given.segments, given.clients):
        result = Result("this engine", edition, info.precision_text, clients, segments)
        made.append((result, engine_rounds(ours, result, clients)))
    if "card" in given.peers:
        lm, decoder = info.precision["language_model"], info.precision["conditional_decoder"]
        card = CardLoop(Path(config.model) / "onnx", lm, decoder, given.threads)
        ids = ours.ids()

        def by_card() -> Heard:
            total_s, audio_s = card.speak(ids, ours.voice.data, given.codes)
            return Heard(total_s, total_s, audio_s)

        for segments in given.segments:
            result = Result("card's loop", "stock", f"lm {lm} decoder {decoder}", 1, segments)
            made.append((result, peer_rounds(by_card, result)))
    if "torch" in given.peers:
        torch = Torch(given.torch_python, given.authors, given.codes, given.threads)
        for segments in given.segments:
            result = Result(TORCH, "eager", "fp32", 1, segments)
            made.append((result, peer_rounds(torch.speak, result)))
    return made


def undisturbed(
    result: Result, round_: Callable[[int], None], seed: int, given: argparse.Namespace
) -> None:
    """A round; again, a few times, where other processes took more of the cores than `--quiet`."""
    for _ in range(TRIES):
        until = time.perf_counter() + given.patience_s
        while given.quiet < 1 and time.perf_counter() < until:
            others = OtherProcesses(given.threads)
            time.sleep(QUIET_S)
            if others.share() <= given.quiet:
                break
        before, busy_s = len(result.heard), result.busy_s
        others = OtherProcesses(given.threads)
        round_(seed)
        # A peer in a process of its own is one of the others.
        if result.peer == TORCH or given.quiet >= 1 or others.share() <= given.quiet:
            return
        del result.heard[before:]
        result.busy_s = busy_s


def soak(ours: Ours, requests: int) -> None:
    """Print the process's memory every tenth of the way, and its slope over the second half."""
    process, sizes = psutil.Process(), []
    for i in range(requests):
        asyncio.run(ours.together(1, i))
        sizes.append(process.memory_info().rss / 2**20)
        if (i + 1) % max(1, requests // 10) == 0:
            print(f"after {i + 1:5} requests: RSS {sizes[-1]:.0f} MiB", flush=True)
    half = np.array(sizes[len(sizes) // 2 :])
    slope = np.polyfit(np.arange(len(half)), half, 1)[0]
    print(f"slope over the second half: {1000 * slope:.2f} KiB a request (1000 KiB = 1 MiB)")


def show(results: Sequence[Result]) -> None:
    """The table."""
    print("| peer | edition | precision | clients | segments | first audio ms p50 / p95 | RTF "
          "| audio-s/s | requests/s | silences | silent s p50 / p95 | longest s p50 / max "
          "| n |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for r in results:
        print(
            f"| {r.peer} | {r.edition} | {r.precision} | {r.clients} | {r.segments} "
            f"| {r.first_audio_ms_p50:.0f} / {r.first_audio_ms_p95:.0f} | {r.rtf:.2f} "
            f"| {r.audio_s_per_s:.2f} | {r.requests_per_s:.2f} | {r.silences:.1f} "
            f"| {r.silent_s_p50:.2f} / {r.silent_s_p95:.2f} "
            f"| {r.longest_s_p50:.2f} / {r.longest_s_max:.2f} | {r.utterances} |"
        )


def counts(text: str) -> list[int]:
    """`1,4` as numbers."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", required=True, help="a model's directory")
    parser.add_argument("--clients", type=counts, default=[1, 4])
    parser.add_argument("--segments", type=counts, default=[1], help="of a text: 1,5")
    parser.add_argument("--rates", type=lambda s: [float(r) for r in s.split(",")], default=[])
    parser.add_argument("--seconds", type=float, default=30, help="of each rate")
    parser.add_argument("--codes", type=int, default=150, help="of each segment; 25 are a second")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-a-row", type=int, default=3, help="utterances of each turn")
    parser.add_argument("--peers", default="", help="card, torch")
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--authors", type=Path, help="unpacked chatterbox-tts, for torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--voice", help="a voice's name; without, a random one")
    parser.add_argument("--soak", type=int, default=0, help="requests, one after the other")
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE")
    parser.add_argument("--quiet", type=float, default=1.0, help="share of cores others may use")
    parser.add_argument("--patience-s", type=float, default=60, help="to wait for that")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    settings = dict(s.split("=", 1) for s in given.set)
    config = TTSConfig(model=given.model, threads=given.threads, runaway_guard=False, **settings)
    ours = Ours(config, given.voice, given.codes)
    print(f"loaded in {ours.load_s:.1f} s: {'; '.join(ours.engine.info.notes)}", flush=True)
    if given.soak:
        soak(ours, given.soak)
        return
    compared = subjects(given, ours, config)
    for _, round_ in compared:
        round_(0)  # warm-up
    for result, _ in compared:
        result.heard.clear()
        result.busy_s = 0.0
    for number in range(given.rounds):
        for result, round_ in compared:
            for again in range(given.in_a_row):
                undisturbed(result, round_, 1000 * (number + 1) + 10 * again, given)
    results = [result for result, _ in compared if result.heard]
    for rate in given.rates:
        first = results[0]
        result = Result(first.peer, first.edition, first.precision, f"{rate:g}/s", first.segments)
        began = time.perf_counter()
        heard = asyncio.run(ours.open_loop(rate, given.seconds, result.segments))
        result.add(heard, time.perf_counter() - began)
        results.append(result)
    for result in results:
        result.close()
    show(results)
    if given.json:
        given.json.write_text(json.dumps([r.row() for r in results], indent=1))


if __name__ == "__main__":
    main()
