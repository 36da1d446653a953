"""Where does a tuned graph come from? From the cache, or read, written, proved and put there.

Knows files, hashes and tolerances; does not know how a graph is read, written or run.
"""

import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chatterbox.compile.lm.equivalence import (
    EXACT_STEPS,
    SURE_TEXT_IDS,
    Deviation,
    deviation,
    exact_session,
    random_embedder,
    sampled_embedder,
    stock_trial,
)
from chatterbox.compile.lm.int8_kv import channel_ranges, use_int8_cache
from chatterbox.compile.lm.kl_check import Divergence, divergence
from chatterbox.compile.lm.match_gpt2 import match_gpt2
from chatterbox.compile.lm.published import NotRecognizedError, PublishedGraph
from chatterbox.compile.lm.weights import GPT2
from chatterbox.compile.lm.write import GRAPH_FILE, SIDECAR_FILE, CompileOptions, write
from chatterbox.errors import ModelError, first_line
from chatterbox.hardening import open_plain, read_plain
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.contract import I64, Precision
from chatterbox.runtime.embedding import Embedder
from chatterbox.runtime.sessions import SessionSettings, open_session

log = logging.getLogger(__name__)

VERSION = 1
"""Raised whenever the same source would give another graph."""

HALF_PRECISIONS = ("fp16", "q4f16")  # stock graphs that round to fp16 after each operator
RECEIPT_FILE = "tuned.json"
TEMPORARY_PREFIX = ".writing-"
STALE_S = 3600.0  # a temporary directory this old was left by a process that died
HASH_DIGITS = 20

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


@dataclass(frozen=True, slots=True)
class TunedGraph:
    """A graph proven to compute what its source computes."""

    path: Path
    vocab: int
    cache: str  # "float" or "int8"
    exact: Deviation
    served: Deviation


@dataclass(frozen=True, slots=True)
class NotCompiled:
    """Why the stock graph is kept; one line for the operator."""

    reason: str


def recipe_for(device: str, precision: Precision) -> CompileOptions | None:
    """How a stock graph is usually tuned; None where it cannot be.

    A CPU has no fast fp16 arithmetic: there fp16 weights are widened, which is exact, and quantised
    models keep their cache in int8, whose error is below that of 8-bit weights. On a GPU attention
    in place has no fp32 kernel: what is quantised computes in fp16, and fp32 stays as it is.
    """
    if device == "cuda":
        return None if precision == "fp32" else CompileOptions(compute="fp16")
    return CompileOptions(cache="float" if precision in ("fp32", "fp16") else "int8")


