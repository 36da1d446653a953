"""Runs the benchmark: finds the server, registers a voice, measures levels, reports and plots."""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from chatterbox import __version__
from chatterbox.bench import plot, report
from chatterbox.bench.client import EXIT_FAILED, BenchmarkError, Server, Workload
from chatterbox.bench.flags import DEFAULT_LADDER, bound, parser, texts
from chatterbox.bench.load import Bound, Runner, find_largest
from chatterbox.bench.report import Level, SearchResult

SCHEMA = 1
"""Version of the JSON file, raised when a field is removed or changes its meaning."""
GIT_TIMEOUT_S = 5.0
SEARCH_ROUNDS = 3
"""Requests per client at each level of a search, so that most of them run at full load."""
EXIT_INTERRUPTED = 130
MODEL_FIELDS = ("model", "precision", "device")  # of /health


@dataclass(frozen=True, slots=True)
class Measured:
    """Results of a complete or interrupted run."""

    started: datetime
    health: Mapping[str, Any]
    workload: Workload
    bound: Bound
    levels: Sequence[Level]
    search: SearchResult | None = None
    interrupted: bool = False


say = partial(print, flush=True)


def _describe(health: Mapping[str, Any], *fields: str) -> str:
    """Join fields of /health, as in `mini, q4, cpu`."""
    return ", ".join(str(health.get(field) or "?") for field in fields)


def _title(flags: argparse.Namespace, measured: Measured) -> str:
    counts = sorted({level.requests for level in measured.levels})
    facts = (
        _describe(measured.health, *MODEL_FIELDS),
        _describe(measured.health, "machine"),
        "streamed" if flags.stream else "whole files",
        f"n = {'–'.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} per level",
        f"{measured.started:%Y-%m-%d}",
    )
    return f"{report.sentence(measured.levels, streamed=flags.stream)}\n{' · '.join(facts)}"


def _print_introduction(flags: argparse.Namespace, measured: Measured) -> None:
    workload, level = measured.workload, measured.bound
    lengths = [len(text) for text in workload.texts]
    until = [f"{level.requests} requests"] if level.requests is not None else []
    until += [f"{level.duration_s:g} s"] if level.duration_s is not None else []
    source = f" ({flags.register_voice})" if flags.register_voice else ""
    replies = "streamed" if flags.stream else "whole"
    lines = (
        f"Server  {flags.url.rstrip('/')}: {_describe(measured.health, *MODEL_FIELDS)}",
        f"Machine {_describe(measured.health, 'machine')}, {measured.started:%Y-%m-%d}",
        f"Voice   {workload.voice_id or 'the default of the server'}{source}",
        f"Texts   {len(lengths)} of {min(lengths)} to {max(lengths)} characters, seed {flags.seed}",
        f"Load    {replies} replies; {' or '.join(until)} per level, {flags.warmup} of warm-up",
        "",
        report.header(open_loop=flags.rate is not None),
    )
    say(*lines, sep="\n")


async def measure(flags: argparse.Namespace) -> Measured:
    """Run all requests of the benchmark."""
    started = datetime.now(UTC)
    spoken, until = texts(flags), bound(flags)
    async with Server(flags.url, api_key=flags.api_key, timeout_s=flags.timeout) as server:
        health = await server.ready(flags.wait)
        voice_id = flags.voice_id
        if flags.register_voice is not None:
            voice_id = await server.register(flags.register_voice)
        workload = Workload(spoken, voice_id, flags.seed, flags.stream)
        runner = Runner(
            speak=lambda number, due_s: server.speak(workload, number, due_s),
            bound=until,
            warmup=flags.warmup,
            seed=flags.seed,
            on_level=lambda level: say(report.row(level, streamed=flags.stream)),
        )
        measured = Measured(started, health, workload, until, runner.levels)
        _print_introduction(flags, measured)
        return await _run_levels(runner, flags, measured)


async def _run_levels(runner: Runner, flags: argparse.Namespace, measured: Measured) -> Measured:
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
    except asyncio.CancelledError:  # Ctrl-C: report the finished levels
        return replace(measured, interrupted=True)
    return measured


def commit() -> str | None:
    """Return the short commit of this checkout, with `-dirty` if files differ; None if unknown."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [*git, "--exclude=*"], capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True
        )
        return done.stdout.strip() or None
    return None


def record(measured: Measured, *, url: str, warmup: int) -> dict[str, Any]:
    """Return the whole run as a JSON object."""
    workload, levels, search = measured.workload, measured.levels, measured.search
    lengths_chars = [len(text) for text in workload.texts]
    by_mean, by_p95 = report.largest_realtime(levels)
    return {
        "schema": SCHEMA,
        "started": measured.started.isoformat(timespec="seconds"),
        "client": {
            "version": __version__,
            "commit": commit(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
        },
        "server": {"url": url, **measured.health},
        "workload": {
            "stream": workload.stream,
            "voice_id": workload.voice_id,
            "seed": workload.seed,
            "warmup_requests": warmup,
            "requests": measured.bound.requests,
            "duration_s": measured.bound.duration_s,
            "texts": len(lengths_chars),
            "text_chars_min": min(lengths_chars),
            "text_chars_mean": statistics.fmean(lengths_chars),
            "text_chars_max": max(lengths_chars),
        },
        "levels": levels,
        "verdict": report.sentence(levels, streamed=workload.stream),
        "knee": _load(report.knee(levels)),
        "optimal": _load(report.optimal(levels)),
        "largest_realtime_mean": _load(by_mean),
        "largest_realtime_p95": _load(by_p95),
        "search": search,
    }


def _load(level: Level | None) -> float | None:
    return level.load if level else None


def publish(flags: argparse.Namespace, measured: Measured) -> None:
    """Print the summary and write the JSON file and the plot."""
    for paragraph in (
        report.notes(measured.levels),
        ["Interrupted."] if measured.interrupted else [],
        report.verdicts(measured.levels, measured.search, streamed=flags.stream),
    ):
        if paragraph:
            say("\n" + "\n".join(paragraph))
    if flags.json is not None:
        document = record(measured, url=flags.url, warmup=flags.warmup)
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        flags.json.write_text(json.dumps(document, indent=2, default=vars) + "\n", encoding="utf-8")
        say(f"Figures: {flags.json}")
    if not flags.no_plot and any(level.succeeded for level in measured.levels):
        try:
            plot.draw(
                measured.levels, _title(flags, measured), flags.plot, report.knee(measured.levels)
            )
        except ImportError:
            sys.stderr.write("No plot: matplotlib is not installed.\n")
        else:
            say(f"Plot: {flags.plot}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark. Returns 0 on success, 1 if nothing could be measured, 2 for wrong flags or
    files, and 130 if interrupted."""
    flags = parser().parse_args(arguments)
    try:
        measured = asyncio.run(measure(flags))
        publish(flags, measured)
    except (BenchmarkError, OSError) as failure:
        sys.stderr.write(f"benchmark.py: {failure}\n")
        return failure.exit_code if isinstance(failure, BenchmarkError) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if measured.interrupted:
        return EXIT_INTERRUPTED
    return 0 if any(level.succeeded for level in measured.levels) else EXIT_FAILED
