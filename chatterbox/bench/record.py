"""The JSON record of a run, with what it takes to repeat it (docs/run/benchmarking.md)."""

import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from chatterbox import __version__
from chatterbox.bench.client import Workload
from chatterbox.bench.load import Bound, SearchResult
from chatterbox.bench.report import knee, largest_realtime, optimal, sentence
from chatterbox.bench.summary import Level

SCHEMA = 1
"""Raised when a field changes its meaning or goes away."""
GIT_TIMEOUT_S = 5.0


def commit(directory: Path) -> str | None:
    """The short commit of a checkout, `-dirty` if tracked files differ; None outside of one."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [git, "-C", str(directory), "describe", "--always", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run, whole or interrupted, has brought."""

    started: datetime
    health: Mapping[str, Any]
    workload: Workload
    bound: Bound
    levels: Sequence[Level]
    search: SearchResult | None = None
    interrupted: bool = False


def record(measured: Measured, *, url: str, warmup: int) -> dict[str, Any]:
    """The whole run as one JSON object."""
    workload, levels, search = measured.workload, measured.levels, measured.search
    lengths_chars = [len(text) for text in workload.texts]
    best, bend = optimal(levels), knee(levels)
    by_mean, by_p95 = largest_realtime(levels)
    return {
        "schema": SCHEMA,
        "started": measured.started.isoformat(timespec="seconds"),
        "client": {
            "version": __version__,
            "commit": commit(Path(__file__).parent),
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
        "levels": [asdict(level) for level in levels],
        "verdict": sentence(levels, streamed=workload.stream),
        "knee": bend.load if bend else None,
        "optimal": best.load if best else None,
        "largest_realtime_mean": by_mean.load if by_mean else None,
        "largest_realtime_p95": by_p95.load if by_p95 else None,
        "search": asdict(search) if search is not None else None,
    }
