"""Lets a graph make its noise itself: from rows of a table, by the numbers that it is given."""

import onnx
from onnx import TensorProto, helper

from chatterbox.compile.decoder.graph_edit import NewNodes, replace_nodes
from chatterbox.runtime.decoder.graph_io import RandomOp
from chatterbox.runtime.decoder.noise_table import RowLayout
from chatterbox.runtime.decoder.shape_laws import LinearDim


def draw_from_table(model: onnx.ModelProto, op: RandomOp, law: list[LinearDim]) -> bool:
    """Replace the input of a random tensor by an input of row numbers; whether its shape is one
    that can be put together so."""
    graph, layout = model.graph, RowLayout.of(law)
    fed = next((i for i in graph.input if i.name == op.name), None)
    if fed is None or layout is None:
        return False
    kind = fed.type.tensor_type.elem_type
    graph.input.remove(fed)
    dims = [f"{op.rows}_{axis}" for axis in range(2 if layout.steps == 1 else 3)]
    graph.input.append(helper.make_tensor_value_info(op.rows, TensorProto.INT64, dims))
    new = NewNodes(graph, op.name)
    table = new.stored("table", layout.table(op).astype(helper.tensor_dtype_to_np_dtype(kind)))
    # By steps: [rows, time, width], as it is gathered; else [rows, width, time] of mel frames.
    by_steps, time_last = layout.steps == 1, law[2].per_code > 0
    made = new.add("Gather", [table, op.rows], "gathered", axis=0)
    if not by_steps:
        made = new.add("Reshape", [made, new.stored("shape", [0, layout.width, -1])], "joined")
    turned = [0, 2, 1] if by_steps == time_last else [0, 1, 2]
    new.add("Transpose", [made], perm=turned)
    replace_nodes(graph, [], new.nodes)
    return True
