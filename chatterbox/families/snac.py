"""Opens the decoder of the SNAC 24 kHz codec, compiled or as published."""

from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime as ort

from chatterbox.config import TTSConfig
from chatterbox.families.base import Voice
from chatterbox.hub.files import graph_sources
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_cache import CompiledCache, Graphs, Json, identity
from chatterbox.runtime.cuda_graphs import CapturedSession
from chatterbox.runtime.decoder.snac import CROPS, addressed_noise, tabled_noise
from chatterbox.runtime.decoder.snac_decoder import CarryingGraph, SnacDecoder
from chatterbox.runtime.sessions import SessionSettings, captures, open_session

SNAC_COMPILER = 3
"""Version of `compile/snac.py`, raised when the same source results in a different graph."""
GPU_WINDOWS = (1, 2, 5, 10, 20, 35)
"""Numbers of fresh frames in a window on a GPU: few different sizes, so that windows share calls.
Not yet measured."""


def open_codec(config: TTSConfig, path: Path, settings: SessionSettings) -> tuple[SnacDecoder, str]:
    """Open the decoder on the published graph `decoder_model` at `path`.

    Returns the decoder and a note for the operator. Raises ModelError.
    """
    facts, graphs = _compiled(config, path, settings)
    note = facts["note"]

    def open_graph(name: str, options: dict[str, str] | None = None) -> ort.InferenceSession:
        graph = graphs.get(name, path)
        return open_session(graph, settings, provider_options=options, weights_in=path.parent)

    if settings.device == "cuda":  # rows share calls there, and have no state to carry
        rows = config.codec_rows if facts["rows"] else 1
        gpu_decoder = partial(SnacDecoder, max_rows=rows, sizes=GPU_WINDOWS, draw=tabled_noise)
        if "decoder" not in graphs or not captures(config, settings):
            return gpu_decoder(open_graph("decoder")), note
        memory = Memory(settings.device, settings.device_id)
        session = CapturedSession(partial(open_graph, "decoder"), memory, CROPS)
        decoder = gpu_decoder(session, replayed=True)
        with session.recording():
            decoder.run_all_shapes(Voice("nobody's", None))
        return decoder, f"{note}; {session.note}"
    carrying = None
    if "carrying" in graphs:
        steps_at_start = facts["carried_at_start"]
        carrying = CarryingGraph(open_graph("carrying"), steps_at_start, addressed_noise)
    return SnacDecoder(open_graph("decoder"), carrying=carrying), note


def _compiled(config: TTSConfig, path: Path, settings: SessionSettings) -> tuple[Json, Graphs]:
    """Return the facts and the graphs `decoder` and `carrying`, from the cache or compiled now.

    Compiling runs on the CPU: the rounding of a GPU's TF32 would hide the differences that the
    proof looks for.
    """
    on_cpu = SessionSettings("cpu", settings.threads, {})

    def open_graph(model: Any) -> ort.InferenceSession:
        return open_session(model.SerializeToString(), on_cpu, weights_in=path.parent)

    def compile_graphs() -> tuple[Json, Json, dict[str, bytes]]:
        # Imported here, since a start with a full cache needs no compiler.
        from chatterbox.compile.snac import compile_snac

        made = compile_snac(path, open_graph)
        facts = {"note": made.note, "rows": made.rows, "carried_at_start": made.carried_at_start}
        graphs = {"decoder": made.graph, "carrying": made.carrying}
        return facts, made.proofs, {n: g.SerializeToString() for n, g in graphs.items() if g}

    key = identity("snac", graph_sources(path), {}, SNAC_COMPILER)
    return CompiledCache(config.data_dir).find_or_compile(key, path, compile_graphs)
