"""Counts and lists the provider's calls to the stand-ins, and the placement of nodes.

Only in a process that runs with the stand-ins (`python -m tools.gpu_dry_run`); imported before
onnxruntime, it keeps a real runtime out. Kinds of events: `h2d`, `d2h`, `d2d` are copies,
`pageable` where the host's memory is not pinned, `across` where they go from one device to another;
`products` are GEMMs; `cudnn_plans` are built, `cudnn_runs` executed; `captured_pageable` is a copy
that a replay repeats from an address that may be stale.
"""

import ctypes
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

try:
    # Also keeps a real runtime out: whatever asks for this name later gets what is loaded now.
    _cuda = ctypes.CDLL("libcudart.so.13")
    _KINDS = _cuda.dry_run_kind_count()
except (OSError, AttributeError):
    sys.exit("no stand-ins are loaded: run this as python -m tools.gpu_dry_run")
_cuda.dry_run_kind_name.restype = ctypes.c_char_p
_NAMES = [_cuda.dry_run_kind_name(kind).decode() for kind in range(_KINDS)]

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Counts(Counter[str]):
    """Kind of event → how many; `amounts`: their bytes, of `captures` and `replays` launches."""

    def __init__(self) -> None:
        super().__init__()
        self.amounts: Counter[str] = Counter()

    def __str__(self) -> str:
        return ", ".join(self._one(kind) for kind in _NAMES if self[kind]) or "nothing"

    def _one(self, kind: str) -> str:
        amount = self.amounts[kind]
        what = f"{amount:,} launches" if kind in ("captures", "replays") else in_units(amount)
        return f"{kind} {self[kind]:,}" + (f" ({what})" if amount else "")


