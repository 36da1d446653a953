"""Finds a family's language model compiled in the data directory, or compiles it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chatterbox.config import TTSConfig
from chatterbox.hub.files import Precision, graph_sources
from chatterbox.runtime.compiled_cache import CompiledCache
from chatterbox.runtime.compiled_lm import (
    CompiledGraph,
    CompileOptions,
    NotCompiled,
    language_model_identity,
    language_model_of,
)
from chatterbox.runtime.sessions import SessionSettings


def found_or_compiled(
    graphs: Sequence[Path],
    precision: Precision,
    config: TTSConfig,
    settings: SessionSettings,
    options: CompileOptions,
    embedding: Callable[[Callable[..., Any]], Any],
    **how: Any,
) -> CompiledGraph | NotCompiled:
    """`graphs`: the language model, and what else it is made of. `embedding` is given the
    compiler's `Embedding` to make; `how`: more of `compile_lm`'s arguments."""
    sources = [file for graph in graphs for file in graph_sources(graph)]
    known_by = language_model_identity(sources, precision, settings, options)
    entry = CompiledCache(config.data_dir).find(known_by)
    if entry is not None:
        return language_model_of(entry)
    # Here, since a start that finds everything compiled needs no compiler.
    from chatterbox.compile.lm.compiler import Embedding, compile_lm
    from chatterbox.compile.progress import CompileBar

    with CompileBar("the language model") as progress:
        return compile_lm(
            graphs[0],
            precision,
            config.data_dir,
            settings,
            options=options,
            embedding=embedding(Embedding),
            progress=progress,
            **how,
        )


def proof(graph: CompiledGraph | NotCompiled) -> str:
    """What was proven, for the operator."""
    if isinstance(graph, NotCompiled):
        return f"served as published: {graph.reason}"
    return (
        f"compiled; its logits are at most {graph.exact.worst:.2g} standard deviations from the "
        f"published graph's, {graph.served.worst:.2g} as served; cache in {graph.cache}"
    )
