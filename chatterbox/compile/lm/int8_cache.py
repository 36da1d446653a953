"""Keeps keys and values in 8 bits, a fixed scale for each channel of each head, and measures what
that changes in what is said.

The scales come from running the compiled graph on rows of the model's own embedding. The cache is
four times smaller than in fp32, and reading it is most of a large batch's step. Random rows cannot
tell whether it is good enough: a model whose attention is sharp where it speaks survives them and
still misses its own stop code. So the finer graph speaks a sentence, drawing codes as the server
would, the coarser one follows, and the distributions that the next code is drawn from are compared
at every step.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from chatterbox.arrays import F32, I64
from chatterbox.compile.lm.equivalence import END_IDS, SURE_TEXT_IDS, sampled_voice
from chatterbox.runtime.bound_call import Call, CallMemory, GraphShape
from chatterbox.runtime.buffers import HostBuffer, Memory
from chatterbox.runtime.embedding import Embedder
from chatterbox.runtime.kv_slots import SlottedLanguageModel
from chatterbox.runtime.quantized_weights import Array

LARGEST = 127  # of a signed byte
HEADROOM = 1.25
"""Range beyond what the calibration showed; what lies beyond still is clipped."""
CALIBRATION_ROWS = 1024  # about the longest segment: voice, text and 20 s of codes
TEXT_SHARE = 0.2
SCALE_PLACE = 12  # of GroupQueryAttention's inputs: k_scale, then v_scale
VOICE_ROWS = 250  # a voice of 10 s
TAKES = 2
MOST_CODES = 80  # of a take
TEMPERATURE = 0.8  # as a server draws


def channel_ranges(session: ort.InferenceSession, embed: Embedder, tokens: int) -> list[Array]:
    """Largest |value| in each channel, [1, heads, 1, head_dim] for each layer's keys and values,
    over a long sequence of speech tokens and text."""
    shape = GraphShape.of(session)
    length = min(CALIBRATION_ROWS, shape.positions)
    rng = np.random.default_rng(2)
    codes = embed.codes(rng.integers(0, tokens, length))
    text = embed.text(rng.integers(0, SURE_TEXT_IDS, length + END_IDS))[:length]
    spoken = rng.random(length) >= TEXT_SHARE
    rows = text.copy()
    rows[spoken] = codes[spoken]
    caches = [HostBuffer(shape.cache_shape(1, length), np.float32) for _ in shape.past_names]
    shared = CallMemory(shape, Memory("cpu"), slots=1, most_new=length)
    call = Call(session, shared, slots=1, active=1, new=length)
    call.bind(caches)
    nothing = np.zeros(1, np.int64)
    call.run(rows[None], nothing, nothing, length)
    return [np.abs(cache.array).max(axis=2, keepdims=True) for cache in caches]


def use_int8_cache(graph: Path, ranges: Sequence[Array]) -> None:
    """Rewrite the compiled graph at `graph`; its weights stay as they are."""
    model = onnx.load(str(graph), load_external_data=False)
    attention = [node for node in model.graph.node if node.op_type == "GroupQueryAttention"]
    for place, node in enumerate(attention):
        names = []
        for offset, kind in enumerate(("key", "value")):
            scale = np.maximum(ranges[2 * place + offset], 1e-6) * (HEADROOM / LARGEST)
            names.append(f"{place}.{kind}_scale")
            tensor = numpy_helper.from_array(scale.astype(np.float32), names[-1])
            model.graph.initializer.append(tensor)
            node.attribute.append(helper.make_attribute(f"{kind[0]}_quant_type", "PER_CHANNEL"))
        node.attribute.append(helper.make_attribute("kv_cache_bit_width", 8))
        node.input.extend([""] * (SCALE_PLACE - len(node.input)) + names)
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
    """Kullback-Leibler divergence of the coarser graph's next-code distributions from the finer
    one's, in nats: its mean and the worst, after the text and after each code of some takes.
    `sentence`: ids of a text, its end tokens included. `stop`: tokens that end it."""
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
        rng, prompt = (
            np.random.default_rng(take),
            sampled_voice(voice_rows, embed, take).with_text(text),
        )
        fine, coarse = (_log_shares(model.prefill(0, prompt)) for model in models)
        found.append(_kl(fine, coarse))
        for _ in range(room - voice_rows - len(text)):
            code = int((fine + rng.gumbel(size=fine.shape)).argmax())
            if code in stop:
                break
            fine, coarse = (_log_shares(model.decode([0], np.array([code]))[0]) for model in models)
            found.append(_kl(fine, coarse))
    return float(np.mean(found)), float(np.max(found))


def _log_shares(logits: F32) -> NDArray[np.float64]:
    scaled = logits.astype(np.float64) / TEMPERATURE
    scaled -= scaled.max()
    shares: NDArray[np.float64] = scaled - np.log(np.exp(scaled).sum())
    return shares


def _kl(finer: NDArray[np.float64], coarser: NDArray[np.float64]) -> float:
    return float((np.exp(finer) * (finer - coarser)).sum())
