"""Gives a language model an int8 key-value cache and measures the effect on its speech.

Each channel of each head has a fixed scale, found by running the compiled graph on rows of the
model's own embedding. The cache is four times smaller than in fp32, and reading it takes most of a
large batch's step. Random rows cannot prove that the cache is accurate enough: a model with sharp
attention passes them and still misses its stop code. Instead, the float graph speaks a sentence
with the server's sampling, the int8 graph gets the same codes, and the distributions of the next
code are compared at every step.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from chatterbox.arrays import F32, I64
from chatterbox.compile.lm.equivalence import END_IDS, MIN_TEXT_IDS, sampled_voice
from chatterbox.runtime.bound_call import Call, CallMemory, GraphShape
from chatterbox.runtime.buffers import HostBuffer, Memory
from chatterbox.runtime.embedding import Embedder
from chatterbox.runtime.kv_slots import SlottedLanguageModel
from chatterbox.runtime.quantized_weights import Array

INT8_MAX = 127
HEADROOM = 1.25
"""Factor on the range seen in calibration. Values beyond it are clipped."""
CALIBRATION_ROWS = 1024  # about the longest segment: voice, text and 20 s of codes
TEXT_SHARE = 0.2
SCALE_INPUT = 12  # index of GroupQueryAttention's input k_scale; v_scale follows
VOICE_ROWS = 250  # a voice of 10 s
TAKES = 2
MAX_CODES = 80  # per take
TEMPERATURE = 0.8  # the server's usual temperature


def channel_ranges(session: ort.InferenceSession, embed: Embedder, tokens: int) -> list[Array]:
    """Return the largest |value| in each channel over a long sequence of speech tokens and text:
    [1, heads, 1, head_dim] for each layer's keys and values."""
    shape = GraphShape.of(session)
    length = min(CALIBRATION_ROWS, shape.positions)
    rng = np.random.default_rng(2)
    codes = embed.codes(rng.integers(0, tokens, length))
    text = embed.text(rng.integers(0, MIN_TEXT_IDS, length + END_IDS))[:length]
    spoken = rng.random(length) >= TEXT_SHARE
    rows = text.copy()
    rows[spoken] = codes[spoken]
    caches = [HostBuffer(shape.cache_shape(1, length), np.float32) for _ in shape.past_names]
    shared = CallMemory(shape, Memory("cpu"), slots=1, most_new=length)
    call = Call(session, shared, slots=1, active=1, new=length)
    call.bind(caches)
    zero = np.zeros(1, np.int64)
    call.run(rows[None], zero, zero, length)
    return [np.abs(cache.array).max(axis=2, keepdims=True) for cache in caches]


def use_int8_cache(graph: Path, ranges: Sequence[Array]) -> None:
    """Rewrite the compiled graph at `graph` for an int8 cache. Its weights stay unchanged."""
    model = onnx.load(str(graph), load_external_data=False)
    attention = [node for node in model.graph.node if node.op_type == "GroupQueryAttention"]
    for layer, node in enumerate(attention):
        names = []
        for offset, kind in enumerate(("key", "value")):
            scale = np.maximum(ranges[2 * layer + offset], 1e-6) * (HEADROOM / INT8_MAX)
            names.append(f"{layer}.{kind}_scale")
            tensor = numpy_helper.from_array(scale.astype(np.float32), names[-1])
            model.graph.initializer.append(tensor)
            node.attribute.append(helper.make_attribute(f"{kind[0]}_quant_type", "PER_CHANNEL"))
        node.attribute.append(helper.make_attribute("kv_cache_bit_width", 8))
        node.input.extend([""] * (SCALE_INPUT - len(node.input)) + names)
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith(("past.", "present.")):
            value.type.tensor_type.elem_type = TensorProto.INT8
    onnx.save(model, str(graph))


def divergence(
    finer: ort.InferenceSession,
    coarser: ort.InferenceSession,
    embed: Embedder,
    sentence: I64,
    stop: frozenset[int],
) -> tuple[float, float]:
    """Return the mean and largest Kullback-Leibler divergence, in nats, of the coarser graph's
    next-code distributions from the finer graph's, over TAKES takes of a sentence.

    `sentence` are text ids including end tokens; `stop` are the codes that end speech.
    """
    wanted = VOICE_ROWS + len(sentence) + MAX_CODES
    room = min(wanted, GraphShape.of(finer).positions - 1)
    voice_rows = VOICE_ROWS * room // wanted  # a tiny model gets a shorter voice and text
    text = sentence[-(len(sentence) * room // wanted) :]
    models = [
        SlottedLanguageModel(session, embed, slots=1, capacity=room, prefix_cache_bytes=0)
        for session in (finer, coarser)
    ]
    divergences: list[float] = []
    for take in range(TAKES):
        rng, prompt = (
            np.random.default_rng(take),
            sampled_voice(voice_rows, embed, take).with_text(text),
        )
        fine, coarse = (_log_softmax(model.prefill(0, prompt)) for model in models)
        divergences.append(_kl(fine, coarse))
        for _ in range(room - voice_rows - len(text)):
            code = int((fine + rng.gumbel(size=fine.shape)).argmax())
            if code in stop:
                break
            forced = np.array([code])
            fine, coarse = (_log_softmax(model.decode([0], forced)[0]) for model in models)
            divergences.append(_kl(fine, coarse))
    return float(np.mean(divergences)), float(np.max(divergences))


def _log_softmax(logits: F32) -> NDArray[np.float64]:
    scaled = logits.astype(np.float64) / TEMPERATURE
    scaled -= scaled.max()
    result: NDArray[np.float64] = scaled - np.log(np.exp(scaled).sum())
    return result


def _kl(finer: NDArray[np.float64], coarser: NDArray[np.float64]) -> float:
    return float((np.exp(finer) * (finer - coarser)).sum())
