"""Measures a step of Orpheus' language model: published graph in a plain loop, published graph with
an in-place cache, and compiled graph; interleaved, at full width, scaled to all layers.

    python tools/bench_orpheus.py [--precision q4] [--layers 1,3] [--batches 1,4,8] [--context 700]

Weights are random: cost does not depend on them. A plain loop gives the whole cache in and out of
each call, and gets the logits of the whole vocabulary. What a layer costs and what the rest does
follow from two numbers of layers; the last columns are for all 28. Figures are medians over the
rounds; in each every cell is measured once. On a CPU they are the time that its cores spent, so
that other work there counts less: divide by the cores.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import onnxruntime as ort

import chatterbox.runtime  # noqa: F401 - silences telemetry before onnxruntime is imported
from chatterbox.compile.lm.compiler import Embedding, compile_lm
from chatterbox.config import TTSConfig
from chatterbox.families.orpheus.load import IDS
from chatterbox.families.orpheus.spec import AUDIO_IDS, COLUMNS, ORPHEUS
from chatterbox.hub.files import PRECISIONS
from chatterbox.runtime.compiled_lm import CompiledGraph, default_options, open_compiled
from chatterbox.runtime.kv_slots import PrefixedPrompt, SlottedLanguageModel
from chatterbox.runtime.masked_lm import open_in_place
from chatterbox.runtime.sessions import SessionSettings, open_session, session_settings
from tools.stock_forms.llama import LlamaSize, random_llama, write_llama

FULL = LlamaSize(positions=8192)
Step = Callable[[], object]


class Subject:
    """One number of layers: its files, and a step of each form at each batch."""

    def __init__(self, layers: int, given: argparse.Namespace, folder: Path) -> None:
        size = replace(FULL, layers=layers)
        self._given, self._layers = given, layers
        self._source = write_llama(random_llama(size), given.precision, folder)
        self._config = TTSConfig(
            device=given.device,
            threads=given.threads,
            data_dir=folder / "data",
            max_sequences=max(given.batches),
        )
        self._settings: SessionSettings = session_settings(self._config)

    def steps(self) -> Iterator[tuple[str, int, Step]]:
        """By form and batch."""
        config, settings = self._config, self._settings
        capacity = self._given.context + self._given.rounds * len(self._given.batches) + 8
        session = open_session(self._source, settings)
        for batch in self._given.batches:
            yield "plain loop", batch, self._plain(session, batch)
        in_place = open_in_place(session, IDS, COLUMNS, config, settings, capacity)
        yield from self._slotted("in place", in_place)
        options = replace(
            default_options(settings.device, self._given.precision), cache="float", head=COLUMNS
        )
        graph = compile_lm(
            self._source,
            self._given.precision,
            config.data_dir,
            settings,
            options=options,
            embedding=Embedding(IDS, AUDIO_IDS, ORPHEUS.tokens.stop),
        )
        assert isinstance(graph, CompiledGraph), graph
        model, _ = open_compiled(graph, IDS, config, settings, capacity)
        yield from self._slotted("compiled", model)

    def _plain(self, session: ort.InferenceSession, batch: int) -> Step:
        context = self._given.context
        pasts = [i for i in session.get_inputs() if i.name.startswith("past_key_values.")]
        kind = np.float16 if pasts[0].type == "tensor(float16)" else np.float32
        cache = np.full((batch, FULL.kv_heads, context, FULL.head_dim), 0.1, kind)
        feeds = {past.name: cache for past in pasts}
        feeds["input_ids"] = np.full((batch, 1), IDS.first)
        feeds["attention_mask"] = np.ones((batch, context + 1), np.int64)
        names = ["logits", *(past.name.replace("past_key_values", "present") for past in pasts)]
        return lambda: session.run(names, feeds)

    def _slotted(self, form: str, model: SlottedLanguageModel) -> Iterator[tuple[str, int, Step]]:
        ids = np.arange(self._given.context)
        for slot in range(model.slots):
            model.prefill(slot, PrefixedPrompt("", ids[:0], ids))
        for batch in self._given.batches:
            slots, tokens = list(range(batch)), np.zeros(batch, np.int64)
            yield form, batch, lambda slots=slots, tokens=tokens: model.decode(slots, tokens)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--precision", default="q4", choices=PRECISIONS)
    parser.add_argument("--layers", type=_numbers, default=[1, 3], help="two numbers")
    parser.add_argument("--batches", type=_numbers, default=[1, 4, 8])
    parser.add_argument("--context", type=int, default=700)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    took: dict[tuple[str, int, int], float] = {}
    for layers in given.layers:
        with tempfile.TemporaryDirectory() as folder:
            clock = time.process_time if given.device == "cpu" else time.perf_counter
            subject = Subject(layers, given, Path(folder))
            for cell, seconds in _measured(subject, given.rounds, clock):
                took[(*cell, layers)] = seconds
    few, many = given.layers
    print(f"{given.precision}, {given.device}, context {given.context}; milliseconds")
    print("| form | batch | a layer | the rest | 28 layers | 28 layers, a row |")
    print("|---|---|---|---|---|---|")
    for form, batch in dict.fromkeys(key[:2] for key in took):
        layer = (took[form, batch, many] - took[form, batch, few]) / (many - few)
        rest = took[form, batch, few] - few * layer
        whole = rest + FULL.layers * layer
        figures = f"{1000 * layer:.2f} | {1000 * rest:.1f} | {1000 * whole:.0f}"
        print(f"| {form} | {batch} | {figures} | {1000 * whole / batch:.0f} |")


def _measured(
    subject: Subject, rounds: int, clock: Callable[[], float]
) -> Iterator[tuple[tuple[str, int], float]]:
    steps = {(form, batch): step for form, batch, step in subject.steps()}
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for cell, step in steps.items():
            began_s = clock()
            step()
            found[cell].append(clock() - began_s)
    for cell, seconds in found.items():
        yield cell, statistics.median(seconds)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
