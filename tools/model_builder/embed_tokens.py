"""Writes the embedding graph: two tables, selected by the position of an id.

All ids but the last two are text; the last two, and an id standing alone, are speech. The text's
own end id among them is the start code: in the published model it lies above every speech code, in
a small one it does not, so a lone id is never taken for it.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.families.turbo.spec import START_CODE
from chatterbox.hub.files import Precision
from tools.model_builder.graph import Graph, ints

Array = NDArray[Any]


def write_embed_tokens(
    folder: Path, precision: Precision, text: Array, speech: Array, end_id: int
) -> None:
    """Write `embed_tokens<suffix>.onnx` from tables [ids, hidden] and [codes, hidden]."""
    with Graph(folder, "embed_tokens", precision) as g:
        ids = g.input("input_ids", np.int64, ["batch", "sequence"])
        length = g.shape(ids, 1)
        before = g.op("Max", g.op("Sub", length, ints(2)), ints(0))
        text_ids = g.op("Slice", ids, ints(0), before, ints(1))
        last = g.op("Slice", ids, before, length, ints(1))
        is_end = g.op("Equal", last, ints(end_id))
        is_start = g.op("And", is_end, g.op("Greater", length, ints(1)))
        codes = g.op("Where", is_start, ints(START_CODE), last)
        rows = g.op("Concat", g.lookup(text, text_ids), g.lookup(speech, codes), axis=1)
        g.output("inputs_embeds", g.f32(rows), np.float32, ["batch", "sequence", text.shape[1]])
