"""Measures the cost of the SNAC codec per second of audio: published graph and ours, interleaved.

    python tools/bench_codec.py [--directory DIR] [--rounds 20] [--rows 1,4] [--threads 2]

Stock is the Orpheus authors' loop: the published graph on the last 28 tokens (4 frames) for each
new frame, of whose sound 2048 samples are kept. Ours are windows of so many fresh frames, what they
need around them included. Without `--directory` the codec has random weights at the published size:
cost does not depend on them. Each round measures every row of the table once; figures are medians,
on a CPU of the time that its cores spent, so that other work there counts less.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import chatterbox.runtime  # noqa: F401 - silences telemetry before onnxruntime is imported
from chatterbox.compile.snac import stream_jobs
from chatterbox.config import TTSConfig
from chatterbox.families.base import DecodeJob
from chatterbox.families.snac import open_codec
from chatterbox.runtime.decoder.snac import AUDIO, SNAC, code_feeds
from chatterbox.runtime.sessions import SessionSettings, open_session, session_settings
from tools.model_builder.snac import write_snac

STOCK_FRAMES = 4
STREAM_FRAMES = 2000  # more than the rounds decode
HOPS = (1, 2, 4, 8)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, help="a SNAC model in the hub's layout")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", default="1", help="windows in one call, comma-separated")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as made:
        folder = given.directory or Path(made) / "snac"
        if given.directory is None:
            write_snac(folder, small=False)
        config = TTSConfig(data_dir=Path(made), device=given.device, threads=given.threads)
        path = folder / "onnx" / "decoder_model.onnx"
        rows = [int(count) for count in given.rows.split(",")]
        subjects = _subjects(config, path, session_settings(config), rows)
        clock = time.process_time if given.device == "cpu" else time.perf_counter
        _print_table(subjects, given.rounds, clock)


def _subjects(
    config: TTSConfig, path: Path, settings: SessionSettings, rows: list[int]
) -> dict[str, tuple[Callable[[], object], float]]:
    """What is timed, and the seconds of sound that it makes."""
    frame_s = 1 / SNAC.frame_rate_hz
    stock = open_session(path, settings)
    feeds = code_feeds(_tokens(STOCK_FRAMES)[None])
    made: dict[str, tuple[Callable[[], object], float]] = {
        "stock, 4 frames for each new one": (lambda: stock.run([AUDIO], feeds), frame_s)
    }
    decoder, note = open_codec(config, path, settings)
    print(note)
    for count in rows:
        for hop in HOPS:
            tokens = _tokens(STREAM_FRAMES)
            streams = [stream_jobs(decoder, tokens, repeat(hop), row) for row in range(count)]

            def call(streams: list[Iterator[DecodeJob]] = streams) -> object:
                return decoder.run([next(stream) for stream in streams])

            made[f"ours, {hop} fresh, {count} in a call"] = (call, count * hop * frame_s)
    return made


def _tokens(frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4096, frames * SNAC.tokens_per_frame)


def _print_table(
    subjects: dict[str, tuple[Callable[[], object], float]],
    rounds: int,
    clock: Callable[[], float],
) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for turn in range(rounds + 5):  # the first are not those of a stream's middle
        for name, (work, _) in subjects.items():
            began = clock()
            work()
            if turn >= 5:
                seconds[name].append(clock() - began)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    costs = {name: median[name] / sound_s for name, (_, sound_s) in subjects.items()}
    stock = next(iter(costs.values()))
    print("| windows | ms a call | ms for a second of sound | stock takes |")
    print("|---|---|---|---|")
    for name, cost in costs.items():
        ms = 1000 * median[name]
        print(f"| {name} | {ms:.1f} | {1000 * cost:.0f} | {stock / cost:.1f} × |")


if __name__ == "__main__":
    main()
