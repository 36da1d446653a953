"""Command line of the benchmark."""

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
"""Minimum number of requests at each level of a search, which needs a verdict, not exact
figures."""
TEXTS = Path(__file__).with_name("texts.txt")
"""Texts of one or two sentences that take 4 to 8 seconds to speak. The last text has three segments
and takes about 30 seconds, because only longer texts show gaps between segments."""
COUNT_LIMIT = 10**6  # counts are below this


def _count(text: str, minimum: int = 1, below: int = COUNT_LIMIT) -> int:
    if not (text.isdecimal() and len(text) <= len(str(below)) and minimum <= int(text) < below):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of {minimum} or more")
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
    return [_count(part.strip()) for part in text.split(",")]


def _rates(text: str) -> list[float]:
    return [_positive(part) for part in text.split(",")]


def parser() -> argparse.ArgumentParser:
    """Build the argument parser, which also validates each value."""
    flags = argparse.ArgumentParser(
        prog="benchmark.py", description="Measure a running speech server over HTTP."
    )
    add = flags.add_argument
    add("--url", default="http://localhost:8000", help="address of the server (%(default)s)")
    add("--api-key", help="API key, if the server requires one")
    add("--wait", type=_positive, default=0.0, metavar="S", help="wait this long for the server")
    add("--timeout", type=_positive, default=300.0, metavar="S", help="timeout of a read (300)")
    voice = flags.add_mutually_exclusive_group()
    voice.add_argument("--register-voice", type=Path, metavar="FILE", help="upload this voice")
    voice.add_argument("--voice-id", metavar="ID", help="voice to use (the server's default)")
    how = flags.add_mutually_exclusive_group()
    how.add_argument(
        "--rate", type=_rates, metavar="R", help="Poisson arrivals per second: 0.5,1,2"
    )
    how.add_argument(
        "--find-max-concurrency", action="store_true", help="search for the load with p95 RTF 1"
    )
    add("--concurrency", type=_counts, metavar="N", help="requests at once (1,2,4,8,16)")
    add("--max-concurrency", type=_count, default=256, metavar="N", help="search limit (256)")
    add("--requests", type=_count, metavar="N", help="requests per level (50; search: 10)")
    add("--duration", type=_positive, metavar="S", help="stop sending after this long")
    warmup = partial(_count, minimum=0)
    add("--warmup", type=warmup, default=2, metavar="N", help="requests before each level (2)")
    add("--stream", action="store_true", help="request streamed audio")
    texts = flags.add_mutually_exclusive_group()
    texts.add_argument("--text", help="a single text to speak")
    texts.add_argument(
        "--texts", type=Path, metavar="FILE", default=TEXTS, help="file with a text per line"
    )
    seed = partial(_count, minimum=0, below=SEEDS)
    add("--seed", type=seed, default=0, help="seed of the first request and the arrivals (0)")
    add("--json", type=Path, metavar="FILE", help="write all figures to this file")
    plot = Path("benchmark_results/benchmark.png")
    add("--plot", type=Path, metavar="FILE", default=plot, help="plot file (%(default)s)")
    add("--no-plot", action="store_true", help="draw no plot")
    return flags


def texts(flags: argparse.Namespace) -> Sequence[str]:
    """Return the texts to speak. Raises BenchmarkError if their file is unreadable or empty."""
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
        raise BenchmarkError(f"The file {flags.texts} contains no text.", EXIT_USAGE)
    return texts


def bound(flags: argparse.Namespace) -> Bound:
    """Return the bound of a level."""
    if flags.requests is None and flags.duration is None:
        return Bound(SEARCH_REQUESTS if flags.find_max_concurrency else DEFAULT_REQUESTS, None)
    return Bound(flags.requests, flags.duration)
