"""Random-weight model for benchmarks, with the computation of the published model.

The language model and the embedding compute exactly what GPT-2 does, and at
full size their sidecars have the published files' sizes to the byte; the encoder and the decoder
are stand-ins of about the published cost.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.families.turbo.spec import END_OF_TEXT_ID, GRAPHS, STOP_CODE, GraphName
from chatterbox.hub.files import Precision
from tools.model_builder.embed_tokens import write_embed_tokens
from tools.model_builder.language_model import LanguageModelSize, write_language_model
from tools.model_builder.layout import text_ids, write_layout
from tools.model_builder.random_decoder import DecoderSize, write_conditional_decoder
from tools.model_builder.random_speech_encoder import EncoderSize, write_speech_encoder

Array = NDArray[Any]

NAME = "chatterbox-random"
INIT = 0.02  # GPT-2's standard deviation of fresh weights
BIAS_INIT = 0.01
ROW_INIT = 0.02
TEXT_SEED, SPEECH_SEED = 1, 2

PUBLISHED_LANGUAGE_MODEL = LanguageModelSize(
    layers=24, heads=16, head_dim=64, inner=4096, positions=8196, vocab=STOP_CODE + 1
)


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Dimensions of all four graphs; the defaults are the published ones."""

    language_model: LanguageModelSize = PUBLISHED_LANGUAGE_MODEL
    end_id: int = END_OF_TEXT_ID
    encoder: EncoderSize = field(default_factory=EncoderSize)
    decoder: DecoderSize = field(default_factory=DecoderSize)


def write_random(
    directory: Path,
    size: ModelSize,
    precisions: Iterable[Precision],
    graphs: Iterable[GraphName] = GRAPHS,
    seed: int = 0,
) -> None:
    """Write a model with random weights; every precision holds the same ones."""
    lm, folder, chosen = size.language_model, directory / "onnx", set(graphs)
    write_layout(directory, lm, size.end_id, NAME)
    for precision in precisions:
        if "embed_tokens" in chosen:
            tables = RandomTables(size, seed)
            write_embed_tokens(folder, precision, tables.text(), tables.speech(), size.end_id)
        if "language_model" in chosen:
            write_language_model(folder, precision, lm, RandomWeights(lm, seed))
        if "speech_encoder" in chosen:
            write_speech_encoder(folder, precision, size.encoder, lm.hidden)
        if "conditional_decoder" in chosen:
            write_conditional_decoder(folder, precision, size.decoder)


@dataclass(frozen=True, slots=True)
class RandomTables:
    """The two embedding tables."""

    size: ModelSize
    seed: int

    def text(self) -> Array:
        """[text ids, hidden]."""
        return self._rows(TEXT_SEED, text_ids(self.size.end_id))

    def speech(self) -> Array:
        """[6563, hidden]."""
        return self._rows(SPEECH_SEED, STOP_CODE + 1)

    def _rows(self, table: int, count: int) -> Array:
        rng = np.random.default_rng([self.seed, table])
        return _normal(rng, (count, self.size.language_model.hidden), ROW_INIT)


@dataclass(frozen=True, slots=True)
class RandomWeights:
    """Implements `Weights`, drawn as GPT-2's are before training."""

    size: LanguageModelSize
    seed: int

    def get(self, name: str, *shape: int) -> Array:
        """See `Weights.get`."""
        rng = np.random.default_rng([self.seed, *name.encode()])
        if name.endswith("gamma"):
            return _normal(rng, shape, INIT) + np.float32(1)
        if name.endswith(("beta", "bias")):
            return _normal(rng, shape, BIAS_INIT)
        residual = name.endswith(("out", "down"))
        return _normal(rng, shape, INIT / (2 * self.size.layers) ** 0.5 if residual else INIT)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> Array:
    values = rng.standard_normal(shape, np.float32)
    values *= np.float32(deviation)
    return values
