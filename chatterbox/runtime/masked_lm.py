"""Steps a published graph with its cache updated in place: ids and an attention mask in, logits of
every position out (the form that onnxruntime-genai's builder writes).

The graph uses only the mask's width, which is the slot's capacity, and the sum of each mask row,
which is the position of the sequence's next token. Sequences of any length can therefore share a
step, as in `kv_slots.py`. This is slower than a compiled graph: every operator runs for every slot
of the range, and logits are computed for the whole vocabulary. A trial at opening shows whether a
graph works this way.
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
from chatterbox.runtime.buffers import Fields, Memory, TensorView
from chatterbox.runtime.compiled_lm import MIB
from chatterbox.runtime.cuda_graphs import Buckets
from chatterbox.runtime.embedding import TokenIds
from chatterbox.runtime.kv_slots import PrefixedPrompt, SlottedLanguageModel
from chatterbox.runtime.sessions import SessionSettings

PREFILL_ROWS = 64
"""Most positions of one prefill call: each has logits for the whole vocabulary, 4 bytes each."""
MASK = "attention_mask"
PAST = "past_key_values"
Columns = tuple[tuple[int, int], ...]
"""Columns of the logits that belong to tokens, in the tokens' order: ranges [begin, end)."""


@dataclass(frozen=True, slots=True)
class MaskedShape(GraphShape):
    """Dimensions and inputs of a published graph with an attention mask."""

    columns: Columns = ()

    @classmethod
    def read(cls, session: ort.InferenceSession, columns: Columns, positions: int) -> "MaskedShape":
        """Read the shape from a session. Raises ModelError when the graph has another form."""
        inputs = {i.name: i for i in session.get_inputs()}
        outputs = {o.name: o for o in session.get_outputs()}
        pasts = {name for name in inputs if name.startswith(f"{PAST}.")}
        first = f"{PAST}.0.key"
        unexpected = inputs.keys() - {IDS, MASK} - pasts
        missing = ({IDS, MASK, first} - inputs.keys()) | ({"logits"} - outputs.keys())
        if missing or unexpected:
            odd = ", ".join(sorted(missing or unexpected))
            raise ModelError(f"the language model is of another form: {odd}")
        _, heads, _, head_dim = inputs[first].shape
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
            kv_type=KV_TYPES[inputs[first].type],
            inputs=frozenset(inputs),
            prefill_rows=PREFILL_ROWS,
            width=width,
            columns=columns,
        )

    @property
    def past_names(self) -> list[str]:
        return [f"{PAST}.{i}.{kind}" for i in range(self.layers) for kind in ("key", "value")]

    @property
    def call_type(self) -> type[Call]:
        return MaskedCall

    def fields(self, slots: int, active: int, new: int, *, by_ids: bool) -> Fields:  # noqa: ARG002
        """Return the inputs of a call, with the mask at its greatest width."""
        assert active == slots, "every slot is a row of such a graph"
        return {IDS: ((slots, new), np.int64), MASK: ((slots, self.positions), np.int64)}

    def logits(self, slots: int, active: int, new: int) -> Fields:  # noqa: ARG002
        """Return the output of a call: logits of every position, over the whole vocabulary."""
        return {"logits": ((slots, new, self.width), np.float32)}


class MaskedCall(Call):
    """A `Call` of a graph with an attention mask, in which every slot is a row."""

    def bind(self, caches: Sequence[TensorView]) -> None:
        super().bind(caches)
        self._capacity = caches[0].shape[2]

    def run(
        self,
        rows: Rows,  # [active, new]
        past: I64,
        active: I64,
        total_length: int,
        options: ort.RunOptions | None = None,
    ) -> F32:
        shared = self._shared
        assert isinstance(shared.shape, MaskedShape)
        # The graph recognises a first prefill by a mask as wide as the row is long.
        width = total_length if self._new > 1 else self._capacity
        size = len(past), width
        at = TensorView(self._inputs.device[MASK].address, size, np.int64)
        shared.memory.bind_input(self._binding, MASK, at)
        mask = self._inputs.host[MASK].reshape(-1)[: len(past) * width].reshape(size)
        mask[...] = np.arange(width) < past[:, None] + self._new
        ids = self._inputs.host[IDS]
        ids[...] = 0  # of an inactive slot, whose result is unused
        ids[active] = rows
        last = self._execute(options)[active, -1]
        return np.concatenate([last[:, begin:end] for begin, end in shared.shape.columns], axis=1)


TOLERANCE = 0.02
"""Largest difference that counts as equal, in standard deviations of the logits. Rounding in fp16
stays below it; a row that reads another row's past does not."""
TRIAL = ((0, 5), (2, 12))  # slots of the trial's rows, and the lengths of their prompts
STEPS = 6


def open_in_place(
    session: ort.InferenceSession,
    ids: TokenIds,
    columns: Columns,
    config: TTSConfig,
    settings: SessionSettings,
    capacity: int,
) -> SlottedLanguageModel:
    """Open a language model on a published graph, with `capacity` positions in each slot.

    Raises ModelError when the graph has another form or fails the trial, and onnxruntime's own
    exceptions when it cannot run this way.
    """
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
    if not _rows_are_independent(model, session, ids, columns):
        raise ModelError("its rows change each other, or their past")
    return model


def _rows_are_independent(
    model: SlottedLanguageModel, session: ort.InferenceSession, ids: TokenIds, columns: Columns
) -> bool:
    """Return whether rows of different length have the same logits together as alone."""
    rng = np.random.default_rng(0)
    prompts = {slot: rng.integers(0, 256, count) for slot, count in TRIAL if slot < model.slots}
    slots = list(prompts)
    tokens = rng.integers(0, 256, (STEPS, len(slots)))
    first = [model.prefill(s, PrefixedPrompt("", text[:0], text)) for s, text in prompts.items()]
    together = [np.stack(first), *(model.decode(slots, row).copy() for row in tokens)]
    alone = []
    for place, slot in enumerate(slots):
        pieces = [prompts[slot], *ids.codes(tokens[:, place])[:, None]]
        alone.append(_logits_alone(session, pieces, columns))
        model.free(slot)
    expected = np.stack(alone, axis=1)
    difference = np.abs(np.stack(together) - expected).max()
    return bool(difference <= TOLERANCE * (expected.std() + 1e-6))


def _logits_alone(session: ort.InferenceSession, pieces: list[I64], columns: Columns) -> F32:
    """Run one row piece by piece with a growing cache. Returns logits [pieces, tokens]."""
    pasts = [i for i in session.get_inputs() if i.name.startswith(f"{PAST}.")]
    names = ["logits", *(i.name.replace(PAST, "present") for i in pasts)]
    kv_type = np.float16 if pasts[0].type == "tensor(float16)" else np.float32
    caches: list[Any] = [np.zeros((1, i.shape[1], 0, i.shape[3]), kv_type) for i in pasts]
    rows, length = [], 0
    for piece in pieces:
        length += len(piece)
        feeds = {IDS: piece[None], MASK: np.ones((1, length), np.int64)}
        feeds |= {past.name: cache for past, cache in zip(pasts, caches, strict=True)}
        logits, *caches = session.run(names, feeds)
        rows.append(np.concatenate([logits[0, -1, begin:end] for begin, end in columns]))
    return np.stack(rows)
