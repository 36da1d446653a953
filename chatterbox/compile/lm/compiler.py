"""Compiles a published language model: reads its weights, writes a new graph, proves that both give
equal results, and caches the graph (`runtime/compiled_cache.py`)."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.compile.graph import UnsupportedGraph
from chatterbox.compile.lm.equivalence import (
    EXACT_STEPS,
    MIN_TEXT_IDS,
    TABLE_ROWS,
    deviation,
    exact_session,
    host_embedder,
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
"""Largest deviation of any logit, in standard deviations of the stock logits, when both graphs
compute without int8 rounding; by the coarser float type of the two. Measured at full size: 1e-5 and
4e-3. The smallest mistake possible, the other form of GELU, causes 5e-4 in two layers."""
SERVED_TOLERANCE = {"float": 0.3, "int8": 0.5}
"""Largest deviation as served, by the type of the cache. Measured at full size: 0.06 from rounding
the inputs of products to int8, and 0.12 with an int8 cache as well."""
SPOKEN_MEAN_TOLERANCE, SPOKEN_WORST_TOLERANCE = 0.005, 0.2
"""Largest divergence, in nats, that an int8 cache may cause in a sentence: on average, and at a
single code. Measured at full size with random weights: 2e-4 both, against 0.04 from q4 weights. The
embedded model, whose attention is sharp, reaches 8 and 57 and keeps a float cache."""
DEFAULT_SENTENCE_IDS = 40  # length of a random sentence, if none is given


class _ProofFailed(Exception):
    """A proof failed. The message says how."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """A model's own embedding. `session` is `TokenIds` if the language model embeds ids itself."""

    session: Embedder
    tokens: int  # number of speech tokens, which start at 0
    stop: frozenset[int]  # tokens that end speech
    end_id: int = 0  # id that ends a text
    path: Path | None = None  # of the embedding graph, if there is one


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
    """Return the compiled form of the graph at `source`, from the cache in `data_dir` if possible.

    The proof runs on rows of `embedding` (random rows if None) and speaks `sentence`, text ids with
    end tokens (random ids if None). `angles` are the rotary angles, used if the graph stores none.
    Returns NotCompiled with the reason, instead of raising, if compiling fails.
    """
    options = options or default_options(settings.device, precision)
    try:
        progress(0.0, "reading")
        paths = [source, *([embedding.path] if embedding and embedding.path else [])]
        sources = [file for path in paths for file in graph_sources(path)]
        identity = language_model_identity(sources, precision, settings, options, VERSION)
        cache = CompiledCache(data_dir)
        entry = cache.find(identity)
        if entry is None:
            job = _Job(source, precision, settings, options, embedding, sentence, angles, progress)
            entry = cache.write(identity, source, job.fill)
            progress(1.0, "done")
        return language_model_of(entry)
    except UnsupportedGraph as reason:
        return NotCompiled(f"not recognised: {reason}")
    except OSError as fault:
        return NotCompiled(f"could not be written: {fault.strerror or fault}")
    except ModelError as fault:
        return NotCompiled(str(fault))
    except Exception as fault:  # noqa: BLE001 - onnxruntime raises its own kinds of exceptions
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
        """Write and prove the graph. A failed proof is cached without its graph."""
        model = match(PublishedGraph(self.source), self.angles)
        model = replace(model, head=model.head.outputs(self.options.head))
        tables, own = None, self.embedding
        if own is not None and own.path is not None:
            tables = host_embedder(own.path, own.session, model.vocab, own.end_id)
        try:
            exact, served = self._write(model, working)
        except _ProofFailed as reason:
            (working / GRAPH_FILE).unlink()
            (working / SIDECAR_FILE).unlink()
            return {"refused": str(reason)}, {}
        saved = tables and tables.save(working)
        facts = {"vocab": model.vocab, "cache": self.options.cache, "embedding": saved}
        return facts, {"exact": asdict(exact), "served": asdict(served)}

    def _write(self, model: Transformer, working: Path) -> tuple[Deviation, Deviation]:
        """Write the graph and return its deviations, computed exactly and as served.

        Raises _ProofFailed if a deviation exceeds its tolerance.
        """
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
        write(model, options, working, lambda done: self.progress(done / 2, "writing"), tokens)
        self.progress(0.5, "proving")
        trial = stock_trial(self.source, embed, self.settings.threads, options.head)
        exact_graph = exact_session(graph, self.settings.threads)
        exact = deviation(trial, exact_graph, steps=EXACT_STEPS)
        _require(exact, tolerance)
        if options.cache == "int8":
            self.progress(0.8, "comparing speech with an int8 cache")
            self._add_int8_cache(graph, own.session if own is not None else embed)
        self.progress(0.9, "proving as served")
        session = open_session(graph, self.settings)
        served = deviation(trial, session, memory=memory)
        _require(served, SERVED_TOLERANCE[options.cache], "as served ")
        if tokens is not None and own is not None:
            looked_up = tokens_deviation(session, own.session, memory)
            _require(looked_up, EXACT_TOLERANCE["fp16"], "by tokens ")
        return exact, served

    def _add_int8_cache(self, graph: Path, embed: Embedder) -> None:
        """Give the graph an int8 cache. Raises _ProofFailed if that changes the speech."""
        cpu, own = SessionSettings("cpu", self.settings.threads, {}), self.embedding
        finer = open_session(graph, cpu)
        use_int8_cache(graph, channel_ranges(finer, embed, own.tokens if own else TABLE_ROWS))
        ids = self.sentence
        if ids is None:
            ids = np.random.default_rng(0).integers(0, MIN_TEXT_IDS, DEFAULT_SENTENCE_IDS)
        stop = own.stop if own else frozenset[int]()
        mean, worst = divergence(finer, open_session(graph, cpu), embed, ids, stop)
        if not (mean <= SPOKEN_MEAN_TOLERANCE and worst <= SPOKEN_WORST_TOLERANCE):
            raise _ProofFailed(
                f"an int8 cache changes the speech by {mean:.2g} nats on average where "
                f"{SPOKEN_MEAN_TOLERANCE:g} is allowed, and by {worst:.2g} at worst where "
                f"{SPOKEN_WORST_TOLERANCE:g} is"
            )


def _require(measured: Deviation, allowed: float, context: str = "") -> None:
    """Raise _ProofFailed if a deviation exceeds its tolerance."""
    if not measured.worst <= allowed:
        raise _ProofFailed(
            f"{context}its logits differ from the stock graph's by {measured.worst:.2g} standard "
            f"deviations where {allowed:g} is allowed"
        )
