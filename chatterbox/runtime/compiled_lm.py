"""A compiled language model: which form is asked for, what stands in its cache entry, and how it is
opened: in slots, captured as CUDA graphs where that is set."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from chatterbox.config import TTSConfig
from chatterbox.errors import first_line
from chatterbox.hub.files import Precision
from chatterbox.runtime.bound_call import takes_both
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_cache import Entry, Json, identity
from chatterbox.runtime.cuda_graphs import CAPTURE_OPTIONS, Buckets
from chatterbox.runtime.embedding import Embedder, HostEmbedder, TokensInGraph
from chatterbox.runtime.kv_slots import SlottedLanguageModel
from chatterbox.runtime.sessions import SessionSettings, captures, open_session

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

    @property
    def proof(self) -> str:
        """What was proven, for the operator."""
        return (
            f"compiled; its logits are at most {self.exact.worst:.2g} standard deviations from the "
            f"published graph's, {self.served.worst:.2g} as served; cache in {self.cache}"
        )


@dataclass(frozen=True, slots=True)
class NotCompiled:
    """Why the published graph is served; one line for the operator."""

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


MIB = 1024 * 1024
SPIN_US = 20
"""How long the step's threads wait for the next operator awake: long enough for the gaps within a
step (a fifth of its time, otherwise spent waking up), too short to keep a core from the decoder."""


def open_compiled(
    graph: CompiledGraph,
    embed: Embedder,
    config: TTSConfig,
    settings: SessionSettings,
    capacity: int,
) -> tuple[SlottedLanguageModel, str]:
    """The model, and what to tell the operator about it. `capacity`: positions of a slot."""

    def opened(buckets: Buckets | None) -> SlottedLanguageModel:
        options = CAPTURE_OPTIONS if buckets else None
        session = open_session(graph.path, settings, provider_options=options, spin_us=SPIN_US)
        return SlottedLanguageModel(
            session,
            TokensInGraph(embed) if takes_both(session) else embed,
            slots=config.max_sequences,
            capacity=capacity,
            prefix_cache_bytes=config.kv_prefix_cache_mb * MIB,
            memory=Memory(settings.device, settings.device_id),
            buckets=buckets,
        )

    if not captures(config, settings):
        model = opened(None)
        return model, f"compiled, proven equal; cache in {graph.cache}; {room(model)}"

    def captured() -> SlottedLanguageModel | str:
        try:
            model = opened(Buckets(config.max_sequences, capture=True))
            model.rehearse()
        except Exception as fault:  # noqa: BLE001 - onnxruntime raises its own kinds
            return first_line(fault)
        return model

    found = captured()  # whose slots are gone where it failed: there may be no room for others
    if isinstance(found, SlottedLanguageModel):
        model, how = found, "steps captured as CUDA graphs"
    else:
        model, how = opened(None), f"no CUDA graphs: {found}"
    return model, f"compiled, proven equal; {how}; {room(model)}"


def room(model: SlottedLanguageModel) -> str:
    """What its slots take, for the operator."""
    gib = model.arena_bytes / 1024**3
    return f"{model.slots} slots of {model.capacity} positions take {gib:.2f} GiB"
