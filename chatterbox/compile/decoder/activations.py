"""Rewrites the activations mish, GELU and snake into operators that are fast on a CPU.

* Mish: onnxruntime's Softplus is not vectorised and takes a tenth of a flow's time. With
  n = eˣ(eˣ + 2), tanh(softplus(x)) equals n / (n + 2).
* GELU: onnxruntime has one operator for x/2 · (1 + erf(x/√2)), which reads its input once instead
  of five times.
* Snake, x + sin²(αx)/α: onnxruntime's Sin is not vectorised and takes a quarter of a vocoder's
  time.
"""

import math

import numpy as np
import onnx
from onnx import NodeProto

from chatterbox.compile.graph import MICROSOFT, EditableGraph

MISH_LIMIT = 20.0
"""Inputs of mish are clipped to this: tanh(softplus(x)) is 1 beyond it in single precision, and
e²ˣ stays finite."""

SQUARED_SINE = (9.8666752, -32.3538596, 41.2948062, -22.9905265)
"""Coefficients of the polynomial in r² that approximates sin²(πr) for r in ±1/2, without a constant
term and with the smallest maximum error (2.3e-5), found by linear programming. The 8-bit
convolution that follows rounds a hundred times more coarsely."""


def fast_mish(model: onnx.ModelProto) -> int:
    """Rewrite every tanh(softplus(x)); returns how many. Exact except for rounding."""
    graph = EditableGraph(model)
    for tanh in graph.of_type("Tanh"):
        if (softplus := graph.producer_of(tanh.input[0], "Softplus")) is None:
            continue
        if graph.only_consumer(softplus.output[0], "Tanh") is None:
            continue
        largest = graph.store("mish.largest", np.float32(MISH_LIMIT))
        two = graph.store("mish.two", np.float32(2))
        new = graph.new(tanh.output[0])
        e = new.add("Exp", [new.add("Min", [softplus.input[0], largest], "bounded")], "e")
        n = new.add("Mul", [e, new.add("Add", [e, two], "e+2")], "n")
        new.add("Div", [n, new.add("Add", [n, two], "n+2")])
    return graph.rewrite()


def fuse_gelu(model: onnx.ModelProto) -> int:
    """Rewrite every x/2 · (1 + erf(x/√2)); returns how many. Exact except for rounding."""
    graph = EditableGraph(model)
    for erf in graph.of_type("Erf"):
        if (gelu := _gelu_around(erf, graph)) is not None:
            x, output = gelu
            graph.new(output).add("Gelu", [x], "", MICROSOFT)
    return graph.rewrite()


def _gelu_around(erf: NodeProto, graph: EditableGraph) -> tuple[str, str] | None:
    """Return the input and output of the GELU that contains the node `erf`, or None."""
    input_scale, x = graph.split_scale(erf.input[0])
    raised = graph.only_consumer(erf.output[0], "Add")
    product = graph.only_consumer(raised.output[0], "Mul") if raised is not None else None
    if raised is None or product is None or graph.scalar(raised.input[1]) != 1.0:
        return None
    other = next((name for name in product.input if name != raised.output[0]), "")
    if other == x:  # multiplied by 1/2 after the product
        last = graph.only_consumer(product.output[0], "Mul", "Div")
        if last is None:
            return None
        half, halved = graph.split_scale(last.output[0])
        fits = halved == product.output[0]
    else:  # multiplied by 1/2 before the product
        last, (half, halved) = product, graph.split_scale(other)
        fits = halved == x
    fits &= math.isclose(input_scale, math.sqrt(0.5), rel_tol=1e-6)
    return (x, last.output[0]) if fits and math.isclose(half, 0.5, rel_tol=1e-6) else None


def fast_snake(model: onnx.ModelProto) -> int:
    """Rewrite every squared sine; returns how many. The error is below 3e-5: sin²(x) becomes a
    polynomial in r², where r is the distance of x/π from the nearest integer."""
    graph = EditableGraph(model)
    for sine in graph.of_type("Sin"):
        name = sine.output[0]
        squared = graph.only_consumer(name, "Mul", "Pow")
        by_itself = squared is not None and list(squared.input) == [name, name]
        if squared is None or squared.input[0] != name:
            continue
        if not by_itself and (squared.op_type, graph.scalar(squared.input[1])) != ("Pow", 2.0):
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
        whole = new.add("Floor", [raised], "whole")  # onnxruntime's Round is three times slower
        r = new.add("Sub", [turns, whole], "r")
        r2 = new.add("Mul", [r, r], "r2")
        polynomial = powers.pop()
        for i, power in reversed(list(enumerate(powers, 1))):
            polynomial = new.add(
                "Add", [new.add("Mul", [polynomial, r2], f"times{i}"), power], f"plus{i}"
            )
        new.add("Mul", [polynomial, r2])
    return graph.rewrite()
