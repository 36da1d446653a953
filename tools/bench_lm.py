"""How long does a step of the language model take? Stock, tuned and the authors' own, interleaved.

    python tools/bench_lm.py --directory forms/plain [--authors authors] [--json FILE]

`--directory` holds stock graphs in the hub's naming (`python -m tools.stock_forms forms`); weights
may be random, the cost does not depend on them. The stock graph is driven by the card's loop: the
whole cache in and out of each call. Each round measures every cell once, so that a busy moment of
the machine falls on all of them; a figure is the median over all rounds. With --device cuda the
batches go to 128, CUDA graphs are a column of their own, and --bandwidth-gb-s gives the floor.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import chatterbox.model  # noqa: F401 - silences telemetry before onnxruntime is imported
from chatterbox.config import TTSConfig
from chatterbox.model.capture import Buckets
from chatterbox.model.contract import PRECISION_SUFFIX
from chatterbox.model.memory import Memory
from chatterbox.model.sessions import SessionSettings, open_session, session_settings
from chatterbox.model.slots import TunedLanguageModel
from chatterbox.model.tune.prove import random_embedder, sampled_voice
from chatterbox.model.tune.tuner import Recipe, Untuned, recipe_for, tune

MARGIN = 64  # positions beyond the context, for the steps themselves
PREFIX_ROWS = 376
TEXT_IDS = 40
Step = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured."""

    graph: str  # stock, tuned, torch
    precision: str
    batch: int
    context: int


