"""Opens the S3Gen decoder of Chatterbox models, and compiles it if necessary."""

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
from chatterbox.runtime.sessions import (
    SessionSettings,
    captures,
    close_unreachable_sessions,
    open_session,
)

SPIN_US = 100
"""Time for which the decoder's threads busy-wait for the next of its thousands of small operators.
This makes windows 10 % faster (docs/inside/decoder.md) and slows nothing down, since nothing else
computes at the same time (engine/threads.py)."""
OTHER_CUDA_OPTIONS = frozenset({"device_id", "gpu_mem_limit", "arena_extend_strategy"})
"""CUDA options that do not change a graph's results."""
GPU_ROWS = 16
"""Most windows in one call of the decoder on a GPU. Not yet measured
(docs/inside/benchmarks.md)."""
GPU_WINDOWS = (5, 10, 20, 40, 75)
"""Numbers of fresh codes in a window on a GPU: few different sizes, so that windows share calls.
From 0.2 s, since the next window cannot follow in time after a shorter one, to 3 s, each about
twice the previous size. Not yet measured."""


def open_decoder(config: TTSConfig, path: Path, settings: SessionSettings) -> Opened:
    """Open the decoder in its fastest proven form, and compile it if it is not in the cache."""
    streaming = stream_settings(config, settings)
    compiled, graphs = decoder_graphs(config, path, settings, streaming)

    def open_graph(name: Graph, options: dict[str, str] | None = None) -> ort.InferenceSession:
        graph, folder = graphs.get(name, path), path.parent
        return open_session(
            graph, settings, provider_options=options, weights_in=folder, spin_us=SPIN_US
        )

    def capture(name: Graph) -> CapturedSession:
        memory = Memory(settings.device, settings.device_id)
        return CapturedSession(partial(open_graph, name), memory)

    with_capture = capture if captures(config, settings) else None
    return open_compiled(compiled, open_graph, streaming, with_capture)


def stream_settings(config: TTSConfig, settings: SessionSettings) -> StreamSettings:
    """Return the settings for streaming on this device."""
    streaming = StreamSettings(prompt_codes=round(config.decoder_prompt_s * CODE_RATE_HZ))
    if settings.device == "cuda":
        return replace(streaming, on_gpu=True, max_rows=GPU_ROWS, sizes=GPU_WINDOWS)
    memory_bytes = config.decoder_prompt_cache_mb * 1024 * 1024
    return replace(streaming, int8=config.decoder_int8, memory_bytes=memory_bytes)


def decoder_graphs(
    config: TTSConfig, path: Path, settings: SessionSettings, streaming: StreamSettings
) -> tuple[CompiledDecoder, Graphs]:
    """Return the compiled decoder and its graphs, from the cache or compiled now."""
    numerics = {k: v for k, v in settings.cuda_options.items() if k not in OTHER_CUDA_OPTIONS}
    choices = {
        "device": settings.device,
        "cuda_options": numerics if settings.device == "cuda" else {},
        "int8": streaming.int8,
        "prompt_kv": streaming.memory_bytes > 0,
        "prompt_codes": streaming.prompt_codes,
        "rows_share_calls": streaming.max_rows > 1,
        "on_gpu": streaming.on_gpu,
    }

    def compile_graphs() -> tuple[Json, Json, dict[str, bytes]]:
        # Imported here, since a start with a full cache needs no compiler.
        from chatterbox.compile.decoder.compiler import compile_decoder
        from chatterbox.compile.progress import compile_bar

        def open_graph(model: Any) -> ort.InferenceSession:
            graph = model.SerializeToString()
            return open_session(graph, settings, weights_in=path.parent, spin_us=SPIN_US)

        with compile_bar("the decoder") as progress:
            made = compile_decoder(path, open_graph, streaming, progress)
            graphs: dict[str, bytes] = {n: m.SerializeToString() for n, m in made.graphs.items()}
            progress(1.0, "done")
        close_unreachable_sessions()
        return made.decoder.to_json(), made.proofs, graphs

    key = identity("decoder", graph_sources(path), choices, DECODER_COMPILER)
    facts, graphs = CompiledCache(config.data_dir).find_or_compile(key, path, compile_graphs)
    return CompiledDecoder.from_json(facts), graphs
