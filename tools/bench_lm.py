"""Measures a language model step: published graph, compiled graph and the authors' code.

    python tools/bench_lm.py --directory forms/plain [--authors authors] [--json FILE]

`--directory` holds stock graphs in the hub's naming (`python -m tools.stock_forms forms`); weights
may be random, the cost does not depend on them. The stock graph is driven by the card's loop: the
whole cache in and out of each call. Each round measures every cell once, so that a slow spell of
the machine falls on all of them; a figure is the median over all rounds. On a shared machine
`--quiet 0.1` repeats what was measured while other processes took a tenth of the cores. With
--device cuda the batches go to 128, CUDA graphs are a column of their own, and --bandwidth-gb-s
gives the floor.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import chatterbox.runtime  # noqa: F401 - silences telemetry before onnxruntime is imported
from chatterbox.config import TTSConfig
from chatterbox.runtime.sessions import SessionSettings, open_session, session_settings
from tools.lm_subjects import Cell, Step, Subjects

QUIET_S = 0.5


class OtherProcesses:
    """How busy everything but this process keeps the cores, from its creation on (Linux)."""

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._start = time.perf_counter()
        self._others_s = self._used_s()

    def share(self) -> float:
        """Between 0 and 1."""
        wall = time.perf_counter() - self._start
        return (self._used_s() - self._others_s) / (wall * self._cores)

    def _used_s(self) -> float:
        stat = Path("/proc/stat")
        if not stat.exists():
            return 0.0
        user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
        total = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        own = os.times()
        return total - own.user - own.system


class Bench:
    """Times the steps."""

    def __init__(self, given: argparse.Namespace, settings: SessionSettings) -> None:
        self._given = given
        self._cores = settings.threads
        self.subjects = Subjects(given, settings)
        self.samples: dict[Cell, list[float]] = defaultdict(list)
        self.windows: dict[Cell, int] = {}
        self.dropped = 0

    def round(self) -> None:
        """Every cell once that has not been measured in enough quiet windows."""
        given = self._given
        for precision in given.precision.split(","):
            for graph in given.graph.split(","):
                for cell, step in self.subjects.cells(graph, precision):
                    if self.windows.get(cell, 0) < given.rounds:
                        self._measure(cell, step)
                gc.collect()

    @property
    def done(self) -> bool:
        """Whether every cell has been measured in enough quiet windows."""
        return all(count >= self._given.rounds for count in self.windows.values())

    def _measure(self, cell: Cell, step: Step) -> None:
        """One window of steps; dropped where other processes were busy meanwhile."""
        self.windows.setdefault(cell, 0)
        self._await_quiet()
        step()  # warm-up
        others = OtherProcesses(self._cores)
        began = time.perf_counter()
        samples = []
        for _ in range(self._given.steps):
            start = time.perf_counter()
            step()
            samples.append(time.perf_counter() - start)
            if time.perf_counter() - began > self._given.cell_s:
                break
        if others.share() > self._given.quiet:
            self.dropped += 1
            return
        self.windows[cell] += 1
        self.samples[cell] += samples

    def _await_quiet(self) -> None:
        """Until other processes leave the cores alone, but not for ever."""
        ends = time.perf_counter() + self._given.patience_s
        while self._given.quiet < 1 and time.perf_counter() < ends:
            others = OtherProcesses(self._cores)
            time.sleep(QUIET_S)
            if others.share() <= self._given.quiet:
                return


def rows(bench: Bench) -> list[dict[str, Any]]:
    """The table as published."""
    found = []
    for cell, seconds in bench.samples.items():
        if not seconds:
            continue
        step_s = statistics.median(seconds)
        found.append(
            {
                "graph": cell.graph,
                "precision": cell.precision,
                "batch": cell.batch,
                "context": cell.context,
                "step_ms": round(1e3 * step_s, 2),
                "codes_per_s": round(cell.batch / step_s, 1),
            }
        )
    return found


def show(bench: Bench, found: list[dict[str, Any]], given: argparse.Namespace) -> None:
    """On the console: a line for each graph, a column for each batch."""
    for context in given.contexts:
        print(f"\ncontext {context}: ms a step (codes/s)")
        print(" " * 22 + "".join(f"{batch:>18}" for batch in given.batches))
        lines: dict[str, dict[int, str]] = defaultdict(dict)
        for row in found:
            if row["context"] == context:
                text = f"{row['step_ms']:.1f} ({row['codes_per_s']:.0f})"
                lines[f"{row['graph']} {row['precision']}"][row["batch"]] = text
        for name, cells in lines.items():
            print(f"{name:22}" + "".join(f"{cells.get(b, '-'):>18}" for b in given.batches))
    print()
    print(*bench.subjects.prefills(), sep="\n")


def floor(given: argparse.Namespace, bench: Bench) -> None:
    """The least a step can take: every weight and every cached position read once."""
    print(f"\nfloor at {given.bandwidth_gb_s:g} GB/s")
    for precision in given.precision.split(","):
        path = bench.subjects.compiled_path(precision)
        weights = (path.parent / (path.name + "_data")).stat().st_size
        session = open_session(path, SessionSettings("cpu", 1, {}))
        past = [i for i in session.get_inputs() if i.name.startswith("past.")]
        bytes_each = {"tensor(float16)": 2, "tensor(float)": 4, "tensor(int8)": 1}[past[0].type]
        position = sum(i.shape[1] * i.shape[3] * bytes_each for i in past)
        for context in given.contexts:
            times = [
                f"{b}: {(weights + b * context * position) / given.bandwidth_gb_s / 1e6:.2f} ms"
                for b in given.batches
            ]
            print(f"{precision} context {context}:  " + "  ".join(times))


def arguments() -> argparse.Namespace:
    """The command line, with what follows from the device."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--directory", type=Path, required=True, help="stock graphs")
    parser.add_argument("--cache", type=Path, help="compiled graphs; default: <directory>/compiled")
    parser.add_argument("--authors", type=Path, help="unpacked chatterbox-tts: the torch column")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--graph", help="stock,compiled,torch; on CUDA compiled+graphs too")
    parser.add_argument("--precision", help="default: fp32,q8,q4; on CUDA fp16,q4f16")
    parser.add_argument("--batch", help="default: 1,2,4,8,16; on CUDA 1,8,32,64,128")
    parser.add_argument("--context", default="450,1000")
    parser.add_argument("--kv-dtype", choices=["float", "int8"], help="default: the recipe's")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3, help="windows for each cell")
    parser.add_argument("--most-rounds", type=int, default=30)
    parser.add_argument(
        "--quiet", type=float, default=1.0, help="drop windows where others are busier than this"
    )
    parser.add_argument("--patience-s", type=float, default=20, help="to wait for quiet")
    parser.add_argument("--steps", type=int, default=12, help="for each cell and round")
    parser.add_argument("--cell-s", type=float, default=4.0, help="at most, for a cell and round")
    parser.add_argument("--bandwidth-gb-s", type=float, help="of the device's memory: the floor")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    cuda = given.device == "cuda"
    given.graph = given.graph or (
        "stock,compiled,compiled+graphs" if cuda else "stock,compiled,torch"
    )
    given.precision = given.precision or ("fp16,q4f16" if cuda else "fp32,q8,q4")
    given.batch = given.batch or ("1,8,32,64,128" if cuda else "1,2,4,8,16")
    given.batches = [int(b) for b in given.batch.split(",")]
    given.contexts = [int(c) for c in given.context.split(",")]
    return given


def main() -> None:
    """Measure and report."""
    given = arguments()
    settings = session_settings(TTSConfig(device=given.device, threads=given.threads))
    bench = Bench(given, settings)
    for number in range(given.most_rounds):
        bench.round()
        print(f"round {number + 1} done, {bench.dropped} busy windows dropped", file=sys.stderr)
        if bench.done:
            break
    found = rows(bench)
    counts = bench.windows.values()
    print(f"{settings.device}, {settings.threads} threads; medians over {min(counts)} to", end=" ")
    print(f"{max(counts)} windows of up to {given.steps} steps; {bench.dropped} windows dropped,")
    print(f"in which other processes took more than {given.quiet:.0%} of the cores")
    show(bench, found, given)
    if given.bandwidth_gb_s:
        floor(given, bench)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
