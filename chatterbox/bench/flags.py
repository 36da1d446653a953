"""Command line of the benchmark: flags, and what they mean together."""

import argparse
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from chatterbox.bench.client import EXIT_USAGE, SEEDS, BenchmarkError
from chatterbox.bench.load import Bound

DEFAULT_LADDER = [1, 2, 4, 8, 16]
DEFAULT_REQUESTS = 50
SEARCH_REQUESTS = 10
"""Of one probe, at least; a search has many probes and needs a verdict, not a figure."""
TEXTS = Path(__file__).with_name("texts.txt")
"""Written for this benchmark: one or two sentences each, 4 to 8 seconds when spoken; the last is
three segments, about 30 seconds: only a longer text shows whether a listener runs out of sound
between segments."""
COUNTS = 10**6
"""Flags that count stay below this."""


def _whole(text: str, least: int = 1, below: int = COUNTS) -> int:
    if not (text.isdecimal() and len(text) <= len(str(below)) and least <= int(text) < below):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of {least} or more")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


def _counts(text: str) -> list[int]:
    return [_whole(part.strip()) for part in text.split(",")]


def _rates(text: str) -> list[float]:
    return [_positive(part) for part in text.split(",")]


def parser() -> argparse.ArgumentParser:
    """All flags, each value checked."""
    flags = argparse.ArgumentParser(
        prog="benchmark.py", description="Measure a running speech server from outside."
    )
    add = flags.add_argument
    add("--url", default="http://localhost:8000", help="where the server is (%(default)s)")
    add("--api-key", help="sent as a bearer token, where the server wants one")
    add("--wait", type=_positive, default=0.0, metavar="S", help="wait for it to be ready")
    add("--timeout", type=_positive, default=300.0, metavar="S", help="of one read (300)")
    voice = flags.add_mutually_exclusive_group()
    voice.add_argument("--register-voice", type=Path, metavar="FILE", help="upload and use this")
    voice.add_argument("--voice-id", metavar="ID", help="use this voice (the server's default)")
    how = flags.add_mutually_exclusive_group()
    how.add_argument("--rate", type=_rates, metavar="R", help="Poisson arrivals a second: 0.5,1,2")
    how.add_argument(
        "--find-max-concurrency", action="store_true", help="search where p95 RTF reaches 1"
    )
    add("--concurrency", type=_counts, metavar="N", help="requests at once (1,2,4,8,16)")
    add("--max-concurrency", type=_whole, default=256, metavar="N", help="search limit (256)")
    add("--requests", type=_whole, metavar="N", help="of each level (50; search: 10)")
    add("--duration", type=_positive, metavar="S", help="stop sending after this long")
    count = partial(_whole, least=0)
    add("--warmup", type=count, default=2, metavar="N", help="uncounted, before a level (2)")
    add("--stream", action="store_true", help="ask for audio as it is produced")
    texts = flags.add_mutually_exclusive_group()
    texts.add_argument("--text", help="speak only this")
    texts.add_argument("--texts", type=Path, metavar="FILE", default=TEXTS, help="one text a line")
    seed = partial(_whole, least=0, below=SEEDS)
    add("--seed", type=seed, default=0, help="of the first request and of the arrivals (0)")
    add("--json", type=Path, metavar="FILE", help="write every figure here")
    picture = Path("benchmark_results/benchmark.png")
    add("--plot", type=Path, metavar="FILE", default=picture, help="picture (%(default)s)")
    add("--no-plot", action="store_true", help="draw no picture")
    return flags


def texts(flags: argparse.Namespace) -> Sequence[str]:
    """What is to be spoken; BenchmarkError where the file cannot be read."""
    if flags.text is not None:
        return (flags.text,)
    try:
        lines = flags.texts.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else "not UTF-8"
        raise BenchmarkError(
            f"Cannot read the texts {flags.texts}: {reason}.", EXIT_USAGE
        ) from None
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise BenchmarkError(f"The file {flags.texts} has no text in it.", EXIT_USAGE)
    return texts


def bound(flags: argparse.Namespace) -> Bound:
    """When a level ends."""
    if flags.requests is None and flags.duration is None:
        return Bound(SEARCH_REQUESTS if flags.find_max_concurrency else DEFAULT_REQUESTS, None)
    return Bound(flags.requests, flags.duration)