def in_units(size: int) -> str:
    """Bytes, for people."""
    power = min(3, (max(size, 1).bit_length() - 1) // 10)
    return f"{size / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB')[power]}"


@contextmanager
def counters(label: str = "") -> Iterator[Counts]:
    """Counts what happens inside, in all threads; with a label, prints it."""
    seen, before = Counts(), _snapshot()
    try:
        yield seen
    finally:
        for name, then, now in zip(_NAMES, before, _snapshot(), strict=True):
            seen[name], seen.amounts[name] = now[0] - then[0], now[1] - then[1]
        if label:
            print(f"{label}: {seen}")


def _snapshot() -> list[tuple[int, int]]:
    counts, amounts = (ctypes.c_size_t * _KINDS)(), (ctypes.c_size_t * _KINDS)()
    _cuda.dry_run_counts(counts, amounts)
    return list(zip(counts, amounts, strict=True))


class Event(NamedTuple):
    """One line of the log."""

    thread: int
    kind: str
    amount: int
    text: str


@contextmanager
def events() -> Iterator[list[Event]]:
    """Lists what happens inside one by one, with names and sizes."""
    seen: list[Event] = []
    kept = os.environ.get("DRY_RUN_LOG")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(kept or Path(folder, "log"))
        _cuda.dry_run_log_to(os.fsencode(log))
        start = log.stat().st_size
        try:
            yield seen
        finally:
            if not kept:
                _cuda.dry_run_log_to(None)
            seen += read_events(log, start)


def read_events(log: Path, start: int = 0) -> list[Event]:
    """What a log holds from byte `start`."""
    lines = log.read_bytes()[start:].decode(errors="replace").splitlines()
    parts = [line.split("\t", 3) for line in lines]
    return [Event(int(p[0]), p[1], int(p[2]), p[3]) for p in parts if len(p) == 4]


def summary(seen: list[Event], most: int = 10) -> str:
    """Counts by kind, then the most frequent of each kind that has names."""
    counts = Counts()
    for event in seen:
        counts[event.kind] += 1
        counts.amounts[event.kind] += event.amount
    lines = [str(counts)]
    for kind in ("kernels", "products", "cudnn_plans", "cudnn_runs", "violations", "failures"):
        texts = Counter(named(event)[:120] for event in seen if event.kind == kind)
        lines += [f"  {kind} {count:6,} × {text}" for text, count in texts.most_common(most)]
    return "\n".join(lines)


@cache
def named(event: Event) -> str:
    """An event's text; of a kernel, its name without namespaces, types and arguments."""
    if event.kind != "kernels":
        return event.text
    mangled = event.text.split("\t")[0].encode()
    demangle = ctypes.CDLL("libstdc++.so.6").__cxa_demangle
    demangle.restype = ctypes.c_char_p
    plain = (demangle(mangled, None, None, None) or mangled).decode()
    plain = plain.replace("(anonymous namespace)::", "").removeprefix("void ")
    return re.split(r"[<(]", plain)[0].split("::")[-1]


def fail(call: str, status: int) -> None:
    """From now on `call` fails so: kernel, malloc, copy, sync, product, cudnn. 0: no longer."""
    _cuda.dry_run_fail(call.encode(), status)


def device_memory(device: int = 0) -> tuple[int, int]:
    """Bytes allocated on a device now, and at most so far."""
    now, most = ctypes.c_size_t(), ctypes.c_size_t()
    _cuda.dry_run_memory(device, ctypes.byref(now), ctypes.byref(most))
    return now.value, most.value


class Placement(dict[str, Counter[str]]):
    """Provider → kind of node → how many; onnxruntime names no kinds where one got them all."""

    def __init__(self, log: list[str]) -> None:
        super().__init__({CUDA: Counter(), CPU: Counter()})
        for line in log:
            if found := re.search(r"laced on \[(\w+)\]\. Number of nodes: (\d+)", line):
                provider = found[1]
                if "All nodes" in line:
                    self[provider]["not named"] = int(found[2])
            elif found := re.search(r"VerifyEachNode\w*\]\s+(\w+) \(", line):
                self[provider][found[1]] += 1

    def __str__(self) -> str:
        nodes = ", ".join(f"{provider} {kinds.total():,}" for provider, kinds in self.items())
        on_cpu = ", ".join(f"{kind} {count}" for kind, count in self[CPU].most_common())
        memcpy = f"{self[CUDA]['MemcpyFromHost']} from the host, {self[CUDA]['MemcpyToHost']} to it"
        return f"{nodes}\non the CPU: {on_cpu or 'nothing'}\nMemcpy: {memcpy}"


def opened(
    source: Path | bytes, options: dict[str, str], entries: dict[str, str] | None = None
) -> tuple[Any, Placement]:
    """A session with the CUDA provider, and where nodes went. Raises what onnxruntime raises."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.log_severity_level = settings.log_verbosity_level = 0
    for key, value in (entries or {}).items():
        settings.add_session_config_entry(key, value)
    providers = [(CUDA, options), CPU]
    with _stderr() as log:
        session = ort.InferenceSession(source, settings, providers=providers, enable_fallback=0)
    return session, Placement(log)


@contextmanager
def _stderr() -> Iterator[list[str]]:
    lines: list[str] = []
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines()


def capture(session: Any, shapes: dict[str, list[int]], fills: dict[str, float]) -> list[Counts]:
    """Runs a session opened with enable_cuda_graph thrice. Sizes not given are 1, numbers 0."""
    import numpy as np
    import onnxruntime as ort

    def run(graph_id: str) -> None:  # -1: neither capture nor replay
        options = ort.RunOptions()
        options.log_severity_level = 3
        options.add_run_config_entry("gpu_graph_id", graph_id)
        session.run_with_iobinding(binding, options)

    def place(memory: Any) -> str:
        return "cuda" if memory.name.startswith("Cuda") else "cpu"

    binding, kept = session.io_binding(), []
    for told, memory in zip(session.get_inputs(), session.get_input_memory_infos(), strict=True):
        shape = shapes.get(told.name) or [n if isinstance(n, int) else 1 for n in told.shape]
        kind = {"float": "float32", "double": "float64"}.get(told.type[7:-1], told.type[7:-1])
        values = np.full(shape, fills.get(told.name, 0), kind)
        kept.append(ort.OrtValue.ortvalue_from_numpy(values, place(memory), 0))
        binding.bind_ortvalue_input(told.name, kept[-1])
    for told, memory in zip(session.get_outputs(), session.get_output_memory_infos(), strict=True):
        binding.bind_output(told.name, place(memory))
    run("-1")  # which tells the outputs' shapes
    for told, value in zip(session.get_outputs(), binding.get_outputs(), strict=True):
        binding.bind_ortvalue_output(told.name, value)
    seen = []
    for _ in range(3):
        with counters() as one:
            run("1")
        seen.append(one)
    return seen