class Bench:
    """Builds what is measured, one session at a time, and times it."""

    def __init__(self, given: argparse.Namespace, settings: SessionSettings) -> None:
        self._given = given
        self._settings = settings
        self.samples: dict[Cell, list[float]] = defaultdict(list)
        self.prefill_s: dict[tuple[str, str], list[float]] = defaultdict(list)

    def round(self) -> None:
        """Every cell once."""
        given = self._given
        for precision in given.precision.split(","):
            for graph in given.graph.split(","):
                for cell, step in self._cells(graph, precision):
                    self._measure(cell, step)
                gc.collect()

    def _cells(self, graph: str, precision: str) -> Iterator[tuple[Cell, Step]]:
        if graph == "stock" and ":" not in precision:
            yield from self._stock(precision)
        elif graph.startswith("tuned"):
            yield from self._tuned(precision, graph)
        elif graph == "torch" and precision == "fp32" and self._given.authors:
            yield from self._torch()

    def _measure(self, cell: Cell, step: Step) -> None:
        began = time.perf_counter()
        step()  # warm-up
        if time.perf_counter() - began > self._given.cell_s:
            self.samples[cell].append(time.perf_counter() - began)
            return
        ends = began + self._given.cell_s
        for _ in range(self._given.steps):
            start = time.perf_counter()
            step()
            self.samples[cell].append(time.perf_counter() - start)
            if time.perf_counter() > ends:
                break

    def _path(self, precision: str) -> Path:
        suffix = PRECISION_SUFFIX[precision]  # type: ignore[index]
        return self._given.directory / f"language_model{suffix}.onnx"

    def _stock(self, precision: str) -> Iterator[tuple[Cell, Step]]:
        session = open_session(self._path(precision), self._settings)
        pasts = [i for i in session.get_inputs() if i.name.startswith("past_key_values.")]
        kind = np.float16 if pasts[0].type == "tensor(float16)" else np.float32
        _, heads, _, head_dim = pasts[0].shape
        hidden = session.get_inputs()[0].shape[2]
        names = ["logits", *(i.name.replace("past_key_values", "present") for i in pasts)]
        for context in self._given.contexts:
            for batch in self._given.batches:
                cache = np.full((batch, heads, context, head_dim), 0.1, kind)
                feeds = {i.name: cache for i in pasts}
                feeds["inputs_embeds"] = np.ones((batch, 1, hidden), np.float32)
                feeds["position_ids"] = np.full((batch, 1), context)
                feeds["attention_mask"] = np.ones((batch, context + 1), np.int64)
                yield (
                    Cell("stock", precision, batch, context),
                    lambda feeds=feeds: session.run(names, feeds),
                )

    def _tuned(self, precision: str, graph: str) -> Iterator[tuple[Cell, Step]]:
        captured = graph == "tuned+graphs"
        options = {"enable_cuda_graph": "1"} if captured else None
        session = open_session(
            self._tuned_path(precision), self._settings, provider_options=options
        )
        memory = Memory(self._settings.device, self._device_id)
        slots = max(self._given.batches)
        buckets = Buckets(slots, capture=True) if captured else None
        hidden = int(session.get_inputs()[0].shape[2])
        model = TunedLanguageModel(
            session,
            random_embedder(hidden),
            slots=slots,
            capacity=max(self._given.contexts) + MARGIN,
            prefix_cache_bytes=1 << 30,
            memory=memory,
            buckets=buckets,
        )
        self._prefill(model, hidden, (graph, precision))
        for context in self._given.contexts:
            self._fill(model, context)
            for batch in self._given.batches:
                codes = np.arange(batch)

                def step(batch: int = batch, context: int = context, codes: Any = codes) -> None:
                    model._lengths[:batch] = context  # every step at this very context
                    model.step(range(batch), codes)

                yield Cell(graph, precision, batch, context), step

    def _tuned_path(self, precision: str) -> Path:
        """`q4` takes the stock q4 file over; `fp32:q4` quantises the fp32 file."""
        source, _, target = precision.partition(":")
        recipe = recipe_for(self._settings.device, source)  # type: ignore[arg-type]
        if target:
            recipe = Recipe(bits=int(target[1:]), compute=recipe.compute)
        found = tune(
            self._path(source),
            source,  # type: ignore[arg-type]
            self._given.cache or self._given.directory / "tuned",
            self._settings,
            recipe=recipe,
        )
        if isinstance(found, Untuned):
            sys.exit(f"{precision}: {found.reason}")
        return found.path

    @property
    def _device_id(self) -> int:
        return int(self._settings.cuda_options.get("device_id", 0))

    def _fill(self, model: TunedLanguageModel, context: int) -> None:
        """All slots at `context`, their memory really taken."""
        model._lengths[:] = context
        if self._settings.device == "cpu":
            for buffer in model._arena:
                buffer.get()[:, :, : context + 1] = 0.1

    def _prefill(self, model: TunedLanguageModel, hidden: int, key: tuple[str, str]) -> None:
        """A voice's rows, then text behind the cached prefix."""
        voice = sampled_voice(PREFIX_ROWS, random_embedder(hidden), len(self.prefill_s[key]))
        text = np.arange(TEXT_IDS)
        start = time.perf_counter()
        model.warm(voice)
        model.begin(0, voice, text)
        middle = time.perf_counter()
        model.begin(0, voice, text)
        self.prefill_s[key].append(time.perf_counter() - middle)
        self.prefill_s[key[0], key[1] + " cold"].append(middle - start)

    def _torch(self) -> Iterator[tuple[Cell, Step]]:
        import torch
        from transformers import DynamicCache

        from tools.stock_forms.authors import load_t3

        torch.set_num_threads(self._settings.threads)
        t3 = load_t3(self._given.authors)
        heads, width = t3.cfg.n_head, t3.cfg.n_embd
        for context in self._given.contexts:
            for batch in self._given.batches:
                cache = DynamicCache()
                for layer in range(t3.cfg.n_layer):
                    values = torch.full((batch, heads, context, width // heads), 0.1)
                    cache.update(values, values, layer)
                embeds = torch.ones(batch, 1, width)

                def step(cache: Any = cache, embeds: Any = embeds, context: int = context) -> None:
                    with torch.inference_mode():
                        hidden = t3.tfmr(
                            inputs_embeds=embeds, past_key_values=cache, use_cache=True
                        )[0]
                        t3.speech_head(hidden)
                        cache.crop(context)

                yield Cell("torch", "fp32", batch, context), step


def rows(bench: Bench) -> list[dict[str, Any]]:
    """The table as published."""
    found = []
    for cell, seconds in bench.samples.items():
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
    for (graph, precision), seconds in bench.prefill_s.items():
        what = (
            f"{PREFIX_ROWS} rows and {TEXT_IDS} ids"
            if "cold" in precision
            else (f"{TEXT_IDS} ids behind a cached prefix")
        )
        print(
            f"{graph} {precision.removesuffix(' cold')}: {what}: {statistics.median(seconds):.3f} s"
        )


def floor(given: argparse.Namespace, bench: Bench) -> None:
    """The least a step can take: every weight and every cached position read once."""
    print(f"\nfloor at {given.bandwidth_gb_s:g} GB/s")
    for precision in given.precision.split(","):
        path = bench._tuned_path(precision)
        weights = (path.parent / (path.name + "_data")).stat().st_size
        session = open_session(path, SessionSettings("cpu", 1, {}))
        past = [i for i in session.get_inputs() if i.name.startswith("past.")]
        bytes_each = {"tensor(float16)": 2, "tensor(float)": 4}[past[0].type]
        position = sum(i.shape[1] * i.shape[3] * bytes_each for i in past)
        for context in given.contexts:
            times = [
                f"{b}: {(weights + b * context * position) / given.bandwidth_gb_s / 1e6:.2f} ms"
                for b in given.batches
            ]
            print(f"{precision} context {context}:  " + "  ".join(times))


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--directory", type=Path, required=True, help="stock graphs")
    parser.add_argument("--cache", type=Path, help="tuned graphs; default: <directory>/tuned")
    parser.add_argument("--authors", type=Path, help="unpacked chatterbox-tts: the torch column")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--graph", help="stock,tuned,torch; on CUDA tuned+graphs too")
    parser.add_argument("--precision", default="fp32,q8,q4", help="fp32:q4 quantises fp32 to q4")
    parser.add_argument("--batch", help="default: 1,2,4,8,16; on CUDA 1,8,32,64,128")
    parser.add_argument("--context", default="450,1000")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="for each cell and round")
    parser.add_argument("--cell-s", type=float, default=4.0, help="at most, for a cell and round")
    parser.add_argument("--bandwidth-gb-s", type=float, help="of the device's memory: the floor")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    cuda = given.device == "cuda"
    given.graph = given.graph or ("stock,tuned,tuned+graphs" if cuda else "stock,tuned,torch")
    given.batch = given.batch or ("1,8,32,64,128" if cuda else "1,2,4,8,16")
    given.batches = [int(b) for b in given.batch.split(",")]
    given.contexts = [int(c) for c in given.context.split(",")]
    settings = session_settings(TTSConfig(device=given.device, threads=given.threads))
    bench = Bench(given, settings)
    for number in range(given.rounds):
        bench.round()
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        print(f"round {number + 1} of {given.rounds} done; load {load:.1f}", file=sys.stderr)
    found = rows(bench)
    print(f"{settings.device}, {settings.threads} threads, median of {given.rounds} rounds")
    show(bench, found, given)
    if given.bandwidth_gb_s:
        floor(given, bench)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
