"""The model card's loop over the four graphs, in NumPy.

Knows nothing of the engine, so that it can contradict it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from chatterbox.families.turbo.spec import GRAPHS
from chatterbox.hub.files import PRECISION_SUFFIX, PRECISIONS, Precision

Array = NDArray[Any]
SOME_PRECISIONS = [
    p if p in ("fp16", "q4") else pytest.param(p, marks=pytest.mark.slow) for p in PRECISIONS
]
"""For what takes long; the slow tests try the others."""
START, STOP, SILENCE = 6561, 6562, 4299


def open_graph(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Sampling:
    temperature: float = 0.8
    top_k: int = 1000
    top_p: float = 0.95
    penalty: float = 1.2

    def draw(self, logits: Array, history: list[int], rng: np.random.Generator) -> int:
        scores = logits.astype(np.float64) / self.temperature
        scores[START] = -np.inf
        order = np.argsort(-scores)[: self.top_k]
        shares = np.exp(scores[order] - scores[order[0]])
        shares /= shares.sum()
        kept = order[np.cumsum(shares) - shares < self.top_p]
        final = scores[kept]
        repeated = np.isin(kept, history)
        final[repeated] = np.where(
            final[repeated] < 0, final[repeated] * self.penalty, final[repeated] / self.penalty
        )
        weights = np.exp(final - final.max())
        return int(kept[np.searchsorted(np.cumsum(weights), rng.random() * weights.sum())])


@dataclass
class Model:
    """Four sessions of one precision, opened when first used."""

    directory: Path
    precision: Precision
    sessions: dict[str, ort.InferenceSession] = field(default_factory=dict)

    def session(self, graph: str) -> ort.InferenceSession:
        assert graph in GRAPHS
        if graph not in self.sessions:
            name = f"{graph}{PRECISION_SUFFIX[self.precision]}.onnx"
            self.sessions[graph] = open_graph(self.directory / "onnx" / name)
        return self.sessions[graph]

    def encode(self, audio: Array) -> list[Array]:
        batch = np.atleast_2d(audio).astype(np.float32)
        return list(self.session("speech_encoder").run(None, {"audio_values": batch}))

    def embed(self, ids: Array) -> Array:
        return self.session("embed_tokens").run(None, {"input_ids": np.asarray(ids, np.int64)})[0]

    def text_ids(self, text: str) -> list[int]:
        return Tokenizer.from_file(str(self.directory / "tokenizer.json")).encode(text).ids

    def empty_cache(self, batch: int = 1) -> list[Array]:
        caches = []
        for given in self.session("language_model").get_inputs()[3:]:
            kind = np.float16 if given.type == "tensor(float16)" else np.float32
            caches.append(np.zeros((batch, given.shape[1], 0, given.shape[3]), kind))
        return caches

    def step(
        self, embeds: Array, mask: Array, positions: Array, cache: list[Array]
    ) -> tuple[Array, list[Array]]:
        session = self.session("language_model")
        values = [embeds, mask.astype(np.int64), positions.astype(np.int64), *cache]
        names = [given.name for given in session.get_inputs()]
        logits, *cache = session.run(None, dict(zip(names, values, strict=True)))
        return logits, list(cache)

    def prefill(self, features: Array, text: str) -> tuple[Array, list[Array]]:
        rows = np.concatenate([features, self.embed([self.text_ids(text)])], axis=1)
        count = rows.shape[1]
        return self.step(rows, np.ones((1, count)), np.arange(count)[None], self.empty_cache())

    def speak(
        self,
        features: Array,
        text: str,
        seed: int = 0,
        limit: int = 1000,
        sampling: Sampling = Sampling(),
    ) -> list[int]:
        """Codes; the last one is STOP when the model ended by itself."""
        rng = np.random.default_rng(seed)
        logits, cache = self.prefill(features, text)
        codes: list[int] = []
        while len(codes) < limit:
            codes.append(sampling.draw(logits[0, -1], codes or [START], rng))
            if codes[-1] == STOP:
                break
            past = cache[0].shape[2]
            logits, cache = self.step(
                self.embed([[codes[-1]]]), np.ones((1, past + 1)), np.array([[past]]), cache
            )
        return codes

    def decode(self, codes: list[int], voice: list[Array]) -> Array:
        _, prompt, speaker, mel = voice
        tokens = np.concatenate([prompt, np.array([[*codes, SILENCE, SILENCE, SILENCE]])], axis=1)
        names = ("speech_tokens", "speaker_embeddings", "speaker_features")
        feeds = dict(zip(names, (tokens, speaker, mel), strict=True))
        return self.session("conditional_decoder").run(None, feeds)[0]


def voice_like(f0_hz: float, seconds: float, resonance_hz: float = 700.0, seed: int = 0) -> Array:
    """Something like a reference: a gliding buzz in syllables, through one resonance."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 24_000)) / 24_000
    f0 = f0_hz * (1 + 0.08 * np.sin(2 * np.pi * 0.7 * time))
    phase = 2 * np.pi * np.cumsum(f0) / 24_000
    sound = np.zeros_like(time)
    for harmonic in range(1, int(7000 / f0_hz)):
        level = 1 / (1 + ((harmonic * f0_hz - resonance_hz) / 300) ** 2) + 0.3 / harmonic
        sound += level * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 2.3 * time) + 0.6, 0, 1)
    sound = sound * syllables + 0.003 * rng.standard_normal(len(time))
    return (0.08 * sound / sound.std()).astype(np.float32)
