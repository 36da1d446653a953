"""How does a selected model become something the engine can drive?

Knows which wrapper belongs to which graph; knows no request.
"""

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import onnxruntime as ort
from pydantic import TypeAdapter, ValidationError

from chatterbox.config import SAMPLING, TTSConfig
from chatterbox.errors import ConfigError, ModelError, first_line
from chatterbox.families.base import Family, Prompts, StreamingDecoder
from chatterbox.families.turbo.language_model import (
    PROOF_SENTENCE,
    LanguageModelParts,
    compiled_graph,
    open_language_model,
)
from chatterbox.families.turbo.prompt import TurboPrompts
from chatterbox.families.turbo.spec import TURBO
from chatterbox.families.turbo.tokenizer import Tokenizer
from chatterbox.hub.download import Progress
from chatterbox.hub.files import ModelFiles, graph_sources
from chatterbox.hub.select import select
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_cache import CompiledCache, identity
from chatterbox.runtime.compiled_lm import NotCompiled
from chatterbox.runtime.contract import (
    CODE_RATE_HZ,
    LOUDEST_SPEECH_RMS,
    GraphName,
    LanguageModel,
    Precision,
    SpeechEncoder,
)
from chatterbox.runtime.cuda_graphs import CAPTURE_OPTIONS
from chatterbox.runtime.decoder.captured import CapturedSession
from chatterbox.runtime.decoder.compiled import (
    DECODER_COMPILER,
    Compiled,
    CompiledDecoder,
    Graph,
    Opened,
    find_or_compile,
    open_compiled,
)
from chatterbox.runtime.decoder.split_decoder import StreamSettings
from chatterbox.runtime.sessions import SessionSettings, captures, open_session, session_settings
from chatterbox.runtime.wrappers import EncoderGraph

log = logging.getLogger(__name__)

T = TypeVar("T")

