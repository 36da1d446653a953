"""Write the graph that copies a voice's prefix into a slot, and put it into the compiled graph's
metadata, where the runtime finds it."""

import base64

import onnx
from onnx import TensorProto, helper

from chatterbox.runtime.bound_call import PREFIX_GRAPH_KEY

OPSET = 17


def add_prefix_graph(model: onnx.ModelProto) -> None:
    """For the caches that `model` has now; one that was there before is replaced."""
    kept = [entry for entry in model.metadata_props if entry.key != PREFIX_GRAPH_KEY]
    pasts = [i for i in model.graph.input if i.name.startswith("past.")]
    tensor = pasts[0].type.tensor_type
    heads, head_dim = (tensor.shape.dim[axis].dim_value for axis in (1, 3))
    made = prefix_graph(len(pasts), heads, head_dim, tensor.elem_type)
    text = base64.b64encode(made).decode()
    kept.append(onnx.StringStringEntryProto(key=PREFIX_GRAPH_KEY, value=text))
    copies = [onnx.StringStringEntryProto.FromString(e.SerializeToString()) for e in kept]
    del model.metadata_props[:]
    model.metadata_props.extend(copies)


def prefix_graph(caches: int, heads: int, head_dim: int, kind: int) -> bytes:
    """Prefixes [1, heads, rows, head_dim] and pads in, slots [1, heads, capacity, head_dim] out;
    `kind`: ONNX's number of their type."""
    short, full = ([1, heads, length, head_dim] for length in ("rows", "capacity"))
    value = helper.make_tensor_value_info
    names = [(f"prefix.{place}", f"slot.{place}") for place in range(caches)]
    padding = helper.make_graph(
        [helper.make_node("Pad", [source, "pads"], [target]) for source, target in names],
        "prefix",
        [
            value("pads", TensorProto.INT64, [8]),
            *(value(name, kind, short) for name, _ in names),
        ],
        [value(name, kind, full) for _, name in names],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(padding, opset_imports=opsets, ir_version=9)
    return bytes(made.SerializeToString())
