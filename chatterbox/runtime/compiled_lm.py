"""A compiled language model: which form is asked for, and what stands in its cache entry."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from chatterbox.hub.files import Precision
from chatterbox.runtime.compiled_cache import Entry, Json, identity
from chatterbox.runtime.embedding import HostEmbedder
from chatterbox.runtime.sessions import SessionSettings

GRAPH_FILE = "language_model.onnx"
LM_COMPILER = 3
"""Version of what compiles language models: raised whenever the same source would give another
graph or other facts."""
ACCURACY_INT8 = 4
"""MatMulNBits rounds its input to int8 by blocks: the fast kernels of a CPU."""

Compute = Literal["fp32", "fp16"]


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What of the graph is a choice."""

    compute: Compute = "fp32"  # activations
    accuracy_level: int = ACCURACY_INT8
    bits: int | None = None  # quantise dense weights to 4 or 8 bits; None: take all as they are
    block: int = 128
    cache: Literal["float", "int8"] = "float"  # keys and values; float: as they are computed
    head: tuple[tuple[int, int], ...] = ()  # logits that are kept, from and up to; none: all
    head_multiple: int = 1  # the head's columns are padded to one
    tokens_in: bool = False  # look up tokens in the graph, besides taking embeddings


def usual_options(device: str, precision: Precision) -> CompileOptions:
    """How a published graph is usually compiled.

    A CPU has no fast fp16 arithmetic: there fp16 weights are widened, which is exact, and quantised
    models keep their cache in int8, whose error is below that of 8-bit weights. On a GPU attention
    in place has no fp32 kernel, so all compute in fp16; tokens are looked up there, which leaves
    their ids to be copied; and products are quicker where rows of fp16 begin at multiples of 16
    bytes.
    """
    if device == "cuda":
        return CompileOptions(compute="fp16", head_multiple=8, tokens_in=True)
    return CompileOptions(cache="float" if precision in ("fp32", "fp16") else "int8")


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far the compiled graph's logits are from the published one's, in standard deviations of
    these."""

    worst: float
    mean: float
    argmax_share: float  # rows whose most likely code is the same


@dataclass(frozen=True, slots=True)
class CompiledGraph:
    """A graph proven to compute what its source computes."""

    path: Path
    vocab: int
    cache: str  # "float" or "int8"
    exact: Deviation
    served: Deviation
    embedder: HostEmbedder | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class NotCompiled:
    """Why the published graph is served; one line for the operator."""

    reason: str


def language_model_identity(
    sources: Sequence[Path],
    precision: Precision,
    settings: SessionSettings,
    options: CompileOptions,
    version: int = LM_COMPILER,
) -> Json:
    """By what a compiled language model is found again. `sources`: its files, and those of the
    embedding."""
    matters = {"device": settings.device, "precision": precision, "options": asdict(options)}
    return identity("language_model", sources, matters, version)


def language_model_of(entry: Entry) -> CompiledGraph | NotCompiled:
    """What an entry holds."""
    facts = entry.facts
    if "refused" in facts:
        return NotCompiled(facts["refused"])
    proofs = {name: Deviation(**numbers) for name, numbers in entry.proofs.items()}
    tables = facts["embedding"]
    embedder = None if tables is None else HostEmbedder.load(entry.folder, tables)
    path = entry.folder / GRAPH_FILE
    return CompiledGraph(path, facts["vocab"], facts["cache"], **proofs, embedder=embedder)
