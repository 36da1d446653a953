"""Runs products with constant matrices in 8 bits on a CPU.

Weights become int8 with one scale for each output column, activations uint8 with one scale for each
call, found as it runs (`DynamicQuantizeMatMul`). On CPUs with 8-bit dot products this is about
three times as fast as single precision, and twice as fast as `MatMulNBits`, which is made for few
rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from chatterbox.arrays import F32
from chatterbox.compile.decoder.graph_edit import (
    Index,
    forget_unused,
    index,
    replace_nodes,
    stored_values,
)
from chatterbox.compile.lm.weights import unpack

SMALLEST_WEIGHT = 64 * 64
"""Smaller products are not worth the quantising of their activations."""
LEVELS = 127
MICROSOFT = "com.microsoft"


@dataclass(frozen=True, slots=True)
class Product:
    """A node that multiplies an activation by a constant matrix."""

    node: onnx.NodeProto
    weight: str
    bias: str  # "" for none
    output: str
    added: onnx.NodeProto | None  # the node that adds the bias, where that is another


def products_in_int8(model: onnx.ModelProto, folder: Path) -> int:
    """Replace products of an activation with a constant matrix; `folder` holds external weights.
    Returns how many."""
    graph = model.graph
    known = index(graph)
    products = [p for node in graph.node if (p := _product(node, known)) is not None]
    stored: dict[str, tuple[str, str]] = {}
    insert = []
    for product in products:
        if product.weight not in stored:
            stored[product.weight] = _store(graph, product, known, folder)
        inputs = [product.node.input[0], *stored[product.weight], "", product.bias]
        made = helper.make_node(
            "DynamicQuantizeMatMul",
            inputs if product.bias else inputs[:3],
            [product.output],
            name=f"{product.node.name}/int8",
            domain=MICROSOFT,
        )
        insert.append(made)
    remove = [n for p in products for n in (p.node, p.added) if n is not None]
    replace_nodes(graph, remove, insert)
    forget_unused(graph)
    use_microsoft(model)
    return len(insert)


def use_microsoft(model: onnx.ModelProto) -> None:
    """Declare the runtime's own operators where that has not been done."""
    if not any(o.domain == MICROSOFT for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _product(node: onnx.NodeProto, known: Index) -> Product | None:
    if len(node.input) < 2:
        return None
    weight = known.initializers.get(node.input[1])
    if weight is None:
        return None
    if node.op_type == "MatMulNBits" and _in_single_precision(node, known):
        if len(node.input) > 5 and node.input[5]:
            return Product(node, weight.name, node.input[5], node.output[0], None)
        return _with_bias(node, weight, known)
    if weight.data_type != onnx.TensorProto.FLOAT or len(weight.dims) != 2:
        return None
    if weight.dims[0] * weight.dims[1] < SMALLEST_WEIGHT:
        return None
    if node.op_type == "Gemm" and _plain_gemm(node):
        bias = node.input[2] if len(node.input) > 2 else ""
        return Product(node, weight.name, bias, node.output[0], None)
    if node.op_type == "MatMul":
        return _with_bias(node, weight, known)
    return None


def _with_bias(node: onnx.NodeProto, weight: onnx.TensorProto, known: Index) -> Product:
    """A product, and the Add of a constant row behind it if nothing else reads the product."""
    columns = _blocks(node)[1] if node.op_type == "MatMulNBits" else weight.dims[1]
    readers = known.consumers.get(node.output[0], [])
    if len(readers) == 1 and readers[0].op_type == "Add":
        other = next(n for n in readers[0].input if n != node.output[0])
        row = known.initializers.get(other)
        if row is not None and list(row.dims) == [columns]:
            return Product(node, weight.name, row.name, readers[0].output[0], readers[0])
    return Product(node, weight.name, "", node.output[0], None)


def _plain_gemm(node: onnx.NodeProto) -> bool:
    given = {a.name: a.f if a.type == onnx.AttributeProto.FLOAT else a.i for a in node.attribute}
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    return all(given.get(name, usual) == usual for name, usual in plain.items())


def _in_single_precision(node: onnx.NodeProto, known: Index) -> bool:
    """A MatMulNBits of float activations whose input columns stand in order."""
    scales = known.initializers.get(node.input[2])
    reordered = len(node.input) > 4 and node.input[4]
    return not reordered and scales is not None and scales.data_type == onnx.TensorProto.FLOAT


def _blocks(node: onnx.NodeProto) -> tuple[int, int, int, int]:
    """K, N, bits and block of a MatMulNBits."""
    given = {a.name: a.i for a in node.attribute}
    return given["K"], given["N"], given.get("bits", 4), given["block_size"]


def _store(graph: onnx.GraphProto, product: Product, known: Index, folder: Path) -> tuple[str, str]:
    """Add the weight's int8 form [K, N] and scales [N]; their names."""
    values = _values(product.node, known, folder)
    scales = np.maximum(np.abs(values).max(axis=0), np.float32(1e-12)) / np.float32(LEVELS)
    levels = np.rint(values / scales).astype(np.int8)
    names = f"{product.weight}/int8", f"{product.weight}/scales"
    graph.initializer.append(numpy_helper.from_array(levels, names[0]))
    graph.initializer.append(numpy_helper.from_array(scales, names[1]))
    return names


def _values(node: onnx.NodeProto, known: Index, folder: Path) -> F32:
    """The constant matrix [K, N]."""

    def stored(position: int) -> NDArray[Any]:
        return stored_values(known.initializers[node.input[position]], folder)

    if node.op_type != "MatMulNBits":
        matrix = stored(1)
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        return np.ascontiguousarray(matrix.T if turned else matrix, np.float32)
    inside, outside, bits, block = _blocks(node)
    count = -(-inside // block)
    codes = unpack(stored(1).reshape(outside, count, -1), bits, block).astype(np.float32)
    zeros: NDArray[Any] = np.full((outside, count), 1 << (bits - 1), np.float32)
    if len(node.input) > 3 and node.input[3]:
        given = stored(3)
        packed = given.dtype == np.uint8
        zeros = unpack(given.reshape(outside, -1), bits, count) if packed else given
    spread = stored(2).reshape(outside, count, 1).astype(np.float32)
    matrix = (codes - zeros.reshape(outside, count, 1)) * spread
    return np.ascontiguousarray(matrix.reshape(outside, -1)[:, :inside].T, np.float32)
