"""Opens Orpheus' codec, SNAC at 24 kHz: compiled, or as published with the reason said."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from chatterbox.config import TTSConfig
from chatterbox.hub.files import graph_sources
from chatterbox.runtime.compiled_cache import CompiledCache, Contents, identity
from chatterbox.runtime.decoder.snac import SnacDecoder
from chatterbox.runtime.sessions import SessionSettings, open_session
from chatterbox.runtime.snac_encoder import SnacEncoder

log = logging.getLogger(__name__)

SNAC_COMPILER = 1
"""Version of `compile/snac.py`: raised whenever the same source would give another graph."""
GRAPH_FILE = "decoder.onnx"
GPU_WINDOWS = (1, 2, 5, 10, 20, 35)
"""Fresh frames that windows come in on a GPU, so that they meet in calls; not measured yet."""


@dataclass(frozen=True, slots=True)
class OpenedCodec:
    """A decoder, and what to tell the operator about it."""

    decoder: SnacDecoder
    note: str


def open_codec(config: TTSConfig, path: Path, settings: SessionSettings) -> OpenedCodec:
    """`path`: the published `decoder_model`. Raises ModelError."""
    facts, graph = _compiled(config, path, settings)
    session = open_session(path if graph is None else graph, settings, weights_in=path.parent)
    on_gpu = settings.device == "cuda"
    decoder = SnacDecoder(
        session,
        max_rows=config.codec_rows if on_gpu and facts["rows"] else 1,
        sizes=GPU_WINDOWS if on_gpu else (),
    )
    return OpenedCodec(decoder, facts["note"])


def _compiled(
    config: TTSConfig, path: Path, settings: SessionSettings
) -> tuple[dict[str, Any], bytes | None]:
    """Facts and graph, from the cache in the data directory or made now. Proven on the CPU: a GPU's
    TF32 would hide what it looks for."""
    cache = CompiledCache(config.data_dir)
    known_by = identity("snac", graph_sources(path), {}, SNAC_COMPILER)
    entry = cache.find(known_by)
    if entry is not None:
        kept = entry.folder / GRAPH_FILE
        return entry.facts, kept.read_bytes() if kept.is_file() else None
    # Here, since a start that finds it compiled needs no compiler.
    from chatterbox.compile.snac import compile_snac

    on_cpu = SessionSettings("cpu", settings.threads, {})

    def open_graph(model: Any) -> ort.InferenceSession:
        return open_session(model.SerializeToString(), on_cpu, weights_in=path.parent)

    made = compile_snac(path, open_graph)
    facts = {"note": made.note, "rows": made.rows}
    graph = None if made.graph is None else made.graph.SerializeToString()

    def fill(folder: Path) -> Contents:
        if graph is not None:
            (folder / GRAPH_FILE).write_bytes(graph)
        return Contents(facts, made.proofs)

    try:
        cache.write(known_by, path, fill)
    except OSError as fault:
        why = fault.strerror or fault
        log.warning("the compiled SNAC decoder cannot be kept; each start compiles it: %s", why)
    return facts, graph


def open_encoder(path: Path, settings: SessionSettings) -> SnacEncoder:
    """`path`: the published `encoder_model`. Raises ModelError."""
    return SnacEncoder(open_session(path, settings))
