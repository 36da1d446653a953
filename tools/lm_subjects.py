"""Prepares the graphs that `bench_lm.py` measures: a step at each batch size and context.

Only prefills are timed here.
"""

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chatterbox.compile.lm.compiler import NotCompiled, compile_lm, default_options
from chatterbox.compile.lm.equivalence import random_embedder, sampled_voice
from chatterbox.hub.files import PRECISION_SUFFIX
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_lm import SPIN_US
from chatterbox.runtime.cuda_graphs import Buckets
from chatterbox.runtime.kv_slots import SlottedLanguageModel
from chatterbox.runtime.sessions import SessionSettings, open_session

MARGIN = 64  # positions beyond the context, for the steps themselves
PREFIX_ROWS = 376
TEXT_IDS = 40
PREFILLS = (
    f"{PREFIX_ROWS} rows of a voice and {TEXT_IDS} text ids",
    f"{TEXT_IDS} text ids behind the cached rows",
)
Step = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured."""

    graph: str  # stock, compiled, torch; compiled+graphs: steps captured as CUDA graphs
    precision: str
    batch: int
    context: int


class Subjects:
    """Builds steps, one session at a time."""

    def __init__(self, given: argparse.Namespace, settings: SessionSettings) -> None:
        self._given = given
        self._settings = settings
        self._prefill_s: dict[tuple[str, str], list[float]] = defaultdict(list)

    def cells(self, graph: str, precision: str) -> Iterator[tuple[Cell, Step]]:
        """Everything that is measured of one graph; each step is only good until the next."""
        if graph == "stock" and ":" not in precision:
            yield from self._stock(precision)
        elif graph.startswith("compiled"):
            yield from self._compiled(precision, graph)
        elif graph == "torch" and precision == "fp32" and self._given.authors:
            yield from self._torch()

    def prefills(self) -> list[str]:
        """A line for each kind of prefill."""
        return [
            f"{graph}: {what}: {statistics.median(seconds):.3f} s"
            for (graph, what), seconds in self._prefill_s.items()
        ]

    def _path(self, precision: str) -> Path:
        suffix = PRECISION_SUFFIX[precision]  # type: ignore[index]
        return self._given.directory / f"language_model{suffix}.onnx"

    def _stock(self, precision: str) -> Iterator[tuple[Cell, Step]]:
        session = open_session(self._path(precision), self._settings, spin_us=SPIN_US)
        pasts = [i for i in session.get_inputs() if i.name.startswith("past_key_values.")]
        kind = np.float16 if pasts[0].type == "tensor(float16)" else np.float32
        _, heads, _, head_dim = pasts[0].shape
        hidden = session.get_inputs()[0].shape[2]
        names = ["logits", *(i.name.replace("past_key_values", "present") for i in pasts)]
        for context in self._given.contexts:
            for batch in self._given.batches:
                cache = (batch, heads, context, head_dim)
                feeds = {i.name: np.full(cache, 0.1, kind) for i in pasts}
                feeds["inputs_embeds"] = np.ones((batch, 1, hidden), np.float32)
                feeds["position_ids"] = np.full((batch, 1), context)
                feeds["attention_mask"] = np.ones((batch, context + 1), np.int64)
                yield (
                    Cell("stock", precision, batch, context),
                    lambda feeds=feeds: session.run(names, feeds),
                )

    def _compiled(self, precision: str, graph: str) -> Iterator[tuple[Cell, Step]]:
        captured = graph == "compiled+graphs"
        options = {"enable_cuda_graph": "1"} if captured else None
        path = self.compiled_path(precision)
        session = open_session(path, self._settings, provider_options=options, spin_us=SPIN_US)
        memory = Memory(self._settings.device, self._settings.device_id)
        slots = max(self._given.batches)
        buckets = Buckets(slots, capture=True) if captured else None
        hidden = int(session.get_inputs()[0].shape[2])
        model = SlottedLanguageModel(
            session,
            random_embedder(hidden),
            slots=slots,
            capacity=max(self._given.contexts) + MARGIN,
            prefix_cache_bytes=1 << 30,
            memory=memory,
            buckets=buckets,
        )
        self._prefill(model, hidden, f"{graph} {precision}")
        for context in self._given.contexts:
            self._fill(model, context)
            for batch in self._given.batches:
                codes = np.arange(batch)

                def step(batch: int = batch, context: int = context, codes: Any = codes) -> None:
                    model._lengths[:batch] = context  # every step at this very context
                    model.decode(range(batch), codes)

                yield Cell(graph, precision, batch, context), step

    def compiled_path(self, precision: str) -> Path:
        """Compile the stock graph in `precision` and return the path of the result."""
        recipe = default_options(self._settings.device, precision)  # type: ignore[arg-type]
        if self._given.kv_dtype:
            recipe = replace(recipe, cache=self._given.kv_dtype)
        found = compile_lm(
            self._path(precision),
            precision,  # type: ignore[arg-type]
            self._given.cache or self._given.directory / "compiled",
            self._settings,
            options=recipe,
        )
        if isinstance(found, NotCompiled):
            sys.exit(f"{precision}: {found.reason}")
        return found.path

    def _fill(self, model: SlottedLanguageModel, context: int) -> None:
        """All slots at `context`, their memory really taken."""
        model._lengths[:] = context
        if self._settings.device == "cpu":
            for buffer in model._arena:
                buffer.get()[:, :, : context + 1] = 0.1

    def _prefill(self, model: SlottedLanguageModel, hidden: int, name: str) -> None:
        """A voice's rows, then text behind the cached prefix."""
        cold, cached = ((name, what) for what in PREFILLS)
        voice = sampled_voice(PREFIX_ROWS, random_embedder(hidden), len(self._prefill_s[cold]))
        text = np.arange(TEXT_IDS)
        for key in (cold, cached):
            start = time.perf_counter()
            model.prefill(0, voice.with_text(text))
            self._prefill_s[key].append(time.perf_counter() - start)

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
