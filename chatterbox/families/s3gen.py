"""Opens an S3Gen decoder, which Chatterbox models share: compiled where that is kept, else compiled
now."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime as ort

from chatterbox.config import TTSConfig
from chatterbox.hub.files import graph_sources
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_cache import CompiledCache, Graphs, Json, identity
from chatterbox.runtime.cuda_graphs import CapturedSession
from chatterbox.runtime.decoder.compiled import (
    DECODER_COMPILER,
    CompiledDecoder,
    Graph,
    Opened,
    open_compiled,
)
from chatterbox.runtime.decoder.s3gen import CODE_RATE_HZ
from chatterbox.runtime.decoder.s3gen_decoder import StreamSettings
from chatterbox.runtime.sessions import SessionSettings, captures, open_session

SPIN_US = 100
"""How long the decoder's threads stay awake for the next of its thousands of small operators: a
tenth faster windows (docs/inside/decoder.md), and nobody computes beside it
(engine/threads.py)."""
OTHER_CUDA_OPTIONS = frozenset({"device_id", "gpu_mem_limit", "arena_extend_strategy"})
"""Those that change nothing of what a graph computes."""
GPU_ROWS = 16
"""Windows in one call of the decoder on a GPU; not measured yet (docs/inside/benchmarks.md)."""
GPU_WINDOWS = (5, 10, 20, 40, 75)
"""Fresh codes that windows come in on a GPU, so that they meet in calls: 0.2 s, less than which is
gone before anything can follow it, to 3 s, each about twice the one before; not measured yet."""


def open_decoder(config: TTSConfig, path: Path, settings: SessionSettings) -> Opened:
    """The decoder in its fastest form that was proven, compiled first where that is not kept."""
    streaming = stream_settings(config, settings)
    compiled, graphs = decoder_graphs(config, path, settings, streaming)

    def opened(name: Graph, options: dict[str, str] | None = None) -> ort.InferenceSession:
        return _session(graphs.get(name, path), path.parent, settings, options)

    def capture(name: Graph) -> CapturedSession:
        memory = Memory(settings.device, settings.device_id)
        return CapturedSession(partial(opened, name), memory)

    wanted = capture if captures(config, settings) else None
    return open_compiled(compiled, opened, streaming, wanted)


def stream_settings(config: TTSConfig, settings: SessionSettings) -> StreamSettings:
    """How the decoder streams on this device."""
    streaming = StreamSettings(prompt_codes=round(config.decoder_prompt_s * CODE_RATE_HZ))
    if settings.device == "cuda":
        return replace(streaming, on_gpu=True, max_rows=GPU_ROWS, sizes=GPU_WINDOWS)
    memory_bytes = config.decoder_prompt_cache_mb * 1024 * 1024
    return replace(streaming, int8=config.decoder_int8, memory_bytes=memory_bytes)


def decoder_graphs(
    config: TTSConfig, path: Path, settings: SessionSettings, streaming: StreamSettings
) -> tuple[CompiledDecoder, Graphs]:
    """The compiled decoder from the cache in the data directory, or compiled now."""
    numerics = {k: v for k, v in settings.cuda_options.items() if k not in OTHER_CUDA_OPTIONS}
    matters = {
        "device": settings.device,
        "cuda_options": numerics if settings.device == "cuda" else {},
        "int8": streaming.int8,
        "prompt_kv": streaming.memory_bytes > 0,
        "prompt_codes": streaming.prompt_codes,
        "rows_share_calls": streaming.max_rows > 1,
        "on_gpu": streaming.on_gpu,
    }
    known_by = identity("decoder", graph_sources(path), matters, DECODER_COMPILER)

    def compile_graphs() -> tuple[Json, Json, dict[str, bytes]]:
        # Here, since a start that finds everything compiled needs no compiler.
        from chatterbox.compile.decoder.compiler import compile_decoder
        from chatterbox.compile.progress import compile_bar

        def open_graph(model: Any) -> ort.InferenceSession:
            return _session(model.SerializeToString(), path.parent, settings)

        with compile_bar("the decoder") as progress:
            made = compile_decoder(path, open_graph, streaming, progress)
            graphs: dict[str, bytes] = {n: m.SerializeToString() for n, m in made.graphs.items()}
            progress(1.0, "done")
        return made.decoder.to_json(), made.proofs, graphs

    cache = CompiledCache(config.data_dir)
    facts, graphs = cache.find_or_compile(known_by, path, compile_graphs)
    return CompiledDecoder.from_json(facts), graphs


def _session(
    graph: Path | bytes,
    weights_in: Path,
    settings: SessionSettings,
    options: dict[str, str] | None = None,
) -> ort.InferenceSession:
    return open_session(
        graph, settings, provider_options=options, weights_in=weights_in, spin_us=SPIN_US
    )
