#!/usr/bin/env python3
"""Entry point: measure a running server from outside. `docs/benchmarking.md` explains the figures.

Knows flags and the order of things; measuring, judging and drawing are in `chatterbox/bench/`.
"""

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chatterbox.bench import plot, report
from chatterbox.bench.client import EXIT_FAILED, EXIT_USAGE, BenchmarkError, Server
from chatterbox.bench.load import Bound
from chatterbox.bench.record import record
from chatterbox.bench.runner import Runner
from chatterbox.bench.search import SearchResult, find_largest
from chatterbox.bench.summary import Level
from chatterbox.bench.workload import DEFAULT_TEXTS, SEEDS, Workload

DEFAULT_LADDER = [1, 2, 4, 8, 16]
DEFAULT_REQUESTS = 50
SEARCH_REQUESTS = 10
"""Of one probe, at least; a search has many probes and needs a verdict, not a figure."""
SEARCH_ROUNDS = 3
"""Requests of a probe for each of its clients, so that most of it runs at full load."""
COUNTS = 10**6
"""Flags that count stay below this."""
EXIT_INTERRUPTED = 130


def _whole(text: str, least: int, below: int) -> int:
    if not (text.isdecimal() and len(text) <= len(str(below)) and least <= int(text) < below):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of {least} or more")
    return int(text)


def _count(text: str) -> int:
    return _whole(text, 1, COUNTS)


def _count_or_none(text: str) -> int:
    return _whole(text, 0, COUNTS)


def _seed(text: str) -> int:
    return _whole(text, 0, SEEDS)


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmark.py", description="Measure a running speech server from outside."
    )
    add = parser.add_argument
    add("--url", default="http://localhost:8000", help="where the server is (%(default)s)")
    add("--api-key", help="sent as a bearer token, where the server wants one")
    add("--wait", type=_positive, default=0.0, metavar="S", help="wait for it to be ready")
    add("--timeout", type=_positive, default=300.0, metavar="S", help="of one read (300)")
    voice = parser.add_mutually_exclusive_group()
    voice.add_argument("--register-voice", type=Path, metavar="FILE", help="upload and use this")
    voice.add_argument("--voice-id", metavar="ID", help="use this voice (the server's default)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--rate", type=_rates, metavar="R", help="Poisson arrivals a second: 0.5,1,2")
    how.add_argument(
        "--find-max-concurrency", action="store_true", help="search where p95 RTF reaches 1"
    )
    add("--concurrency", type=_counts, metavar="N", help="requests at once (1,2,4,8,16)")
    add("--max-concurrency", type=_count, default=256, metavar="N", help="search limit (256)")
    add("--requests", type=_count, metavar="N", help="of each level (50; search: 10)")
    add("--duration", type=_positive, metavar="S", help="stop sending after this long")
    add(
        "--warmup",
        type=_count_or_none,
        default=2,
        metavar="N",
        help="uncounted requests before a level (2)",
    )
    add("--stream", action="store_true", help="ask for audio as it is produced")
    texts = parser.add_mutually_exclusive_group()
    texts.add_argument("--text", help="speak only this")
    texts.add_argument("--texts", type=Path, metavar="FILE", help="one text a line")
    add("--seed", type=_seed, default=0, help="of the first request and of the arrivals (0)")
    add("--json", type=Path, metavar="FILE", help="write every figure here")
    add(
        "--plot",
        type=Path,
        metavar="FILE",
        default=Path("benchmark_results/benchmark.png"),
        help="picture (%(default)s)",
    )
    add("--no-plot", action="store_true", help="draw no picture")
    return parser


def _texts(flags: argparse.Namespace) -> Sequence[str]:
    if flags.text is not None:
        return (flags.text,)
    if flags.texts is None:
        return DEFAULT_TEXTS
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