DECODER_SPIN_US = 100
"""How long the decoder's threads stay awake for the next of its thousands of small operators: a
tenth faster windows (docs/decoder.md), and nobody computes beside it (engine/cpu_lock.py)."""
OTHER_CUDA_OPTIONS = frozenset({"device_id", "gpu_mem_limit", "arena_extend_strategy"})
"""Those that change nothing of what a graph computes."""
GPU_DECODER_ROWS = 16
"""Windows in one call of the decoder on a GPU; not measured yet (docs/benchmarks.md)."""
GPU_WINDOWS = (5, 10, 20, 40, 75)
"""Fresh codes that windows come in on a GPU, so that they meet in calls: 0.2 s, less than which is
gone before anything can follow it, to 3 s, each about twice the one before; not measured yet."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What was loaded, for people: /health, the console, benchmarks."""

    name: str
    precision: dict[GraphName, Precision]
    device: str
    fallback: str | None  # why `auto` settled for the embedded model
    notes: tuple[str, ...]  # what else the operator should know

    @property
    def precision_text(self) -> str:
        """One word when all graphs agree, else `graph=precision` for each."""
        values = set(self.precision.values())
        if len(values) == 1:
            return values.pop()
        return " ".join(f"{graph}={precision}" for graph, precision in self.precision.items())


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The parts the engine drives."""

    info: ModelInfo
    prompts: Prompts
    encoder: SpeechEncoder
    language_model: LanguageModel
    decoder: StreamingDecoder
    family: Family
    voice_key: str  # names the encoder: voices encoded under another key are encoded again
    sampling: Mapping[str, float] = field(default_factory=dict)  # what it says of its own
    loudest_rms: float | None = None  # what is louder is no speech of it, and turned down


class Doing(Protocol):
    """Has work done in some thread, and gives what comes of it."""

    def __call__(self, work: Callable[[], T]) -> T:
        """Returns or raises what `work` does."""
        ...


def here(work: Callable[[], T]) -> T:
    """In this thread."""
    return work()


def load_model(
    config: TTSConfig, say: Progress, *, with_model: Doing = here, with_decoder: Doing = here
) -> LoadedModel:
    """Select, check and open everything. What is captured is so in the threads that will call it:
    onnxruntime keeps CUDA graphs for each. (Opened there without need, a full-size model leaves
    96 MiB behind in their allocator's arenas.) Raises ModelError or ConfigError with one line."""
    settings = session_settings(config)
    try:
        return _loaded(config, settings, say, with_model, with_decoder)
    except (ModelError, ConfigError):
        raise
    except Exception as fault:  # a file that passed all checks may still break whatever reads it
        log.debug("the model cannot be loaded", exc_info=True)
        kind = type(fault).__name__
        raise ModelError(f"the model cannot be loaded: {kind}: {first_line(fault)}") from fault


def compile_model(config: TTSConfig, say: Progress) -> list[str]:
    """Select a model and compile it, or find it compiled; what was proven, for the operator. Raises
    ModelError or ConfigError with one line."""
    settings = session_settings(config)
    selection = select(config, settings.device, say)
    graph = compiled_graph(_parts(config, settings, selection.files))
    path = selection.files.graph("conditional_decoder")
    decoder, _ = decoder_graphs(config, path, settings, stream_settings(config, settings))
    if isinstance(graph, NotCompiled):
        said = f"served as published: {graph.reason}"
    else:
        said = (
            f"compiled; its logits are at most {graph.exact.worst:.2g} standard deviations from "
            f"the published graph's, {graph.served.worst:.2g} as served; cache in {graph.cache}"
        )
    return [
        f"{selection.name}: language model: {said}",
        f"{selection.name}: decoder: {decoder.form}, {decoder.note}",
    ]


def _parts(config: TTSConfig, settings: SessionSettings, files: ModelFiles) -> LanguageModelParts:
    tokenizer = Tokenizer.from_file(files.tokenizer)
    sentence = tokenizer.encode(PROOF_SENTENCE)
    return LanguageModelParts(config, files, settings, sentence, tokenizer.largest_id)


def _loaded(
    config: TTSConfig,
    settings: SessionSettings,
    say: Progress,
    with_model: Doing,
    with_decoder: Doing,
) -> LoadedModel:
    selection = select(config, settings.device, say)
    files = selection.files
    tokenizer = Tokenizer.from_file(files.tokenizer)
    parts = _parts(config, settings, files)
    if not captures(config, settings):
        with_model = with_decoder = here
    language_model, lm_note = with_model(lambda: open_language_model(parts))
    opened = with_decoder(lambda: _decoder(config, files, settings))
    info = ModelInfo(
        name=selection.name,
        precision=files.precisions,
        device=settings.device,
        fallback=selection.fallback,
        notes=(f"language model: {lm_note}", f"decoder: {opened.kind}, {opened.note}"),
    )
    return LoadedModel(
        info=info,
        prompts=TurboPrompts(tokenizer),
        encoder=EncoderGraph(open_session(files.graph("speech_encoder"), settings)),
        language_model=language_model,
        decoder=opened.decoder,
        family=TURBO,
        voice_key=files.fingerprint("speech_encoder"),
        sampling=own_sampling(files),
        loudest_rms=LOUDEST_SPEECH_RMS,
    )


def own_sampling(files: ModelFiles) -> dict[str, float]:
    """How the model's `generation_config.json` wants its codes drawn: whatever of it is usable as
    a setting of the same name."""
    stated = files.generation_config()
    usable: dict[str, float] = {}
    for name, kind in SAMPLING.items():
        with contextlib.suppress(ValidationError):
            usable[name] = TypeAdapter(kind).validate_python(stated.get(name), strict=True)
    return usable


def _decoder(config: TTSConfig, files: ModelFiles, settings: SessionSettings) -> Opened:
    path = files.graph("conditional_decoder")
    streaming = stream_settings(config, settings)
    compiled, graphs = decoder_graphs(config, path, settings, streaming)

    def opened(name: Graph, options: dict[str, str] | None) -> ort.InferenceSession:
        return _decoder_session(graphs.get(name, path), path.parent, settings, options)

    def open_graph(name: Graph) -> ort.InferenceSession:
        return opened(name, None)

    def capture(name: Graph) -> CapturedSession:
        memory = Memory(settings.device, config.gpu_device_id)
        return CapturedSession(opened(name, CAPTURE_OPTIONS), memory)

    if not captures(config, settings):
        return open_compiled(compiled, open_graph, streaming)
    try:
        return open_compiled(compiled, open_graph, streaming, capture)
    except Exception as fault:  # noqa: BLE001 - onnxruntime raises its own kinds
        made = open_compiled(compiled, open_graph, streaming)
        return replace(made, note=f"{made.note}; no CUDA graphs: {first_line(fault)}")


def stream_settings(config: TTSConfig, settings: SessionSettings) -> StreamSettings:
    """How the decoder streams on this device."""
    streaming = StreamSettings(prompt_codes=round(config.decoder_prompt_s * CODE_RATE_HZ))
    if settings.device == "cuda":
        return replace(streaming, max_rows=GPU_DECODER_ROWS, sizes=GPU_WINDOWS)
    memory_bytes = config.decoder_prompt_cache_mb * 1024 * 1024
    return replace(streaming, int8=config.decoder_int8, memory_bytes=memory_bytes)


def decoder_graphs(
    config: TTSConfig, path: Path, settings: SessionSettings, streaming: StreamSettings
) -> Compiled:
    """The compiled decoder from the cache in the data directory, or compiled now."""
    numerics = {k: v for k, v in settings.cuda_options.items() if k not in OTHER_CUDA_OPTIONS}
    matters = {
        "device": settings.device,
        "cuda_options": numerics if settings.device == "cuda" else {},
        "int8": streaming.int8,
        "prompt_kv": streaming.memory_bytes > 0,
        "prompt_codes": streaming.prompt_codes,
        "rows_share_calls": streaming.max_rows > 1,
    }
    known_by = identity("decoder", graph_sources(path), matters, DECODER_COMPILER)

    def compile_graphs() -> tuple[CompiledDecoder, dict[Graph, bytes], dict[str, float]]:
        # Here, since a start that finds everything compiled needs no compiler.
        from chatterbox.compile.decoder.compiler import compile_decoder
        from chatterbox.compile.progress import CompileBar

        def open_graph(model: Any) -> ort.InferenceSession:
            return _decoder_session(model.SerializeToString(), path.parent, settings, None)

        with CompileBar("the decoder") as progress:
            made = compile_decoder(path, open_graph, streaming, progress)
            graphs = {name: model.SerializeToString() for name, model in made.graphs.items()}
            progress(1.0, "done")
        return made.decoder, graphs, made.proofs

    return find_or_compile(CompiledCache(config.data_dir), known_by, path, compile_graphs)


def _decoder_session(
    graph: Path | bytes,
    weights_in: Path,
    settings: SessionSettings,
    options: dict[str, str] | None,
) -> ort.InferenceSession:
    return open_session(
        graph,
        settings,
        provider_options=options,
        weights_in=None if isinstance(graph, Path) else weights_in,
        spin_us=DECODER_SPIN_US,
    )
