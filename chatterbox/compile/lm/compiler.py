"""Compile a published language model: read its weights, write them into a graph of our own, prove
that it computes the same, and keep it (`runtime/compiled_cache.py`)."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from chatterbox.arrays import F32, I64
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
from chatterbox.compile.lm.int8_kv import channel_ranges, use_int8_cache
from chatterbox.compile.lm.kl_check import Divergence, divergence
from chatterbox.compile.lm.match import match
from chatterbox.compile.lm.published import NotRecognizedError, PublishedGraph
from chatterbox.compile.lm.weights import Rotary, Transformer
from chatterbox.compile.lm.write import SIDECAR_FILE, write
from chatterbox.errors import ModelError, first_line
from chatterbox.hub.files import Precision, graph_sources
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_cache import CompiledCache, Contents
from chatterbox.runtime.compiled_lm import (
    GRAPH_FILE,
    LM_COMPILER,
    CompiledGraph,
    CompileOptions,
    Deviation,
    NotCompiled,
    language_model_identity,
    language_model_of,
    usual_options,
)
from chatterbox.runtime.embedding import Embedder, HostEmbedder
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

Progress = Callable[[float, str], None]
"""Told how much of the work is done, 0 to 1, and what is done now."""


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

    def tables(self, vocab: int) -> HostEmbedder | None:
        """Its tables, where it is no more than these."""
        if self.path is None:
            return None
        return host_embedder(self.path, self.session, vocab, self.end_id)

    def token_rows(self, vocab: int) -> F32:
        """The row of each token."""
        rows: F32 = self.session.codes(np.arange(vocab))
        return rows


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
    chosen = options or usual_options(settings.device, precision)
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
    except NotRecognizedError as reason:
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

    def fill(self, working: Path) -> Contents:
        """Write and prove; a refusal is remembered without its graph."""
        model = match(PublishedGraph(self.source), self.angles)
        model = replace(model, head=model.head.outputs(self.options.head))
        tables = self.embedding.tables(model.vocab) if self.embedding else None
        try:
            proofs = self._write(model, working)
        except _Refused as why:
            (working / GRAPH_FILE).unlink()
            (working / SIDECAR_FILE).unlink()
            return Contents({"refused": str(why)}, {})
        facts = {
            "vocab": model.vocab,
            "cache": self.options.cache,
            "embedding": tables and tables.save(working),
        }
        return Contents(facts, {name: asdict(found) for name, found in proofs.items()})

    def _write(self, model: Transformer, working: Path) -> dict[str, Deviation]:
        """Write and prove; the figures. Raises _Refused where a proof fails."""
        graph, threads = working / GRAPH_FILE, self.settings.threads
        session = self.embedding.session if self.embedding else None
        embed: Embedder
        if model.table is not None and session is not None:
            embed = session
        else:
            embed = (
                sampled_embedder(session, self._tokens)
                if session
                else random_embedder(model.hidden)
            )
        kept = replace(self.options, bits=None)
        looks_up = self.options.tokens_in and model.table is None and self.embedding is not None
        tokens = self.embedding.token_rows(model.vocab) if looks_up and self.embedding else None
        write(model, kept, working, lambda done: self.progress(0.5 * done, "writing"), tokens)
        self.progress(0.5, "proving")
        trial = stock_trial(self.source, embed, threads, self.options.head)
        exact = deviation(trial, exact_session(graph, threads), steps=EXACT_STEPS)
        half = self.options.compute == "fp16" or self.precision in HALF_PRECISIONS
        tolerance = EXACT_TOLERANCE["fp16" if half else "fp32"]
        if not exact.worst <= tolerance:
            raise _Refused(_differs(exact, tolerance))
        if self.options.bits is not None:
            write(model, self.options, working, self._quantised, tokens)
        if self.options.cache == "int8":
            self.progress(0.8, "comparing what is said with an int8 cache")
            spoken = self._int8_cache(graph, session or embed)
            if not (spoken.mean <= SPOKEN_TOLERANCE and spoken.worst <= SPOKEN_WORST):
                raise _Refused(_changes(spoken))
        self.progress(0.9, "proving as served")
        tolerance = LOSSY_TOLERANCE if self.options.bits else SERVED_TOLERANCE[self.options.cache]
        session = open_session(graph, self.settings)
        served = deviation(trial, session, memory=self._memory)
        if not served.worst <= tolerance:
            raise _Refused("as served " + _differs(served, tolerance))
        if tokens is not None and self.embedding is not None:
            looked_up = tokens_deviation(session, self.embedding.session, self._memory)
            if not looked_up.worst <= EXACT_TOLERANCE["fp16"]:
                raise _Refused("by tokens " + _differs(looked_up, EXACT_TOLERANCE["fp16"]))
        return {"exact": exact, "served": served}

    def _quantised(self, done: float) -> None:
        self.progress(0.6 + 0.2 * done, "quantising")

    def _int8_cache(self, graph: Path, embed: Embedder) -> Divergence:
        """Give the graph an int8 cache; what that changes in what is said."""
        cpu = SessionSettings("cpu", self.settings.threads, {})
        finer = open_session(graph, cpu)
        use_int8_cache(graph, channel_ranges(finer, embed, self._tokens))
        ids = self.sentence
        if ids is None:
            ids = np.random.default_rng(0).integers(0, SURE_TEXT_IDS, UNKNOWN_TEXT_IDS)
        stop = self.embedding.stop if self.embedding else frozenset[int]()
        return divergence(finer, open_session(graph, cpu), embed, ids, stop)

    @property
    def _tokens(self) -> int:
        return self.embedding.tokens if self.embedding else TABLE_ROWS

    @property
    def _memory(self) -> Memory:
        return Memory(self.settings.device, self.settings.device_id)


def _differs(found: Deviation, allowed: float) -> str:
    return (
        f"its logits differ from the stock graph's by {found.worst:.2g} standard deviations "
        f"where {allowed:g} is allowed"
    )


def _changes(found: Divergence) -> str:
    return (
        f"an int8 cache changes what is said: by {found.mean:.2g} nats on average where "
        f"{SPOKEN_TOLERANCE:g} is allowed, {found.worst:.2g} at worst where {SPOKEN_WORST:g} is"
    )
