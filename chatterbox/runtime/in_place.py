"""Opens a published graph that is stepped in place (`masked_lm.py`), once it is seen to do that."""

from typing import Any

import numpy as np
import onnxruntime as ort

from chatterbox.arrays import F32, I64
from chatterbox.config import TTSConfig
from chatterbox.errors import ModelError
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.cuda_graphs import Buckets
from chatterbox.runtime.embedding import TokenIds
from chatterbox.runtime.kv_prefix import PrefixedPrompt
from chatterbox.runtime.kv_slots import SlottedLanguageModel
from chatterbox.runtime.masked_lm import MaskedShape
from chatterbox.runtime.sessions import SessionSettings
from chatterbox.runtime.slotted import MIB

TOLERANCE = 0.02
"""Largest difference, in standard deviations of the logits, that counts as equal: fp16 rounding
stays below it, a row that reads another's past does not."""
TRIAL = ((0, 5), (2, 12))  # slots, and ids of their prompts
STEPS = 6

Columns = tuple[tuple[int, int], ...]


def open_in_place(
    session: ort.InferenceSession,
    ids: TokenIds,
    columns: Columns,
    config: TTSConfig,
    settings: SessionSettings,
    capacity: int,
) -> SlottedLanguageModel:
    """`columns`: of the logits those of tokens, from and up to; `capacity`: positions of a slot.
    Raises ModelError where the graph is of another form or does not step in place; and whatever
    onnxruntime does, where it cannot run so."""
    shape = MaskedShape.read(session, columns, capacity + 1)
    if settings.device == "cuda" and shape.kv_type != np.float16:
        raise ModelError("a GPU steps in place in fp16; choose fp16")
    model = SlottedLanguageModel(
        session,
        ids,
        slots=config.max_sequences,
        capacity=capacity,
        prefix_cache_bytes=config.kv_prefix_cache_mb * MIB,
        memory=Memory(settings.device, settings.device_id),
        buckets=Buckets(config.max_sequences, capture=False),
        shape=shape,
    )
    if not _steps_in_place(model, session, ids, columns):
        raise ModelError("its rows change each other, or their past")
    return model


def _steps_in_place(
    model: SlottedLanguageModel, session: ort.InferenceSession, ids: TokenIds, columns: Columns
) -> bool:
    """Whether rows of different length say together what each says alone."""
    rng = np.random.default_rng(0)
    prompts = {slot: rng.integers(0, 256, count) for slot, count in TRIAL if slot < model.slots}
    slots = list(prompts)
    tokens = rng.integers(0, 256, (STEPS, len(slots)))
    bare = {slot: PrefixedPrompt("", prompt[:0], prompt) for slot, prompt in prompts.items()}
    together = [np.stack([model.prefill(slot, bare[slot]) for slot in slots])]
    together += [model.decode(slots, row).copy() for row in tokens]
    alone = []
    for place, slot in enumerate(slots):
        pieces = [prompts[slot], *ids.codes(tokens[:, place])[:, None]]
        alone.append(_one_by_one(session, pieces, columns))
        model.free(slot)
    expected = np.stack(alone, axis=1)
    difference = np.abs(np.stack(together) - expected).max()
    return bool(difference <= TOLERANCE * (expected.std() + 1e-6))


def _one_by_one(session: ort.InferenceSession, pieces: list[I64], columns: Columns) -> F32:
    """Of one row, piece after piece, by its own past: logits [pieces, tokens]."""
    pasts = [i for i in session.get_inputs() if i.name.startswith("past_key_values.")]
    names = ["logits", *(i.name.replace("past_key_values", "present") for i in pasts)]
    kind = np.float16 if pasts[0].type == "tensor(float16)" else np.float32
    caches: list[Any] = [np.zeros((1, i.shape[1], 0, i.shape[3]), kind) for i in pasts]
    found, length = [], 0
    for piece in pieces:
        length += len(piece)
        feeds = {"input_ids": piece[None], "attention_mask": np.ones((1, length), np.int64)}
        feeds |= {past.name: cache for past, cache in zip(pasts, caches, strict=True)}
        logits, *caches = session.run(names, feeds)
        found.append(np.concatenate([logits[0, -1, begin:end] for begin, end in columns]))
    return np.stack(found)
