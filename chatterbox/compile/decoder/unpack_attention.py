"""Takes packed attention apart: `MultiHeadAttention` of three inputs, with its bias before it.

The operator also takes queries, keys and values packed, [rows, steps, heads, 3, width] (for which
onnxruntime has no kernel on a CPU), keys and values packed likewise, and one bias for all three.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from chatterbox.compile.decoder.fuse_attention import ATTENTION, BIAS, QUERY_KEY_VALUE
from chatterbox.compile.decoder.graph_edit import replace_nodes


def unpack_attention(model: onnx.ModelProto) -> None:
    """Give every attention queries, keys and values as three inputs, its bias already added."""
    graph = model.graph
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    added: list[onnx.NodeProto] = []
    for node in (n for n in graph.node if n.op_type == ATTENTION):
        inputs = [*node.input, *[""] * (BIAS + 1 - len(node.input))]
        name, parts = node.output[0], inputs[:QUERY_KEY_VALUE]
        if packed := [part for part in parts if part] if not parts[2] else []:
            shape = numpy_helper.from_array(np.array([0, 0, -1]), f"{name}/flat")
            graph.initializer.append(shape)
            split = _split_evenly(packed[-1], f"{name}/unpacked", 4 - len(packed), 3, opset)
            added.append(split)
            parts = packed[:-1]
            for part in split.output:
                added.append(helper.make_node("Reshape", [part, shape.name], [f"{part}/flat"]))
                parts.append(added[-1].output[0])
        if inputs[BIAS]:
            split = _split_evenly(inputs[BIAS], f"{name}/bias", QUERY_KEY_VALUE, 0, opset)
            pairs = list(zip(parts, split.output, strict=True))
            sums = [helper.make_node("Add", pair, [f"{pair[1]}/added"]) for pair in pairs]
            added += [split, *sums]
            parts = [total.output[0] for total in sums]
        node.input[:] = [*parts, *([""] if len(inputs) > BIAS + 1 else []), *inputs[BIAS + 1 :]]
    if added:
        replace_nodes(graph, [], added)


def _split_evenly(name: str, prefix: str, count: int, axis: int, opset: int) -> onnx.NodeProto:
    more = {"num_outputs": count} if opset >= 18 else {}
    outputs = [f"{prefix}/{i}" for i in range(count)]
    return helper.make_node("Split", [name], outputs, axis=axis, **more)
