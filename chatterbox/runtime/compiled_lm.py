"""Compiled language models: options of the compiler, facts in the compiled cache, opening."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from chatterbox.config import TTSConfig
from chatterbox.errors import first_line
from chatterbox.hub.files import Precision
from chatterbox.runtime.bound_call import GraphShape
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_cache import Entry, Json, identity
from chatterbox.runtime.cuda_graphs import CAPTURE_OPTIONS, Buckets
from chatterbox.runtime.embedding import Embedder, HostEmbedder, TokensInGraph
from chatterbox.runtime.kv_slots import SlottedLanguageModel
from chatterbox.runtime.sessions import SessionSettings, captures, open_session

GRAPH_FILE = "language_model.onnx"
LM_COMPILER = 3
"""Version of the language model compiler, raised when the same source gives another graph or
other facts."""
ACCURACY_INT8 = 4
"""Accuracy level at which MatMulNBits rounds its input to int8 in blocks, for a CPU's fast
kernels."""

Compute = Literal["fp32", "fp16"]


@dataclass(frozen=True, slots=True)
class CompileOptions:
    compute: Compute = "fp32"  # type of activations
    cache: Literal["float", "int8"] = "float"  # keys and values; float: the type of activations
    head: tuple[tuple[int, int], ...] = ()  # ranges [begin, end) of logits to keep; empty: all
    head_multiple: int = 1  # pad the logits to a multiple of this many columns
    tokens_in: bool = False  # the graph looks up tokens, and also takes embeddings


def default_options(device: str, precision: Precision) -> CompileOptions:
    """Return the options for a device and the precision of the published graph.

    A CPU has no fast fp16 arithmetic: fp16 weights are widened, which is exact, and quantised
    models get an int8 cache, whose error is below that of 8-bit weights. A GPU has no fp32 kernel
    for attention in place, so all models compute in fp16. The graph looks tokens up, so that only
    ids are copied, and pads the logits, since products are faster if fp16 rows begin at multiples
    of 16 bytes.
    """
    if device == "cuda":
        return CompileOptions(compute="fp16", head_multiple=8, tokens_in=True)
    return CompileOptions(cache="float" if precision in ("fp32", "fp16") else "int8")


@dataclass(frozen=True, slots=True)
class Deviation:
    """Difference of the compiled graph's logits from the published graph's, in standard deviations
    of the latter."""

    worst: float
    mean: float
    argmax_share: float  # share of rows with the same most likely code


@dataclass(frozen=True, slots=True)
class CompiledGraph:
    """A graph that was proven to compute the same as its source."""

    path: Path
    vocab: int
    cache: str  # "float" or "int8"
    exact: Deviation
    served: Deviation
    embedder: HostEmbedder | None = field(default=None, compare=False)

    @property
    def proof(self) -> str:
        """The proof's result, for the operator."""
        return (
            f"compiled; its logits are at most {self.exact.worst:.2g} standard deviations from the "
            f"published graph's, {self.served.worst:.2g} as served; cache in {self.cache}"
        )


@dataclass(frozen=True, slots=True)
class NotCompiled:
    """Why the published graph is served instead, in one line for the operator."""

    reason: str

    @property
    def proof(self) -> str:
        return f"served as published: {self.reason}"


def language_model_identity(
    sources: Sequence[Path],
    precision: Precision,
    settings: SessionSettings,
    options: CompileOptions,
    version: int = LM_COMPILER,
) -> Json:
    """Return the identity of a compiled language model in the cache. `sources`: all files of its
    graph and of its embedding graph."""
    choices = {"device": settings.device, "precision": precision, "options": asdict(options)}
    return identity("language_model", sources, choices, version)


def language_model_of(entry: Entry) -> CompiledGraph | NotCompiled:
    """Read a compiled language model from its cache entry."""
    facts = entry.facts
    if "refused" in facts:
        return NotCompiled(facts["refused"])
    proofs = {name: Deviation(**numbers) for name, numbers in entry.proofs.items()}
    tables = facts["embedding"]
    embedder = None if tables is None else HostEmbedder.load(entry.folder, tables)
    path = entry.folder / GRAPH_FILE
    return CompiledGraph(path, facts["vocab"], facts["cache"], **proofs, embedder=embedder)


MIB = 1024 * 1024
SPIN_US = 20
"""How long threads stay awake for a step's next operator: long enough for the gaps within a step
(without spinning, a step takes a fifth longer), too short to keep a core from the decoder."""


def open_compiled(
    graph: CompiledGraph,
    embed: Embedder,
    config: TTSConfig,
    settings: SessionSettings,
    capacity: int,
) -> tuple[SlottedLanguageModel, str]:
    """Open a compiled graph with `capacity` positions in each slot.

    Steps are captured as CUDA graphs if the settings and the device allow it. Returns the model and
    a note for the operator.
    """

    def open_model(buckets: Buckets | None) -> SlottedLanguageModel:
        options = CAPTURE_OPTIONS if buckets else None
        session = open_session(graph.path, settings, provider_options=options, spin_us=SPIN_US)
        shape = GraphShape.of(session)
        return SlottedLanguageModel(
            session,
            TokensInGraph(embed) if shape.adds_ids_and_embeds else embed,
            slots=config.max_sequences,
            capacity=capacity,
            prefix_cache_bytes=config.kv_prefix_cache_mb * MIB,
            memory=Memory(settings.device, settings.device_id),
            buckets=buckets,
            shape=shape,
        )

    def open_captured() -> tuple[SlottedLanguageModel | None, str]:
        try:
            model = open_model(Buckets(config.max_sequences, capture=True))
            model.capture_steps()
        except Exception as fault:  # noqa: BLE001 - onnxruntime raises its own kinds
            return None, f"no CUDA graphs: {first_line(fault)}"
        return model, "steps captured as CUDA graphs"

    model, how = None, f"cache in {graph.cache}"
    if captures(config, settings):
        model, how = open_captured()  # a model that failed frees its slots when this returns
    model = model or open_model(None)
    return model, f"compiled, proven equal; {how}; {slots_note(model)}"


def slots_note(model: SlottedLanguageModel) -> str:
    """Return the number and size of a model's slots, for the operator."""
    gib = model.arena_bytes / 1024**3
    return f"{model.slots} slots of {model.capacity} positions take {gib:.2f} GiB"
