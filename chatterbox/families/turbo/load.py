"""Opens Chatterbox Turbo: which wrapper belongs to which graph, compiled where it is proven; and
what its language model reads."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from chatterbox.arrays import F32, I64
from chatterbox.errors import ModelError
from chatterbox.families.base import LanguageModel, Voice
from chatterbox.families.model import LoadedModel, LoadRequest
from chatterbox.families.s3gen import decoder_graphs, open_decoder, stream_settings
from chatterbox.families.tokenizer import Tokenizer
from chatterbox.families.turbo.spec import LOUDEST_SPEECH_RMS, TAGS, TOKENS, TURBO
from chatterbox.families.turbo.voice import TurboVoices
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_lm import (
    CompiledGraph,
    NotCompiled,
    default_options,
    open_compiled,
)
from chatterbox.runtime.decoder.s3gen import CODE_COUNT
from chatterbox.runtime.gpu import SEVERITY_FATAL
from chatterbox.runtime.kv_slots import PrefixedPrompt
from chatterbox.runtime.published_lm import PublishedLanguageModel, require

END_OF_TEXT = "<|endoftext|>"
END_TOKENS = 2
"""The published embedding graph reads the last two ids of a text as speech codes, the start code
twice; `tokenizer.json` appends them."""
PROOF_SENTENCE = "Well, the quick brown fox jumps over the lazy dog, and then it rests."
"""Spoken while the compiled graph is proven."""
PUBLISHED_POSITIONS = 8196
"""Rows of the published model's position table (its sidecar's size says so); used where
`config.json` does not give a number."""
POSITION_KEYS = ("n_positions", "max_position_embeddings", "n_ctx")
LM_GRAPHS = ("language_model", "embed_tokens")


def open_tokenizer(path: Path) -> Tokenizer:
    """Of all the added tokens only the model's tags are read from text. Raises ModelError where
    `tokenizer.json` is damaged or lacks the end token."""
    tokenizer = Tokenizer.from_file(path, lambda content: content[1:-1] in TAGS)
    end_id = tokenizer.library.token_to_id(END_OF_TEXT)
    if end_id is None:
        raise ModelError(f"{path.name} has no token {END_OF_TEXT}")
    return replace(tokenizer, ends=(end_id,) * END_TOKENS)


@dataclass(frozen=True, slots=True)
class TurboPrompts:
    """Implements `Prompts`: ids of a segment's text behind the voice's conditioning rows."""

    tokenizer: Tokenizer

    def prompt(self, text: str, voice: Voice) -> PrefixedPrompt:
        """The text's ids end in two end tokens, which the embedding reads as start codes. Raises
        EmptyText."""
        return self.prefix(voice).with_text(self.tokenizer.encode(text))

    def prefix(self, voice: Voice) -> PrefixedPrompt:
        """The conditioning rows alone."""
        return PrefixedPrompt(voice.key, voice.data.features, np.zeros(0, np.int64))


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

    def codes(self, codes: I64) -> F32:
        """Speech codes [B] → [B, hidden]; a sequence of one is read as a speech code."""
        rows: F32 = self._run(codes[:, None])[:, 0]
        return rows

    def has_row(self, text_id: int, end_id: int) -> bool:
        """Whether a text may hold that id."""
        options = ort.RunOptions()
        options.log_severity_level = SEVERITY_FATAL
        try:
            self._run(np.array([[text_id, end_id, end_id]], np.int64), options)
        except Exception:  # noqa: BLE001 - onnxruntime raises its own kinds
            return False
        return True

    def _run(self, ids: I64, options: ort.RunOptions | None = None) -> F32:
        embeds: F32 = self._session.run(["inputs_embeds"], {"input_ids": ids}, options)[0]
        return embeds


@dataclass(frozen=True, slots=True)
class LanguageModelParts:
    """What a language model is opened from."""

    request: LoadRequest
    sentence: I64  # ids of PROOF_SENTENCE, which ends in the tokenizer's end tokens
    largest_id: int  # of the tokenizer

    @classmethod
    def of(cls, request: LoadRequest, tokenizer: Tokenizer) -> "LanguageModelParts":
        return cls(request, tokenizer.encode(PROOF_SENTENCE), tokenizer.largest_id)

    @property
    def positions(self) -> int:
        """Of a slot: what is configured, at most what the model has embeddings for."""
        stated = self.request.files.config()
        known = [n for key in POSITION_KEYS if isinstance(n := stated.get(key), int)]
        return min(self.request.config.max_sequence_length, *known, PUBLISHED_POSITIONS)

    def embedding(self) -> EmbedGraph:
        """A session on embed_tokens. Raises ModelError where the tokenizer is another model's."""
        graph = EmbedGraph(self.request.open("embed_tokens"))
        self.must_have_rows(graph.has_row(self.largest_id, int(self.sentence[-1])))
        return graph

    def must_have_rows(self, enough: bool) -> None:
        """Raise ModelError unless the embedding has a row for each of the tokenizer's ids."""
        if not enough:
            files = self.request.files
            raise ModelError(
                f"{files.tokenizer} has ids up to {self.largest_id}, for which "
                f"{files.graph('embed_tokens').name} has no rows: they are of different models"
            )


