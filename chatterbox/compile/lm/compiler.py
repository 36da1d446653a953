"""Compile a published language model: read its weights, write them into a graph of our own, prove
that it computes the same, and keep it (`runtime/compiled_cache.py`)."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.compile.graph import UnsupportedGraph
from chatterbox.compile.lm.embedding_tables import host_embedder
from chatterbox.compile.lm.equivalence import (
    EXACT_STEPS,
    SURE_TEXT_IDS,
    TABLE_ROWS,
    deviation,
    exact_session,
    random_embedder,
    sampled_embedder,
    stock_trial,
    tokens_deviation,
)
from chatterbox.compile.lm.int8_cache import channel_ranges, divergence, use_int8_cache
from chatterbox.compile.lm.match import match
from chatterbox.compile.lm.published import PublishedGraph
from chatterbox.compile.lm.weights import Rotary, Transformer
from chatterbox.compile.lm.write import SIDECAR_FILE, write
from chatterbox.compile.progress import Progress
from chatterbox.errors import ModelError, first_line
from chatterbox.hub.files import Precision, graph_sources
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_cache import CompiledCache, Json
from chatterbox.runtime.compiled_lm import (
    GRAPH_FILE,
    LM_COMPILER,
    CompiledGraph,
    CompileOptions,
    Deviation,
    NotCompiled,
    default_options,
    language_model_identity,
    language_model_of,
)
from chatterbox.runtime.embedding import Embedder
from chatterbox.runtime.sessions import SessionSettings, open_session

VERSION = LM_COMPILER
HALF_PRECISIONS = ("fp16", "q4f16")  # stock graphs that round to fp16 after each operator

EXACT_TOLERANCE = {"fp32": 3e-4, "fp16": 2e-2}
"""Worst deviation of any logit, in standard deviations of the stock graph's, when both compute as
exactly as they can, by the coarser type that either computes in. Measured at full size: 1e-5, and
4e-3. The least mistake there is, GELU's other form, makes 5e-4 in two layers."""
SERVED_TOLERANCE = {"float": 0.3, "int8": 0.5}
"""The same as it is served, by the cache's type: products take their input rounded to int8, which
at full size makes 0.06; a cache in int8 besides makes 0.12."""
SPOKEN_TOLERANCE, SPOKEN_WORST = 0.005, 0.2
"""Divergence, in nats, that an int8 cache may cause while a sentence is spoken: on average, and at
one code. Full size, random weights: 2e-4 both, against 0.04 that q4 weights cause. The embedded
model, whose attention is sharp, has 8 and 57, and keeps a float cache."""
UNKNOWN_TEXT_IDS = 40  # of a made-up sentence, where none was given
LOSSY_TOLERANCE = 5.0
"""Where weights were quantised here, only a broken graph is refused."""


class _Refused(Exception):
    """A proof failed; the message says how."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """The model's own embedding; `TokenIds` where the graph holds it."""

    session: Embedder
    tokens: int  # that speech is made of, counted from 0
    stop: frozenset[int]  # that end it
    end_id: int = 0  # of text
    path: Path | None = None  # of its graph, where it has one


def compile_lm(
    source: Path,
    precision: Precision,
    data_dir: Path,
    settings: SessionSettings,
    *,
    options: CompileOptions | None = None,
    embedding: Embedding | None = None,
    sentence: I64 | None = None,
    angles: Rotary | None = None,
    progress: Progress = lambda _done, _stage: None,
) -> CompiledGraph | NotCompiled:
    """The compiled form of the published graph at `source`, from the cache in `data_dir` if it was
    made before.

    `embedding`: the model's own, whose rows are what the proof is run on; none: noise.
    `sentence`: ids of a text to speak in it, end tokens included; none: made up.
    `angles`: of a rotary model, where its graph computes them.
    Never raises for what a file holds or a disk lacks: the reason comes back as `NotCompiled`.
    """
    chosen = options or default_options(settings.device, precision)
    try:
        progress(0.0, "reading")
        paths = [source, *([embedding.path] if embedding and embedding.path else [])]
        sources = [file for path in paths for file in graph_sources(path)]
        known_by = language_model_identity(sources, precision, settings, chosen, VERSION)
        cache = CompiledCache(data_dir)
        entry = cache.find(known_by)
        if entry is None:
            job = _Job(source, precision, settings, chosen, embedding, sentence, angles, progress)
            entry = cache.write(known_by, source, job.fill)
            progress(1.0, "done")
        return language_model_of(entry)
    except UnsupportedGraph as reason:
        return NotCompiled(f"not recognised: {reason}")
    except OSError as fault:
        return NotCompiled(f"could not be written: {fault.strerror or fault}")
    except ModelError as fault:
        return NotCompiled(str(fault))
    except Exception as fault:  # noqa: BLE001 - onnxruntime raises its own kinds; none may end the start
        return NotCompiled(f"the proof broke off: {first_line(fault)}")


