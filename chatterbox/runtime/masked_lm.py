"""A published graph that is stepped in place: ids and an attention mask in, logits of every
position out (the form of onnxruntime-genai's builder).

Of the mask, only each row's sum counts, and its width. So rows of any length share a step as in our
own form (`kv_slots.py`): the sum says where a row's new position goes, the width is the slot's.
What that costs against our form: every slot of the range computes everything, and the whole
vocabulary's logits come out. It is opened once it is seen to do that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from chatterbox.arrays import F32, I64
from chatterbox.config import TTSConfig
from chatterbox.errors import ModelError
from chatterbox.runtime.bound_call import IDS, KV_TYPES, Call, GraphShape, Rows
from chatterbox.runtime.buffers import Fields, Memory, Window
from chatterbox.runtime.compiled_lm import MIB
from chatterbox.runtime.cuda_graphs import Buckets
from chatterbox.runtime.embedding import TokenIds
from chatterbox.runtime.kv_slots import PrefixedPrompt, SlottedLanguageModel
from chatterbox.runtime.sessions import SessionSettings

PREFILL_ROWS = 64
"""Positions of a prefill in one call: the logits of each take as many bytes as the vocabulary four
times."""
MASK = "attention_mask"
INPUTS, OUTPUTS = {IDS, MASK}, {"logits"}
KINDS = ("key", "value")


@dataclass(frozen=True, slots=True)
class MaskedShape(GraphShape):
    """What such a graph's session says of itself."""

    columns: tuple[tuple[int, int], ...] = ()  # of the logits those of tokens, from and up to

    @classmethod
    def read(
        cls, session: ort.InferenceSession, columns: tuple[tuple[int, int], ...], positions: int
    ) -> "MaskedShape":
        """From the session's metadata. Raises ModelError where it is of another form."""
        inputs = {i.name: i for i in session.get_inputs()}
        outputs = {o.name: o for o in session.get_outputs()}
        pasts = [name for name in inputs if name.startswith("past_key_values.")]
        key = inputs.get("past_key_values.0.key")
        missing = (INPUTS - inputs.keys()) | (OUTPUTS - outputs.keys())
        other = inputs.keys() - INPUTS - set(pasts)
        if key is None or missing or other:
            odd = ", ".join(sorted(missing or other or {"past_key_values.0.key"}))
            raise ModelError(f"the language model is of another form: {odd}")
        _, heads, _, head_dim = key.shape
        width = outputs["logits"].shape[-1]
        if not all(isinstance(number, int) for number in (heads, head_dim, width)):
            raise ModelError("the language model does not say how wide it is")
        return cls(
            layers=len(pasts) // 2,
            heads=heads,
            head_dim=head_dim,
            hidden=0,
            vocab=sum(end - begin for begin, end in columns),
            positions=positions,
            kv_type=KV_TYPES[key.type],
            inputs=frozenset(inputs),
            prefill_rows=PREFILL_ROWS,
            width=width,
            columns=columns,
        )

    @property
    def past_names(self) -> list[str]:
        return [f"past_key_values.{i}.{kind}" for i in range(self.layers) for kind in KINDS]

    @property
    def call(self) -> type[Call]:
        return MaskedCall

    def fields(self, slots: int, active: int, new: int, *, by_ids: bool) -> Fields:  # noqa: ARG002
        """The mask as wide as it can be."""
        assert active == slots, "it has no rows that do not step"
        return {IDS: ((slots, new), np.int64), MASK: ((slots, self.positions), np.int64)}

    def logits(self, slots: int, active: int, new: int) -> tuple[int, ...]:  # noqa: ARG002
        """Of every position, over the whole vocabulary."""
        return slots, new, self.width


class MaskedCall(Call):
    """`Call` of such a graph: every slot is a row of it."""

    def bind(self, caches: Sequence[Window]) -> None:
        super().bind(caches)
        self._capacity = caches[0].shape[2]

    def run(
        self,
        given: Rows,  # [active, new]
        past: I64,
        active: I64,
        total_length: int,
        options: ort.RunOptions | None = None,
    ) -> F32:
        shared = self._shared
        assert isinstance(shared.shape, MaskedShape)
        # A prefill's mask is as wide as its row is long: a first one is known by that.
        width = total_length if self._new > 1 else self._capacity
        at, mask = shared.inputs.window(self._offsets[MASK], (len(past), width), np.int64)
        shared.memory.bind_input(self._binding, MASK, at)
        mask[...] = np.arange(width) < past[:, None] + self._new
        ids = self._inputs[IDS]
        ids[...] = 0  # a slot that does not step: in vain
        ids[active] = given
        shared.inputs.up(self._nbytes)
        self._session.run_with_iobinding(self._binding, options)
        shared.logits.down(self._logits.nbytes)
        last = self._logits[active, -1]
        return np.concatenate([last[:, begin:end] for begin, end in shared.shape.columns], axis=1)


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
