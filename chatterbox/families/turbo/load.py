"""Opens Chatterbox Turbo: its tokenizer, prompts, language model, decoder and voices."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from chatterbox.arrays import I64
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
from chatterbox.runtime.embedding import START_IDS, CodeTable, EmbeddingSession
from chatterbox.runtime.kv_slots import PrefixedPrompt
from chatterbox.runtime.published_lm import PublishedLanguageModel

END_OF_TEXT = "<|endoftext|>"
"""Token that `tokenizer.json` appends to a text, `START_IDS` times."""
PROOF_SENTENCE = "Well, the quick brown fox jumps over the lazy dog, and then it rests."
"""Text spoken by the compiled and the published graph to prove them equal."""
PUBLISHED_POSITIONS = 8196
"""Rows of the published model's position table, according to the size of its sidecar. Limits the
capacity unless `config.json` states a lower limit."""
POSITION_KEYS = ("n_positions", "max_position_embeddings", "n_ctx")


def open_tokenizer(path: Path) -> Tokenizer:
    """Open the tokenizer, which recognises the model's tags in texts. Raises ModelError if
    `tokenizer.json` is damaged or lacks the end token."""
    tokenizer = Tokenizer.from_file(path, lambda content: content[1:-1] in TAGS)
    end_id = tokenizer.library.token_to_id(END_OF_TEXT)
    if end_id is None:
        raise ModelError(f"{path.name} has no token {END_OF_TEXT}")
    return replace(tokenizer, ends=(end_id,) * START_IDS)


@dataclass(frozen=True, slots=True)
class TurboPrompts:
    """Implements `Prompts`: the voice's conditioning rows, then the text's ids."""

    tokenizer: Tokenizer

    def prompt(self, text: str, voice: Voice) -> PrefixedPrompt:
        return self.prefix(voice).with_text(self.tokenizer.encode(text))

    def prefix(self, voice: Voice) -> PrefixedPrompt:
        return PrefixedPrompt(voice.key, voice.data.features, np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class LanguageModelParts:
    """The data from which a language model is opened."""

    request: LoadRequest
    sentence: I64  # ids of PROOF_SENTENCE, with the end tokens
    largest_id: int  # largest id of the tokenizer

    @classmethod
    def of(cls, request: LoadRequest, tokenizer: Tokenizer) -> "LanguageModelParts":
        return cls(request, tokenizer.encode(PROOF_SENTENCE), tokenizer.largest_id)

    @property
    def capacity(self) -> int:
        """Positions in a slot: the setting, limited by the model's position embeddings."""
        config = self.request.files.config()
        limits = [n for key in POSITION_KEYS if isinstance(n := config.get(key), int)]
        return min(self.request.config.max_sequence_length, *limits, PUBLISHED_POSITIONS)

    def embedding(self) -> EmbeddingSession:
        """Open embed_tokens. Raises ModelError if the tokenizer belongs to another model."""
        embedding = EmbeddingSession(self.request.open("embed_tokens"))
        self.check_rows(embedding.has_row(self.largest_id, int(self.sentence[-1])))
        return embedding

    def check_rows(self, has_all: bool) -> None:
        """Raise ModelError unless the embedding has a row for each of the tokenizer's ids."""
        if not has_all:
            files = self.request.files
            raise ModelError(
                f"{files.tokenizer} has ids up to {self.largest_id}, for which "
                f"{files.graph('embed_tokens').name} has no rows: they belong to different models"
            )


def open_language_model(parts: LanguageModelParts) -> tuple[LanguageModel, str]:
    """Open the compiled graph if it is proven equal, or else the published graph. Returns the model
    and a note for the operator."""
    config, settings = parts.request.config, parts.request.settings
    result = compiled_graph(parts)
    if isinstance(result, CompiledGraph):
        if result.embedder is not None:
            parts.check_rows(parts.largest_id < result.embedder.text_rows)
        embed = result.embedder or CodeTable(parts.embedding(), TOKENS.vocabulary)
        return open_compiled(result, embed, config, settings, parts.capacity)
    model = PublishedLanguageModel(
        parts.request.open("language_model"),
        parts.embedding(),
        slots=config.max_sequences,
        capacity=parts.capacity,
        memory=Memory("cuda", settings.device_id) if settings.device == "cuda" else None,
    )
    how = "rows share a batch" if model.batched else "one row at a time (rows differ in a batch)"
    return model, f"as published ({result.reason}); {how}"


def compiled_graph(parts: LanguageModelParts) -> CompiledGraph | NotCompiled:
    """Return the compiled graph, from the cache or compiled now. An int8 cache that fails its proof
    is replaced by a float cache."""
    request = parts.request
    options = default_options(request.settings.device, request.files.precisions["language_model"])
    if request.config.kv_dtype != "auto":
        options = replace(options, cache=request.config.kv_dtype)
    end_id, path = int(parts.sentence[-1]), request.files.graph("embed_tokens")
    compiled = partial(
        request.compiled,
        ["language_model", "embed_tokens"],
        embedding=lambda make: make(
            parts.embedding(), CODE_COUNT, TOKENS.stop, end_id=end_id, path=path
        ),
        sentence=parts.sentence,
    )
    result = compiled(options)
    if isinstance(result, NotCompiled) and options.cache == "int8":
        result = compiled(replace(options, cache="float"))
    return result


def load(request: LoadRequest) -> LoadedModel:
    """Open all four graphs; if possible, open the decoder concurrently with the others."""
    config, settings, files = request.config, request.settings, request.files
    tokenizer = open_tokenizer(files.tokenizer)
    parts = LanguageModelParts.of(request, tokenizer)
    decoding, path = settings.on_gpu(config.decoder_device_id), files.graph("conditional_decoder")
    decoder = partial(request.in_decoder_thread, lambda: open_decoder(config, path, decoding))
    with request.in_background(decoder) as opened_decoder:
        language_model, note = request.in_model_thread(lambda: open_language_model(parts))
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
    """Compile language model and decoder unless they are in the cache. Returns notes on the
    proofs."""
    config, settings, files = request.config, request.settings, request.files
    graph = compiled_graph(LanguageModelParts.of(request, open_tokenizer(files.tokenizer)))
    path = files.graph("conditional_decoder")
    decoder, _ = decoder_graphs(config, path, settings, stream_settings(config, settings))
    return [f"language model: {graph.proof}", f"decoder: {decoder.form}, {decoder.note}"]