def open_language_model(parts: LanguageModelParts) -> tuple[LanguageModel, str]:
    """The compiled form where it is proven equal, else the graph as published; and which it was."""
    config, settings = parts.request.config, parts.request.settings
    result = compiled_graph(parts)
    if isinstance(result, CompiledGraph):
        if result.embedder is not None:
            parts.must_have_rows(parts.largest_id < result.embedder.text_rows)
        rows = result.embedder or parts.embedding()
        return open_compiled(result, rows, config, settings, parts.positions)
    model = PublishedLanguageModel(
        parts.request.open("language_model"),
        parts.embedding(),
        slots=config.max_sequences,
        capacity=parts.positions,
        memory=Memory("cuda", settings.device_id) if settings.device == "cuda" else None,
    )
    how = "rows share a batch" if model.batched else "rows differ in a batch, so one by one"
    return model, f"as published ({result.reason}); {how}"


def compiled_graph(parts: LanguageModelParts) -> CompiledGraph | NotCompiled:
    """From the cache in the data directory, or compiled now: with the first options whose graph is
    proven."""
    request = parts.request
    options = default_options(request.settings.device, request.files.precisions["language_model"])
    asked = request.config.kv_dtype
    if asked != "auto":
        options = replace(options, cache=asked)
    end_id, path = int(parts.sentence[-1]), request.files.graph("embed_tokens")
    compiled = partial(
        request.compiled,
        LM_GRAPHS,
        embedding=lambda make: make(
            parts.embedding(), CODE_COUNT, TOKENS.stop, end_id=end_id, path=path
        ),
        sentence=parts.sentence,
    )
    result = compiled(options)
    if isinstance(result, NotCompiled) and options.cache == "int8":
        result = compiled(replace(options, cache="float"))  # which always passes where any does
    return result


def load(request: LoadRequest) -> LoadedModel:
    """Open all four graphs, the decoder beside the others where it can be."""
    config, settings, files = request.config, request.settings, request.files
    tokenizer = open_tokenizer(files.tokenizer)
    parts = LanguageModelParts.of(request, tokenizer)
    decoding, path = settings.on_gpu(config.decoder_device_id), files.graph("conditional_decoder")
    decoder = partial(request.with_decoder, lambda: open_decoder(config, path, decoding))
    with request.beside(decoder) as opened_decoder:
        language_model, note = request.with_model(lambda: open_language_model(parts))
        encoder = request.open("speech_encoder")
        opened = opened_decoder()
    return LoadedModel(
        info=request.info(f"language model: {note}", f"decoder: {opened.kind}, {opened.note}"),
        family=TURBO,
        prompts=TurboPrompts(tokenizer),
        language_model=language_model,
        decoder=opened.decoder,
        cloned=TurboVoices.of(encoder, files.fingerprint("speech_encoder")),
        sampling=request.sampling(),
        loudest_rms=LOUDEST_SPEECH_RMS,
    )


def compile_model(request: LoadRequest) -> list[str]:
    """Compile language model and decoder, or find them compiled; what was proven."""
    config, settings, files = request.config, request.settings, request.files
    graph = compiled_graph(LanguageModelParts.of(request, open_tokenizer(files.tokenizer)))
    path = files.graph("conditional_decoder")
    decoder, _ = decoder_graphs(config, path, settings, stream_settings(config, settings))
    return [f"language model: {graph.proof}", f"decoder: {decoder.form}, {decoder.note}"]
