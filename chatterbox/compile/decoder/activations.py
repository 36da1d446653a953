"""Rewrites mish, GELU and snake to what a CPU computes quickly.

Exporters write them as they are defined. Softplus has no vector kernel in the runtime and takes a
tenth of a flow's time: with n = eˣ(eˣ + 2), tanh(softplus(x)) is n / (n + 2). x/2 · (1 + erf(x/√2))
is one operator of the runtime's, which goes over its input once instead of five times. Snake is
x + sin²(αx)/α; a sine is computed number by number there, a quarter of a vocoder's time.
"""

import math

import numpy as np
import onnx
from onnx import NodeProto

from chatterbox.compile.graph import MICROSOFT, EditableGraph

LARGEST = 20.0
"""Beyond this both are 1 in single precision, and the square of the exponential stays finite."""

SQUARED_SINE = (9.8666752, -32.3538596, 41.2948062, -22.9905265)
"""sin²(πr) for r in ±1/2, of the powers of r²: of the polynomials without a constant the one whose
largest error is least (2.3e-5), by linear programming. The 8-bit convolution behind it rounds a
hundred times as coarsely."""


def fast_mish(model: onnx.ModelProto) -> int:
    """Rewrite every tanh(softplus(x)); returns how many. Exact but for rounding."""
    graph = EditableGraph(model)
    for tanh in graph.of_type("Tanh"):
        if (softplus := graph.maker(tanh.input[0], "Softplus")) is None:
            continue
        if graph.reader(softplus.output[0], "Tanh") is None:
            continue
        largest = graph.store("mish.largest", np.float32(LARGEST))
        two = graph.store("mish.two", np.float32(2))
        new = graph.new(tanh.output[0])
        e = new.add("Exp", [new.add("Min", [softplus.input[0], largest], "bounded")], "e")
        n = new.add("Mul", [e, new.add("Add", [e, two], "e+2")], "n")
        new.add("Div", [n, new.add("Add", [n, two], "n+2")])
    return graph.rewrite()


def fuse_gelu(model: onnx.ModelProto) -> int:
    """Rewrite every x/2 · (1 + erf(x/√2)); returns how many. Exact but for rounding."""
    graph = EditableGraph(model)
    for erf in graph.of_type("Erf"):
        if (found := _gelu_around(erf, graph)) is not None:
            x, output = found
            graph.new(output).add("Gelu", [x], "", MICROSOFT)
    return graph.rewrite()


def _gelu_around(erf: NodeProto, graph: EditableGraph) -> tuple[str, str] | None:
    """The input and the output of the GELU whose error function this is."""
    narrowed, x = graph.multiple(erf.input[0])
    raised = graph.reader(erf.output[0], "Add")
    product = graph.reader(raised.output[0], "Mul") if raised is not None else None
    if raised is None or product is None or graph.number(raised.input[1]) != 1.0:
        return None
    other = next((name for name in product.input if name != raised.output[0]), "")
    if other == x:  # halved behind the product
        last = graph.reader(product.output[0], "Mul", "Div")
        if last is None:
            return None
        half, halved = graph.multiple(last.output[0])
        fits = halved == product.output[0]
    else:  # or before it
        last, (half, halved) = product, graph.multiple(other)
        fits = halved == x
    fits &= math.isclose(narrowed, math.sqrt(0.5), rel_tol=1e-6)
    return (x, last.output[0]) if fits and math.isclose(half, 0.5, rel_tol=1e-6) else None


def fast_snake(model: onnx.ModelProto) -> int:
    """Rewrite every squared sine; returns how many. Its error is below 3e-5 of its height: sin²(x)
    of the distance r of x/π from the nearest whole number is a polynomial in r²."""
    graph = EditableGraph(model)
    for sine in graph.of_type("Sin"):
        name = sine.output[0]
        squared = graph.reader(name, "Mul", "Pow")
        by_itself = squared is not None and list(squared.input) == [name, name]
        if squared is None or squared.input[0] != name:
            continue
        if not by_itself and (squared.op_type, graph.number(squared.input[1])) != ("Pow", 2.0):
            continue
        rate = graph.store("snake.rate", np.float32(1 / math.pi))
        half = graph.store("snake.half", np.float32(0.5))
        powers = [
            graph.store(f"snake.{i}", np.float32(factor))
            for i, factor in enumerate(SQUARED_SINE, 1)
        ]
        new = graph.new(squared.output[0])
        turns = new.add("Mul", [sine.input[0], rate], "turns")
        raised = new.add("Add", [turns, half], "raised")
        whole = new.add("Floor", [raised], "whole")  # Round is three times slower there
        r = new.add("Sub", [turns, whole], "r")
        r2 = new.add("Mul", [r, r], "r2")
        made = powers.pop()
        for i, power in reversed(list(enumerate(powers, 1))):
            made = new.add("Add", [new.add("Mul", [made, r2], f"times{i}"), power], f"plus{i}")
        new.add("Mul", [made, r2])
    return graph.rewrite()
