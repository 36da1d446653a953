"""How does a selected model become something the engine can drive?

Knows which wrapper belongs to which graph; knows no request.
"""

from dataclasses import dataclass

from chatterbox.config import TTSConfig
from chatterbox.model.contract import Decoder, GraphName, LanguageModel, Precision, SpeechEncoder
from chatterbox.model.files import ModelFiles
from chatterbox.model.graphs import EmbedGraph, EncoderGraph, StockDecoder
from chatterbox.model.hub import Progress
from chatterbox.model.select import select
from chatterbox.model.sessions import SessionSettings, open_session, session_settings
from chatterbox.model.stock_lm import StockLanguageModel
from chatterbox.text.tokenizer import Tokenizer

PUBLISHED_POSITIONS = 8196
"""Rows of the published model's position table (its sidecar's size says so); used where
`config.json` does not give a number."""
POSITION_KEYS = ("n_positions", "max_position_embeddings", "n_ctx")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What was loaded, for people: /health, the console, benchmarks."""

    name: str
    precision: dict[GraphName, Precision]
    device: str
    fallback: str | None  # why `auto` settled for the embedded model
    notes: tuple[str, ...]  # what else the operator should know

    @property
    def precision_text(self) -> str:
        """One word when all graphs agree, else `graph=precision` for each."""
        values = set(self.precision.values())
        if len(values) == 1:
            return values.pop()
        return " ".join(f"{graph}={precision}" for graph, precision in self.precision.items())


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The parts the engine drives."""

    info: ModelInfo
    tokenizer: Tokenizer
    encoder: SpeechEncoder
    language_model: LanguageModel
    decoder: Decoder
    voice_key: str  # names the encoder: voices encoded under another key are encoded again


def load_model(config: TTSConfig, say: Progress) -> LoadedModel:
    """Select, check and open everything. Raises ModelError or ConfigError with one line."""
    settings = session_settings(config)
    selection = select(config, settings.device, say)
    files = selection.files
    embed = EmbedGraph(open_session(files.graph("embed_tokens"), settings))
    language_model, notes = _language_model(config, files, settings, embed)
    info = ModelInfo(
        name=selection.name,
        precision=files.precisions,
        device=settings.device,
        fallback=selection.fallback,
        notes=tuple(notes),
    )
    return LoadedModel(
        info=info,
        tokenizer=Tokenizer.from_file(files.tokenizer),
        encoder=EncoderGraph(open_session(files.graph("speech_encoder"), settings)),
        language_model=language_model,
        decoder=StockDecoder(open_session(files.graph("conditional_decoder"), settings)),
        voice_key=files.fingerprint("speech_encoder"),
    )


def _language_model(
    config: TTSConfig, files: ModelFiles, settings: SessionSettings, embed: EmbedGraph
) -> tuple[LanguageModel, list[str]]:
    stated = files.config()
    capacity = next(
        (int(stated[key]) for key in POSITION_KEYS if isinstance(stated.get(key), int)),
        PUBLISHED_POSITIONS,
    )
    model = StockLanguageModel(
        open_session(files.graph("language_model"), settings),
        embed,
        slots=config.max_batch_size,
        capacity=capacity,
    )
    if model.batched:
        return model, []
    return model, ["rows of this language model differ in a batch: they are stepped one by one"]
