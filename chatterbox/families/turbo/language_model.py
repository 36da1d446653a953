"""Which language model is served? The tuned one where it is proven, else the stock one, and why.

Knows the configuration and both runners; knows no request.
"""

from dataclasses import dataclass, replace

from chatterbox.compile.lm.compiler import NotCompiled, TunedGraph, recipe_for, tune
from chatterbox.compile.lm.write import CompileOptions
from chatterbox.compile.progress import CompileBar
from chatterbox.config import TTSConfig
from chatterbox.errors import ModelError, first_line
from chatterbox.hub.files import ModelFiles
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.contract import I64, LanguageModel
from chatterbox.runtime.cuda_graphs import CAPTURE_OPTIONS, Buckets
from chatterbox.runtime.embedding import Embedder, host_embedder
from chatterbox.runtime.kv_slots import SlottedLanguageModel
from chatterbox.runtime.published_lm import PublishedLanguageModel
from chatterbox.runtime.sessions import SessionSettings, captures, open_session
from chatterbox.runtime.wrappers import EmbedGraph

PROOF_SENTENCE = "Well, the quick brown fox jumps over the lazy dog, and then it rests."
"""SpeechPlan while the tuned graph is proven."""
TUNED_DIRECTORY = "tuned"  # below the data directory
MIB = 1024 * 1024
SPIN_US = 20
"""How long the step's threads wait for the next operator awake: long enough for the gaps within a
step (a fifth of its time, otherwise spent waking up), too short to keep a core from the decoder."""
PUBLISHED_POSITIONS = 8196
"""Rows of the published model's position table (its sidecar's size says so); used where
`config.json` does not give a number."""
POSITION_KEYS = ("n_positions", "max_position_embeddings", "n_ctx")


@dataclass(frozen=True, slots=True)
class LanguageModelParts:
    """What a language model is opened from."""

    config: TTSConfig
    files: ModelFiles
    settings: SessionSettings
    sentence: I64  # ids of PROOF_SENTENCE, which ends in the tokenizer's end tokens
    largest_id: int  # of the tokenizer

    @property
    def end_id(self) -> int:
        """The tokenizer's end of text."""
        return int(self.sentence[-1])

    @property
    def positions(self) -> int:
        """Of a slot: what is configured, at most what the model has embeddings for."""
        stated = self.files.config()
        known = [n for key in POSITION_KEYS if isinstance(n := stated.get(key), int)]
        return min(self.config.max_sequence_length, *known, PUBLISHED_POSITIONS)

    def embedding(self) -> EmbedGraph:
        """A session on embed_tokens."""
        path = self.files.graph("embed_tokens")
        graph = EmbedGraph(open_session(path, self.settings))
        if not graph.has_row(self.largest_id, self.end_id):
            raise ModelError(
                f"{self.files.tokenizer} has ids up to {self.largest_id}, for which {path.name} "
                "has no rows: they are of different models"
            )
        return graph


def open_language_model(parts: LanguageModelParts) -> tuple[LanguageModel, str]:
    """The tuned form where it is proven equal, else the graph as published; and which it was."""
    session = parts.embedding()
    if not parts.config.compile_lm:
        return _stock(parts, session, "tuning is switched off")
    result = tuned_graph(parts, session)
    if isinstance(result, NotCompiled):
        return _stock(parts, session, result.reason)
    path = parts.files.graph("embed_tokens")
    embed = host_embedder(path, session, result.vocab, parts.end_id) or session
    if captures(parts.config, parts.settings):
        return _captured(parts, embed, result)
    return _runner(parts, embed, result), f"tuned, proven equal; cache in {result.cache}"


def tune_language_model(parts: LanguageModelParts) -> TunedGraph | NotCompiled:
    """What `chatterbox tune` runs: the tuned graph from the cache in the data directory, or made
    now with a progress bar; or why there is none."""
    return tuned_graph(parts, parts.embedding())


def tuned_graph(parts: LanguageModelParts, embed: Embedder) -> TunedGraph | NotCompiled:
    """By the first recipe whose graph is proven. `embed`: the model's own embedding."""
    precision = parts.files.precisions["language_model"]

    def made(recipe: CompileOptions | None) -> TunedGraph | NotCompiled:
        with CompileBar("the language model") as progress:
            return tune(
                parts.files.graph("language_model"),
                precision,
                parts.config.data_dir / TUNED_DIRECTORY,
                parts.settings,
                recipe=recipe,
                embed=embed,
                sentence=parts.sentence,
                progress=progress,
            )

    recipe = recipe_for(parts.settings.device, precision)
    asked = parts.config.kv_dtype
    if recipe is not None and asked != "auto":
        recipe = replace(recipe, cache=asked)
    result = made(recipe)
    if isinstance(result, NotCompiled) and recipe is not None and recipe.cache == "int8":
        result = made(replace(recipe, cache="float"))  # which always passes where any does
    return result


def _captured(
    parts: LanguageModelParts, embed: Embedder, graph: TunedGraph
) -> tuple[LanguageModel, str]:
    try:
        model = _runner(parts, embed, graph, Buckets(parts.config.max_sequences, capture=True))
        model.rehearse()
    except Exception as fault:  # noqa: BLE001 - onnxruntime raises its own kinds
        why = first_line(fault)
        return _runner(parts, embed, graph), f"tuned, proven equal; no CUDA graphs: {why}"
    return model, "tuned, proven equal; steps captured as CUDA graphs"


def _runner(
    parts: LanguageModelParts, embed: Embedder, graph: TunedGraph, buckets: Buckets | None = None
) -> SlottedLanguageModel:
    options = CAPTURE_OPTIONS if buckets else None
    config = parts.config
    return SlottedLanguageModel(
        open_session(graph.path, parts.settings, provider_options=options, spin_us=SPIN_US),
        embed,
        slots=config.max_sequences,
        capacity=parts.positions,
        prefix_cache_bytes=config.kv_prefix_cache_mb * MIB,
        memory=Memory(parts.settings.device, config.gpu_device_id),
        buckets=buckets,
    )


def _stock(parts: LanguageModelParts, embed: EmbedGraph, why: str) -> tuple[LanguageModel, str]:
    model = PublishedLanguageModel(
        open_session(parts.files.graph("language_model"), parts.settings),
        embed,
        slots=parts.config.max_sequences,
        capacity=parts.positions,
    )
    how = "rows share a batch" if model.batched else "rows differ in a batch, so one by one"
    return model, f"as published ({why}); {how}"
