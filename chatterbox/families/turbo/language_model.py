"""Open the language model: the compiled graph where it is proven, else the published one."""

from dataclasses import dataclass, replace

import numpy as np
import onnxruntime as ort

from chatterbox.arrays import F32, I64
from chatterbox.config import TTSConfig
from chatterbox.errors import ModelError
from chatterbox.families.base import LanguageModel
from chatterbox.families.compiled import found_or_compiled
from chatterbox.families.turbo.spec import TOKENS
from chatterbox.hub.files import ModelFiles
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_lm import (
    CompiledGraph,
    CompileOptions,
    NotCompiled,
    usual_options,
)
from chatterbox.runtime.decoder.s3gen import CODE_COUNT
from chatterbox.runtime.gpu import SEVERITY_FATAL
from chatterbox.runtime.published_lm import PublishedLanguageModel, require
from chatterbox.runtime.sessions import SessionSettings, open_session
from chatterbox.runtime.slotted import open_compiled

PROOF_SENTENCE = "Well, the quick brown fox jumps over the lazy dog, and then it rests."
"""Spoken while the compiled graph is proven."""
PUBLISHED_POSITIONS = 8196
"""Rows of the published model's position table (its sidecar's size says so); used where
`config.json` does not give a number."""
POSITION_KEYS = ("n_positions", "max_position_embeddings", "n_ctx")


class EmbedGraph:
    """embed_tokens: ids → the language model's rows."""

    def __init__(self, session: ort.InferenceSession) -> None:
        require(session, "embed_tokens", {"input_ids"}, {"inputs_embeds"})
        self._session = session

    def text(self, ids: I64) -> F32:
        """Text ids [S ≥ 3], the two end tokens last, which become start codes → [S, hidden]."""
        assert len(ids) >= 3, "an id standing alone would be read as a speech code"
        rows: F32 = self._run(ids[None])[0]
        return rows

    def has_row(self, text_id: int, end_id: int) -> bool:
        """Whether a text may hold that id."""
        options = ort.RunOptions()
        options.log_severity_level = SEVERITY_FATAL
        ids = np.array([[text_id, end_id, end_id]], np.int64)
        try:
            self._session.run(["inputs_embeds"], {"input_ids": ids}, options)
        except Exception:  # noqa: BLE001 - onnxruntime raises its own kinds
            return False
        return True

    def codes(self, codes: I64) -> F32:
        """Speech codes [B] → [B, hidden]; a sequence of one is read as a speech code."""
        rows: F32 = self._run(codes[:, None])[:, 0]
        return rows

    def _run(self, ids: I64) -> F32:
        embeds: F32 = self._session.run(["inputs_embeds"], {"input_ids": ids})[0]
        return embeds


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
            raise self.other_tokenizer()
        return graph

    def other_tokenizer(self) -> ModelError:
        """The tokenizer has more ids than the embedding has rows."""
        name = self.files.graph("embed_tokens").name
        return ModelError(
            f"{self.files.tokenizer} has ids up to {self.largest_id}, for which {name} "
            "has no rows: they are of different models"
        )


def open_language_model(parts: LanguageModelParts) -> tuple[LanguageModel, str]:
    """The compiled form where it is proven equal, else the graph as published; and which it was."""
    if not parts.config.compile_lm:
        return _published(parts, "compiling is switched off")
    result = compiled_graph(parts)
    if isinstance(result, NotCompiled):
        return _published(parts, result.reason)
    embed = result.embedder
    if embed is not None and parts.largest_id >= embed.text_rows:
        raise parts.other_tokenizer()
    rows = embed or parts.embedding()
    return open_compiled(result, rows, parts.config, parts.settings, parts.positions)


def compiled_graph(parts: LanguageModelParts) -> CompiledGraph | NotCompiled:
    """From the cache in the data directory, or compiled now: with the first options whose graph is
    proven."""
    precision = parts.files.precisions["language_model"]
    options = usual_options(parts.settings.device, precision)
    asked = parts.config.kv_dtype
    if asked != "auto":
        options = replace(options, cache=asked)
    result = _found_or_compiled(parts, options)
    if isinstance(result, NotCompiled) and options.cache == "int8":
        options = replace(options, cache="float")  # which always passes where any does
        result = _found_or_compiled(parts, options)
    return result


def _found_or_compiled(
    parts: LanguageModelParts, options: CompileOptions
) -> CompiledGraph | NotCompiled:
    source, embed = (parts.files.graph(name) for name in ("language_model", "embed_tokens"))
    return found_or_compiled(
        [source, embed],
        parts.files.precisions["language_model"],
        parts.config,
        parts.settings,
        options,
        lambda make: make(
            parts.embedding(), CODE_COUNT, TOKENS.stop, end_id=parts.end_id, path=embed
        ),
        sentence=parts.sentence,
    )


def _published(parts: LanguageModelParts, why: str) -> tuple[LanguageModel, str]:
    model = PublishedLanguageModel(
        open_session(parts.files.graph("language_model"), parts.settings),
        parts.embedding(),
        slots=parts.config.max_sequences,
        capacity=parts.positions,
        memory=Memory("cuda", parts.settings.device_id)
        if parts.settings.device == "cuda"
        else None,
    )
    how = "rows share a batch" if model.batched else "rows differ in a batch, so one by one"
    return model, f"as published ({why}); {how}"
