"""Rewrites mish, GELU and snake to what a CPU computes quickly.

Exporters write them as they are defined. Softplus has no vector kernel in the runtime and takes a
tenth of a flow's time: with n = eˣ(eˣ + 2), tanh(softplus(x)) is n / (n + 2). x/2 · (1 + erf(x/√2))
is one operator of the runtime's, which goes over its input once instead of five times. Snake is
x + sin²(αx)/α; a sine is computed number by number there, a quarter of a vocoder's time.
"""

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from chatterbox.compile.decoder.graph_edit import (
    Index,
    NewNodes,
    forget_unused,
    index,
    replace_nodes,
)
from chatterbox.compile.decoder.int8_matmul import MICROSOFT, use_microsoft

LARGEST = 20.0
"""Beyond this both are 1 in single precision, and the square of the exponential stays finite."""

SQUARED_SINE = (9.8666752, -32.3538596, 41.2948062, -22.9905265)
"""sin²(πr) for r in ±1/2, of the powers of r²: of the polynomials without a constant the one whose
largest error is least (2.3e-5), by linear programming. The 8-bit convolution behind it rounds a
hundred times as coarsely."""


def fast_mish(model: onnx.ModelProto) -> int:
    """Rewrite every tanh(softplus(x)); returns how many. Exact but for rounding."""
    graph = model.graph
    known = index(graph)
    remove, insert = [], []
    for node in graph.node:
        if node.op_type != "Tanh":
            continue
        inner = known.producer.get(node.input[0])
        if inner is None or inner.op_type != "Softplus":
            continue
        if len(known.consumers[inner.output[0]]) == 1:
            remove += [inner, node]
            insert += _quick(graph, inner.input[0], node.output[0])
    if insert:
        _add_numbers(graph, {"mish.largest": LARGEST, "mish.two": 2.0})
        replace_nodes(graph, remove, insert)
    return len(remove) // 2


def _add_numbers(graph: onnx.GraphProto, numbers: Mapping[str, float]) -> None:
    for name, value in numbers.items():
        graph.initializer.append(numpy_helper.from_array(np.float32(value), name))


def _quick(graph: onnx.GraphProto, x: str, output: str) -> list[onnx.NodeProto]:
    new = NewNodes(graph, output)
    e = new.add("Exp", [new.add("Min", [x, "mish.largest"], "bounded")], "e")
    n = new.add("Mul", [e, new.add("Add", [e, "mish.two"], "e+2")], "n")
    new.add("Div", [n, new.add("Add", [n, "mish.two"], "n+2")])
    return new.nodes


def fuse_gelu(model: onnx.ModelProto) -> int:
    """Rewrite every x/2 · (1 + erf(x/√2)); returns how many. Exact but for rounding."""
    graph = model.graph
    known = index(graph)
    remove, insert = [], []
    for node in graph.node:
        found = _around(node, known) if node.op_type == "Erf" else None
        if found is not None:
            x, nodes, output = found
            remove += nodes
            name = f"{output}/Gelu"
            insert.append(helper.make_node("Gelu", [x], [output], name=name, domain=MICROSOFT))
    if insert:
        replace_nodes(graph, remove, insert)
        forget_unused(graph)
        use_microsoft(model)
    return len(insert)


def fast_snake(model: onnx.ModelProto) -> int:
    """Rewrite every squared sine; returns how many. Its error is below 3e-5 of its height."""
    graph = model.graph
    known = index(graph)
    remove, insert = [], []
    for node in graph.node:
        squared = _squaring(node, known) if node.op_type == "Sin" else None
        if squared is not None:
            remove += [node, squared]
            insert += _squared_sine(graph, node.input[0], squared.output[0])
    if insert:
        powers = {f"snake.{i}": c for i, c in enumerate(SQUARED_SINE, 1)}
        _add_numbers(graph, {"snake.rate": 1 / math.pi, "snake.half": 0.5, **powers})
        replace_nodes(graph, remove, insert)
    return len(remove) // 2


def _squaring(sine: onnx.NodeProto, known: Index) -> onnx.NodeProto | None:
    """The only reader of `sine`, if it squares it."""
    readers = known.consumers.get(sine.output[0], [])
    if len({id(reader) for reader in readers}) != 1:
        return None
    reader = readers[0]
    if reader.op_type == "Mul" and list(reader.input) == [sine.output[0]] * 2:
        return reader
    if reader.op_type == "Pow" and reader.input[0] == sine.output[0]:
        return reader if _constant(reader.input[1], known) == 2.0 else None
    return None


def _squared_sine(graph: onnx.GraphProto, x: str, output: str) -> list[onnx.NodeProto]:
    """sin²(x) of the distance r of x/π from the nearest whole number, a polynomial in r²."""
    new = NewNodes(graph, output)
    turns = new.add("Mul", [x, "snake.rate"], "turns")
    raised = new.add("Add", [turns, "snake.half"], "raised")
    whole = new.add("Floor", [raised], "whole")  # Round is three times slower there
    r = new.add("Sub", [turns, whole], "r")
    r2 = new.add("Mul", [r, r], "r2")
    made = f"snake.{len(SQUARED_SINE)}"
    for i in range(len(SQUARED_SINE) - 1, 0, -1):
        times = new.add("Mul", [made, r2], f"times{i}")
        made = new.add("Add", [times, f"snake.{i}"], f"plus{i}")
    new.add("Mul", [made, r2])
    return new.nodes


def _around(erf: onnx.NodeProto, known: Index) -> tuple[str, list[onnx.NodeProto], str] | None:
    """The input, the nodes and the output of the GELU whose error function this is."""
    narrowed = known.producer.get(erf.input[0])
    if narrowed is None or not _scales(narrowed, math.sqrt(0.5), known):
        return None
    x = narrowed.input[0]
    raised = _reader(erf, "Add", known)
    product = _reader(raised, "Mul", known) if raised is not None else None
    if raised is None or product is None or _constant(raised.input[1], known) != 1.0:
        return None
    nodes = [narrowed, erf, raised, product]
    other = next((name for name in product.input if name != raised.output[0]), "")
    if other == x:  # halved behind the product
        halved = last = _reader(product, "Mul", known)
    else:  # or before it
        halved, last = known.producer.get(other), product
        if halved is None or halved.input[0] != x or len(known.consumers[other]) != 1:
            return None
    if halved is None or last is None or not _scales(halved, 0.5, known):
        return None
    return x, [*nodes, halved], last.output[0]


def _scales(node: onnx.NodeProto, factor: float, known: Index) -> bool:
    """Whether `node` multiplies its first input by `factor`."""
    given = _constant(node.input[1], known) if len(node.input) == 2 else None
    if given is None or given == 0 or node.op_type not in ("Mul", "Div"):
        return False
    return math.isclose(given if node.op_type == "Mul" else 1 / given, factor, rel_tol=1e-6)


def _reader(node: onnx.NodeProto, kind: str, known: Index) -> onnx.NodeProto | None:
    """The only node that reads the output of `node`, if it is of this kind."""
    readers = known.consumers.get(node.output[0], [])
    return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None


def _constant(name: str, known: Index) -> float | None:
    tensor = known.initializers.get(name)
    if tensor is None or list(tensor.dims) not in ([], [1]):
        return None
    return float(numpy_helper.to_array(tensor).item())