@dataclass(frozen=True, slots=True)
class _Job:
    source: Path
    precision: Precision
    settings: SessionSettings
    options: CompileOptions
    embedding: Embedding | None
    sentence: I64 | None
    angles: Rotary | None
    progress: Progress

    def fill(self, working: Path) -> tuple[Json, Json]:
        """Write and prove; a refusal is remembered without its graph."""
        model = match(PublishedGraph(self.source), self.angles)
        model = replace(model, head=model.head.outputs(self.options.head))
        tables, own = None, self.embedding
        if own is not None and own.path is not None:
            tables = host_embedder(own.path, own.session, model.vocab, own.end_id)
        try:
            exact, served = self._write(model, working)
        except _Refused as why:
            (working / GRAPH_FILE).unlink()
            (working / SIDECAR_FILE).unlink()
            return {"refused": str(why)}, {}
        kept = tables and tables.save(working)
        facts = {"vocab": model.vocab, "cache": self.options.cache, "embedding": kept}
        return facts, {"exact": asdict(exact), "served": asdict(served)}

    def _write(self, model: Transformer, working: Path) -> tuple[Deviation, Deviation]:
        """Write and prove; how far it is off, exactly and as served. Raises _Refused."""
        graph, options, own = working / GRAPH_FILE, self.options, self.embedding
        half = options.compute == "fp16" or self.precision in HALF_PRECISIONS
        tolerance = EXACT_TOLERANCE["fp16" if half else "fp32"]
        memory = Memory(self.settings.device, self.settings.device_id)
        embed: Embedder = random_embedder(model.hidden)
        if own is not None and model.table is not None:
            embed = own.session
        elif own is not None:
            embed = sampled_embedder(own.session, own.tokens)
        tokens: F32 | None = None
        if options.tokens_in and model.table is None and own is not None:
            tokens = own.session.codes(np.arange(model.vocab))
        write(model, replace(options, bits=None), working, self._part(0.0, 0.5, "writing"), tokens)
        self.progress(0.5, "proving")
        trial = stock_trial(self.source, embed, self.settings.threads, options.head)
        exact_graph = exact_session(graph, self.settings.threads)
        exact = deviation(trial, exact_graph, steps=EXACT_STEPS)
        _require(exact, tolerance)
        if options.bits is not None:
            write(model, options, working, self._part(0.6, 0.2, "quantising"), tokens)
            tolerance = LOSSY_TOLERANCE
        else:
            tolerance = SERVED_TOLERANCE[options.cache]
        if options.cache == "int8":
            self.progress(0.8, "comparing what is said with an int8 cache")
            self._int8_cache(graph, own.session if own is not None else embed)
        self.progress(0.9, "proving as served")
        session = open_session(graph, self.settings)
        served = deviation(trial, session, memory=memory)
        _require(served, tolerance, "as served ")
        if tokens is not None and own is not None:
            looked_up = tokens_deviation(session, own.session, memory)
            _require(looked_up, EXACT_TOLERANCE["fp16"], "by tokens ")
        return exact, served

    def _part(self, begin: float, share: float, stage: str) -> Callable[[float], None]:
        """How far a part of the work is."""
        return lambda done: self.progress(begin + share * done, stage)

    def _int8_cache(self, graph: Path, embed: Embedder) -> None:
        """Give the graph an int8 cache. Raises _Refused where that changes what is said."""
        cpu, own = SessionSettings("cpu", self.settings.threads, {}), self.embedding
        finer = open_session(graph, cpu)
        use_int8_cache(graph, channel_ranges(finer, embed, own.tokens if own else TABLE_ROWS))
        ids = self.sentence
        if ids is None:
            ids = np.random.default_rng(0).integers(0, SURE_TEXT_IDS, UNKNOWN_TEXT_IDS)
        stop = own.stop if own else frozenset[int]()
        mean, worst = divergence(finer, open_session(graph, cpu), embed, ids, stop)
        if not (mean <= SPOKEN_TOLERANCE and worst <= SPOKEN_WORST):
            raise _Refused(
                f"an int8 cache changes what is said: by {mean:.2g} nats on average where "
                f"{SPOKEN_TOLERANCE:g} is allowed, {worst:.2g} at worst where {SPOKEN_WORST:g} is"
            )


def _require(found: Deviation, allowed: float, how: str = "") -> None:
    if not found.worst <= allowed:
        raise _Refused(
            f"{how}its logits differ from the stock graph's by {found.worst:.2g} standard "
            f"deviations where {allowed:g} is allowed"
        )