def tune(
    source: Path,
    precision: Precision,
    cache_dir: Path,
    settings: SessionSettings,
    *,
    recipe: CompileOptions | None = None,
    embed: Embedder | None = None,
    sentence: I64 | None = None,
    progress: Progress = lambda _done, _stage: None,
) -> TunedGraph | NotCompiled:
    """The tuned form of the stock graph at `source`, from `cache_dir` if it was made before.

    `embed`: the model's own embedding, whose rows are what the proof is run on; none: noise.
    `sentence`: ids of a text to speak in it, end tokens included; none: made up.
    Never raises for what a file holds or a disk lacks: the reason comes back as `NotCompiled`.
    """
    chosen = recipe or recipe_for(settings.device, precision)
    if chosen is None:
        return NotCompiled("a GPU steps in place in fp16, not in fp32")
    try:
        return _Job(
            source, precision, cache_dir, settings, chosen, embed, sentence, progress
        ).result()
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
    cache_dir: Path
    settings: SessionSettings
    recipe: CompileOptions
    embed: Embedder | None
    sentence: I64 | None
    progress: Progress

    def result(self) -> TunedGraph | NotCompiled:
        self.progress(0.0, "reading")
        entry = self.cache_dir / f"{source_hash(self.source)}-{self.recipe.label}-v{VERSION}"
        if (cached := _cached(entry)) is not None:
            return cached
        if entry.exists():
            log.warning("the tuned graph in %s is damaged or was changed; making it again", entry)
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        _remove_stale(self.cache_dir)
        working = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=self.cache_dir))
        try:
            receipt = self._make(match_gpt2(PublishedGraph(self.source)), working)
            (working / RECEIPT_FILE).write_text(json.dumps(receipt, indent=1), encoding="utf-8")
            if _cached(entry) is None:  # else another process was faster
                _move(working, entry)
        finally:
            shutil.rmtree(working, ignore_errors=True)
        self._forget_older(entry)
        self.progress(1.0, "done")
        found = _cached(entry)
        return found or NotCompiled("what was written could not be read back")

    def _make(self, model: GPT2, working: Path) -> dict[str, Any]:
        """Write and prove; the receipt."""
        graph, threads = working / GRAPH_FILE, self.settings.threads
        embed = sampled_embedder(self.embed) if self.embed else random_embedder(model.hidden)
        kept = replace(self.recipe, bits=None)
        write(model, kept, working, lambda done: self.progress(0.5 * done, "writing"))
        self.progress(0.5, "proving")
        trial = stock_trial(self.source, embed, threads)
        exact = deviation(trial, exact_session(graph, threads), steps=EXACT_STEPS)
        facts = {"source": str(self.source), "recipe": asdict(self.recipe), "vocab": model.vocab}
        receipt: dict[str, Any] = facts
        half = self.recipe.compute == "fp16" or self.precision in HALF_PRECISIONS
        tolerance = EXACT_TOLERANCE["fp16" if half else "fp32"]
        if not exact.worst <= tolerance:
            return receipt | _refusal(working, _differs(exact, tolerance))
        if self.recipe.bits is not None:
            write(model, self.recipe, working, lambda d: self.progress(0.6 + 0.2 * d, "quantising"))
        if self.recipe.cache == "int8":
            self.progress(0.8, "comparing what is said with an int8 cache")
            spoken = self._int8_cache(graph, self.embed or embed)
            if not (spoken.mean <= SPOKEN_TOLERANCE and spoken.worst <= SPOKEN_WORST):
                return receipt | _refusal(working, _changes(spoken))
        self.progress(0.9, "proving as served")
        tolerance = LOSSY_TOLERANCE if self.recipe.bits else SERVED_TOLERANCE[self.recipe.cache]
        served = deviation(trial, open_session(graph, self.settings), memory=self._memory)
        if not served.worst <= tolerance:
            return receipt | _refusal(working, "as served " + _differs(served, tolerance))
        proof = {"exact": asdict(exact), "served": asdict(served)}
        return receipt | {"sha256": _hashes(working), "proof": proof}

    def _int8_cache(self, graph: Path, embed: Embedder) -> Divergence:
        """Give the graph an int8 cache; what that changes in what is said."""
        cpu = SessionSettings("cpu", self.settings.threads, {})
        finer = open_session(graph, cpu)
        use_int8_cache(graph, channel_ranges(finer, embed))
        ids = self.sentence
        if ids is None:
            ids = np.random.default_rng(0).integers(0, SURE_TEXT_IDS, UNKNOWN_TEXT_IDS)
        return divergence(finer, open_session(graph, cpu), embed, ids)

    @property
    def _memory(self) -> Memory:
        return Memory(self.settings.device, int(self.settings.cuda_options.get("device_id", 0)))

    def _forget_older(self, entry: Path) -> None:
        """Drop what was made of the same file and recipe before it changed: nothing grows."""
        own = _receipt(entry)
        for other in self.cache_dir.iterdir():
            same = _receipt(other)
            if other != entry and all(same.get(k) == own.get(k) for k in ("source", "recipe")):
                shutil.rmtree(other, ignore_errors=True)


def source_hash(source: Path) -> str:
    """Over the graph and all of its external data."""
    digest = hashlib.sha256(source.read_bytes())
    for name in PublishedGraph(source).locations:
        with (source.parent / name).open("rb") as data:
            digest.update(hashlib.file_digest(data, "sha256").digest())
    return digest.hexdigest()[:HASH_DIGITS]


def _hashes(entry: Path) -> dict[str, str]:
    """SHA-256 of each file that makes up a tuned graph. About a second for each GB."""
    found = {}
    for name in (GRAPH_FILE, SIDECAR_FILE):
        with open_plain(entry / name) as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _cached(entry: Path) -> TunedGraph | NotCompiled | None:
    """What was made before, once its files are seen to be what was proven; None: make it."""
    receipt = _receipt(entry)
    if "refused" in receipt:
        return NotCompiled(str(receipt["refused"]))
    try:
        if receipt["sha256"] == _hashes(entry):
            proof = {name: Deviation(**numbers) for name, numbers in receipt["proof"].items()}
            cache = receipt["recipe"]["cache"]
            return TunedGraph(entry / GRAPH_FILE, receipt["vocab"], cache, **proof)
    except (OSError, LookupError, TypeError, AttributeError):
        pass  # files or facts are missing
    return None


def _receipt(entry: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_plain(entry / RECEIPT_FILE))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _refusal(working: Path, why: str) -> dict[str, str]:
    """A refusal is remembered without its graph."""
    (working / GRAPH_FILE).unlink()
    (working / SIDECAR_FILE).unlink()
    return {"refused": why}


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


def _move(working: Path, entry: Path) -> None:
    """Into place at once; what is there was damaged."""
    shutil.rmtree(entry, ignore_errors=True)
    working.rename(entry)


def _remove_stale(cache_dir: Path) -> None:
    for left in cache_dir.glob(f"{TEMPORARY_PREFIX}*"):
        if time.time() - left.stat().st_mtime > STALE_S:
            shutil.rmtree(left, ignore_errors=True)