def _bound(flags: argparse.Namespace) -> Bound:
    if flags.requests is None and flags.duration is None:
        return Bound(SEARCH_REQUESTS if flags.find_max_concurrency else DEFAULT_REQUESTS, None)
    return Bound(flags.requests, flags.duration)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run, whole or interrupted, has brought."""

    started: datetime
    health: Mapping[str, Any]
    workload: Workload
    bound: Bound
    levels: Sequence[Level]
    search: SearchResult | None
    interrupted: bool


def say(line: str) -> None:
    print(line, flush=True)


def under_test(health: Mapping[str, Any]) -> str:
    """`mini, q4, cpu` from what /health says."""
    parts = []
    for key in ("model", "precision", "device"):
        value = health.get(key, "?")
        choices = value.values() if isinstance(value, dict) else [value]
        parts.append("/".join(dict.fromkeys(map(str, choices))))
    return ", ".join(parts)


def _introduce(server: Server, flags: argparse.Namespace, measured: Measured) -> None:
    workload, bound = measured.workload, measured.bound
    lengths = [len(text) for text in workload.texts]
    until = [f"{bound.requests} requests"] if bound.requests is not None else []
    until += [f"{bound.duration_s:g} s"] if bound.duration_s is not None else []
    say(f"Server  {server.url}: {under_test(measured.health)}")
    say(f"Voice   {workload.voice_id or 'the default of the server'}")
    say(f"Texts   {len(lengths)} of {min(lengths)} to {max(lengths)} characters, seed {flags.seed}")
    say(
        f"Load    {'streamed' if flags.stream else 'whole'} replies; a level is "
        f"{' or '.join(until)}, after {flags.warmup} of warm-up"
    )
    say("")
    say(report.header(open_loop=flags.rate is not None))


async def measure(flags: argparse.Namespace) -> Measured:
    """Everything that talks to the server."""
    started = datetime.now(UTC)
    texts, bound = _texts(flags), _bound(flags)
    async with Server(flags.url, api_key=flags.api_key, timeout_s=flags.timeout) as server:
        health = await server.ready(flags.wait)
        voice_id = flags.voice_id
        if flags.register_voice is not None:
            voice_id = await server.register(flags.register_voice)
        workload = Workload(texts, voice_id, flags.seed, flags.stream)
        runner = Runner(
            speak=lambda number, due_s: server.speak(workload, number, due_s),
            bound=bound,
            warmup=flags.warmup,
            seed=flags.seed,
            shown=lambda level: say(report.row(level, streamed=flags.stream)),
        )
        measured = Measured(started, health, workload, bound, runner.levels, None, False)
        _introduce(server, flags, measured)
        return await _levels(runner, flags, measured)


async def _levels(runner: Runner, flags: argparse.Namespace, measured: Measured) -> Measured:
    try:
        if flags.find_max_concurrency:
            search = await find_largest(
                lambda n: runner.at_concurrency(n, rounds=SEARCH_ROUNDS), flags.max_concurrency
            )
            return replace(measured, search=search)
        if flags.rate is not None:
            for rate_hz in flags.rate:
                await runner.at_rate(rate_hz)
        else:
            for concurrency in flags.concurrency or DEFAULT_LADDER:
                await runner.at_concurrency(concurrency)
    except asyncio.CancelledError:  # Ctrl-C: what is done is still worth a report
        return replace(measured, interrupted=True)
    return measured


def publish(flags: argparse.Namespace, measured: Measured) -> None:
    """The lines below the table, the JSON file and the picture."""
    say("")
    for line in report.notes(measured.levels) + report.verdicts(measured.levels, measured.search):
        say(line)
    if flags.json is not None:
        document = record(
            started=measured.started,
            url=flags.url,
            health=measured.health,
            workload=measured.workload,
            bound=measured.bound,
            warmup=flags.warmup,
            levels=measured.levels,
            search=measured.search,
        )
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        flags.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        say(f"Figures: {flags.json}")
    if not flags.no_plot and any(level.succeeded for level in measured.levels):
        title = under_test(measured.health) + (", streamed" if flags.stream else "")
        try:
            plot.draw(measured.levels, title, flags.plot)
        except ImportError:
            print("No picture: matplotlib is not installed.", file=sys.stderr)
        else:
            say(f"Picture: {flags.plot}")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured; 1: could not be; 2: wrong flags or files; 130: interrupted."""
    flags = _parser().parse_args(arguments)
    try:
        measured = asyncio.run(measure(flags))
        publish(flags, measured)
    except (BenchmarkError, OSError) as failure:
        print(f"benchmark.py: {failure}", file=sys.stderr)
        return failure.exit_code if isinstance(failure, BenchmarkError) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if measured.interrupted:
        return EXIT_INTERRUPTED
    return 0 if any(level.succeeded for level in measured.levels) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
