"""Lets a graph make its noise itself: from rows of a table, by the numbers that it is given."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from chatterbox.compile.decoder.graph_edit import replace_nodes
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
    table = layout.table(op).astype(helper.tensor_dtype_to_np_dtype(kind))
    graph.initializer.append(numpy_helper.from_array(table, f"{op.name}.table"))
    dims = [f"{op.rows}_{axis}" for axis in range(2 if layout.steps == 1 else 3)]
    graph.input.append(helper.make_tensor_value_info(op.rows, TensorProto.INT64, dims))
    # By steps: [rows, time, width], as it is gathered; else [rows, width, time] of mel frames.
    time_last = law[2].per_code > 0
    gathered, turned = f"{op.name}.gathered", layout.steps > 1
    nodes = [helper.make_node("Gather", [f"{op.name}.table", op.rows], [gathered], axis=0)]
    if turned:
        shape = numpy_helper.from_array(np.array([0, layout.width, -1]), f"{op.name}.shape")
        graph.initializer.append(shape)
        nodes.append(helper.make_node("Reshape", [gathered, shape.name], [f"{gathered}.joined"]))
    if turned != time_last:
        source = nodes[-1].output[0]
        nodes.append(helper.make_node("Transpose", [source], [f"{source}.t"], perm=[0, 2, 1]))
    nodes[-1].output[0] = op.name
    replace_nodes(graph, [], nodes)
    return True
