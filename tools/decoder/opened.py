"""Compiles and opens a decoder without caching it on disk, for tests and tools."""

from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime as ort

from chatterbox.compile.decoder.compiler import Compilation, compile_decoder
from chatterbox.compile.graph import OpenGraph
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.cuda_graphs import CapturedSession
from chatterbox.runtime.decoder.compiled import Graph, Opened, open_compiled
from chatterbox.runtime.decoder.s3gen_decoder import StreamSettings


def compile_and_open(
    path: Path,
    open_model: OpenGraph,
    settings: StreamSettings,
    memory: Memory | None = None,
    compiler: Callable[[Path, OpenGraph, StreamSettings], Compilation] = compile_decoder,
) -> Opened:
    """Compile the decoder at `path` and open it. With `memory`, the decoder captures the shapes of
    its windows there and replays them."""
    made = compiler(path, open_model, settings)

    def open_graph(name: Graph) -> ort.InferenceSession:
        published = onnx.load(str(path), load_external_data=False)
        return open_model(made.graphs.get(name, published))

    def capture(name: Graph) -> CapturedSession:
        assert memory is not None
        return CapturedSession(lambda _: open_graph(name), memory)

    return open_compiled(made.decoder, open_graph, settings, capture if memory else None)
