"""Opens the SNAC codec at 24 kHz: compiled, or as published with the reason said."""

from dataclasses import dataclass
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
"""Version of `compile/snac.py`: raised whenever the same source would give another graph."""
GPU_WINDOWS = (1, 2, 5, 10, 20, 35)
"""Fresh frames that windows come in on a GPU, so that they meet in calls; not measured yet."""


@dataclass(frozen=True, slots=True)
class OpenedCodec:
    """A decoder, and what to tell the operator about it."""

    decoder: SnacDecoder
    note: str


def open_codec(config: TTSConfig, path: Path, settings: SessionSettings) -> OpenedCodec:
    """`path`: the published `decoder_model`. Raises ModelError."""
    facts, graphs = _compiled(config, path, settings)

    def opened(name: str, options: dict[str, str] | None = None) -> ort.InferenceSession:
        graph = graphs.get(name, path)
        return open_session(graph, settings, provider_options=options, weights_in=path.parent)

    if settings.device == "cuda":  # where rows share a call, and what is carried would have to move
        rows = config.codec_rows if facts["rows"] else 1
        if "decoder" in graphs and captures(config, settings):
            memory = Memory(settings.device, settings.device_id)
            replayed = CapturedSession(partial(opened, "decoder"), memory, CROPS)
            decoder = SnacDecoder(
                replayed, max_rows=rows, sizes=GPU_WINDOWS, draw=tabled_noise, replayed=True
            )
            with replayed.recording():
                decoder.rehearse(Voice("nobody's", None))
            return OpenedCodec(decoder, f"{facts['note']}; {replayed.note}")
        session = opened("decoder")
        decoder = SnacDecoder(session, max_rows=rows, sizes=GPU_WINDOWS, draw=tabled_noise)
    elif "carrying" in graphs:
        carried = CarryingGraph(opened("carrying"), facts["carried_at_start"], addressed_noise)
        decoder = SnacDecoder(opened("decoder"), carrying=carried)
    else:
        decoder = SnacDecoder(opened("decoder"))
    return OpenedCodec(decoder, facts["note"])


def _compiled(config: TTSConfig, path: Path, settings: SessionSettings) -> tuple[Json, Graphs]:
    """Facts and the graphs `decoder` and `carrying`, from the cache in the data directory or made
    now. Proven on the CPU: a GPU's TF32 would hide what it looks for."""
    on_cpu = SessionSettings("cpu", settings.threads, {})

    def open_graph(model: Any) -> ort.InferenceSession:
        return open_session(model.SerializeToString(), on_cpu, weights_in=path.parent)

    def compiled() -> tuple[Json, Json, dict[str, bytes]]:
        # Here, since a start that finds it compiled needs no compiler.
        from chatterbox.compile.snac import compile_snac

        made = compile_snac(path, open_graph)
        facts = {"note": made.note, "rows": made.rows, "carried_at_start": made.carried_at_start}
        graphs = {"decoder": made.graph, "carrying": made.carrying}
        return facts, made.proofs, {n: g.SerializeToString() for n, g in graphs.items() if g}

    known_by = identity("snac", graph_sources(path), {}, SNAC_COMPILER)
    return CompiledCache(config.data_dir).find_or_compile(known_by, path, compiled)
