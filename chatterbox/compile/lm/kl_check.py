"""Measures what a coarser cache changes in what is said, as Kullback-Leibler divergence.

Random rows cannot tell: a model whose attention is sharp where it speaks survives them and still
misses its own stop code. So the finer graph speaks a sentence, drawing codes as the server would,
the coarser one follows, and the distributions that the next code is drawn from are compared at
every step.
"""

from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64
from chatterbox.compile.lm.equivalence import sampled_voice
from chatterbox.runtime.bound_call import GraphShape
from chatterbox.runtime.embedding import Embedder
from chatterbox.runtime.kv_slots import PrefixedPrompt, SlottedLanguageModel

VOICE_ROWS = 250  # a voice of 10 s
TAKES = 2
MOST_CODES = 80  # of a take
TEMPERATURE = 0.8  # as a server draws


@dataclass(frozen=True, slots=True)
class Divergence:
    """Kullback-Leibler divergence of the coarser graph's next-code distributions from the finer
    one's, in nats."""

    mean: float
    worst: float
    steps: int


def divergence(
    finer: ort.InferenceSession,
    coarser: ort.InferenceSession,
    embed: Embedder,
    sentence: I64,
    stop: frozenset[int],
) -> Divergence:
    """`sentence`: ids of a text, its end tokens included. `stop`: tokens that end it."""
    wanted = VOICE_ROWS + len(sentence) + MOST_CODES
    room = min(wanted, GraphShape.of(finer).positions - 1)
    voice_rows = VOICE_ROWS * room // wanted  # a tiny model has room for a little of each
    text = sentence[-(len(sentence) * room // wanted) :]
    models = [
        SlottedLanguageModel(session, embed, slots=1, capacity=room, prefix_cache_bytes=0)
        for session in (finer, coarser)
    ]
    found: list[float] = []
    for take in range(TAKES):
        voice = sampled_voice(voice_rows, embed, take)
        found += _take(models, voice, text, room - voice_rows - len(text), take, stop)
    return Divergence(float(np.mean(found)), float(np.max(found)), len(found))


def _take(
    models: list[SlottedLanguageModel],
    voice: PrefixedPrompt,
    text: I64,
    codes: int,
    seed: int,
    stop: frozenset[int],
) -> list[float]:
    """The divergence after the text and after each code."""
    rng = np.random.default_rng(seed)
    finer, coarser = (_log_shares(model.prefill(0, voice.then(text))) for model in models)
    found = [_kl(finer, coarser)]
    for _ in range(codes):
        code = int((finer + rng.gumbel(size=finer.shape)).argmax())
        if code in stop:
            break
        one = np.array([code])
        finer, coarser = (_log_shares(model.decode([0], one)[0]) for model in models)
        found.append(_kl(finer, coarser))
    return found


def _log_shares(logits: F32) -> NDArray[np.float64]:
    scaled = logits.astype(np.float64) / TEMPERATURE
    scaled -= scaled.max()
    shares: NDArray[np.float64] = scaled - np.log(np.exp(scaled).sum())
    return shares


def _kl(finer: NDArray[np.float64], coarser: NDArray[np.float64]) -> float:
    return float((np.exp(finer) * (finer - coarser)).sum())
