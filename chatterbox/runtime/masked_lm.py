"""A published graph that is stepped in place: ids and an attention mask in, logits of every
position out (the form of onnxruntime-genai's builder).

Of the mask, only each row's sum counts, and its width. So rows of any length share a step as in our
own form (`kv_slots.py`): the sum says where a row's new position goes, the width is the slot's.
What that costs against our form: every slot of the range computes everything, and the whole
vocabulary's logits come out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64
from chatterbox.errors import ModelError
from chatterbox.runtime.bound_call import KV_TYPES, Call, GraphShape, Rows, bind_in_place
from chatterbox.runtime.buffers import Buffer, Memory, Window

PREFILL_ROWS = 64
"""Positions of a prefill in one call: the logits of each take as many bytes as the vocabulary four
times."""
INPUTS, OUTPUTS = {"input_ids", "attention_mask"}, {"logits"}
KINDS = ("key", "value")


@dataclass(frozen=True, slots=True)
class MaskedShape(GraphShape):
    """What such a graph's session says of itself."""

    width: int = 0  # of the logits
    columns: tuple[tuple[int, int], ...] = ()  # of them those of tokens, from and up to

    @classmethod
    def read(
        cls,
        session: ort.InferenceSession,
        columns: tuple[tuple[int, int], ...],
        positions: int,
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
            prefix_graph=b"",
            ids=True,
            rotary=True,
            prefill_rows=PREFILL_ROWS,
            width=width,
            columns=columns,
        )

    @property
    def past_names(self) -> list[str]:
        """Graph inputs of keys and values, layer by layer."""
        return [f"past_key_values.{i}.{kind}" for i in range(self.layers) for kind in KINDS]

    def call(
        self,
        session: ort.InferenceSession,
        memory: Memory,
        caches: Sequence[Buffer | Window],
        *,
        active: int,
        new: int,
        logits: Buffer | None = None,  # noqa: ARG002 - each call has memory of its own
    ) -> Call:
        """Of this graph; see `MaskedCall`."""
        assert active == caches[0].shape[0], "it has no rows that do not step"
        return MaskedCall(session, self, memory, caches, new=new)


class MaskedCall(Call):
    """`Call` of such a graph: every slot is a row of it."""

    def __init__(
        self,
        session: ort.InferenceSession,
        shape: MaskedShape,
        memory: Memory,
        caches: Sequence[Buffer | Window],
        *,
        new: int,
    ) -> None:
        slots, _, self._capacity, _ = caches[0].shape
        self._session = session
        self._memory = memory
        self._shape = shape
        self._new = new
        self._ids = memory.buffer((slots, new), np.int64)
        self._mask = memory.buffer((slots, self._capacity), np.int64)
        self._logits = memory.buffer((slots, new, shape.width), np.float32)
        self._binding = bind_in_place(session, shape, memory, caches)
        memory.bind_input(self._binding, "input_ids", self._ids)
        memory.bind_output(self._binding, "logits", self._logits)

    @property
    def signature(self) -> tuple[Any, ...]:
        """As `Call` has it."""
        return tuple((b.address, b.shape) for b in (self._ids, self._mask, self._logits))

    def run(
        self,
        values: Rows,  # [active, new]
        past: I64,
        active: I64,
        total_length: int,
        options: ort.RunOptions | None = None,
    ) -> F32:
        """As `Call` has it."""
        # A prefill's mask is as wide as its row is long: a first one is known by that.
        width = total_length if self._new > 1 else self._capacity
        if self._mask.shape[1] != width:
            self._mask = self._memory.buffer((len(past), width), np.int64)
        ids = np.zeros((len(past), self._new), np.int64)  # a slot that does not step: in vain
        ids[active] = values
        self._ids.put(ids)
        self._mask.put((np.arange(width) < past[:, None] + self._new).astype(np.int64))
        self._memory.bind_input(self._binding, "attention_mask", self._mask)
        self._session.run_with_iobinding(self._binding, options)
        last: NDArray[np.float32] = self._logits.get()[active, -1]
        return np.concatenate([last[:, begin:end] for begin, end in self._shape.columns], axis=1)
