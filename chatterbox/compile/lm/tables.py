"""Reads the table of a Gather or GatherBlockQuantized as plain numbers."""

import numpy as np
from onnx import NodeProto

from chatterbox.compile.lm.published import PublishedGraph, attribute
from chatterbox.compile.lm.weights import Array, BlockQuantized, dense

GATHER = frozenset(("Gather", "GatherBlockQuantized"))


def table_of(graph: PublishedGraph, node: NodeProto) -> Array | None:
    """The rows that a Gather or GatherBlockQuantized reads from, as plain numbers."""
    if node.op_type == "Gather":
        return graph.constant(node.input[0])
    blocks = table_blocks(graph, node)
    return None if blocks is None else dense(blocks).T


def table_blocks(graph: PublishedGraph, node: NodeProto) -> BlockQuantized | None:
    """A GatherBlockQuantized's table: its rows are the outputs of a blocked weight."""
    found, scales = graph.packed(node.input[0]), graph.constant(node.input[2])
    axes = [
        int(attribute(node, f"{kind}_axis", i)) for i, kind in enumerate(("gather", "quantize"))
    ]
    if found is None or scales is None or scales.ndim != 2 or axes != [0, 1]:
        return None
    zeros = graph.packed(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    bits = found.bits or int(attribute(node, "bits", 4))
    rows, count = scales.shape
    block = int(attribute(node, "block_size", 128))
    offset = zeros.codes if zeros is not None else None
    if offset is None and found.bits and not found.signed:
        offset = np.zeros((rows, -(-count * bits // 8)), np.uint8)  # uint4's own default
    codes = found.codes.reshape(rows, count, -1)
    return BlockQuantized(codes, scales, offset, bits, block, found.codes.shape[1] * 8 // bits)
