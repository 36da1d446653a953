"""Tests of finding random operators in graphs of every form and turning them into inputs."""

import numpy as np
import pytest
from compile.graphs import model_of, run
from onnx import TensorProto, helper, parser

from chatterbox.compile.decoder.random_ops import (
    find_randoms,
    randoms_to_inputs,
)
from chatterbox.compile.graph import UnsupportedGraph, inline_functions, value_info, with_outputs
from chatterbox.runtime.decoder.graph_io import RandomOp

DRAWING = """
g (float[n] x) => (float[n] y) {
    a = RandomNormalLike <mean: float = 2.0, scale: float = 0.5> (x)
    s = Shape (x)
    zero = ConstantOfShape (s)
    b = RandomUniformLike <low: float = -3.0, high: float = 1.0> (zero)
    dead = RandomNormalLike (x)
    t = Add (x, a)
    y = Add (t, b)
}"""


def test_draws_are_found_with_their_distributions_and_dead_ones_are_not():
    assert find_randoms(model_of(DRAWING)) == [
        RandomOp("a", "normal", 2.0, 0.5),
        RandomOp("b", "uniform", -3.0, 1.0),
    ]


def test_a_graph_given_what_it_drew_does_it_again():
    draws = find_randoms(model_of(DRAWING))
    told = with_outputs(model_of(DRAWING), [draw.name for draw in draws])
    x = np.arange(5, dtype=np.float32)
    y, a, b = run(told, {"x": x})
    inputs = {draw: value_info(draw.name, TensorProto.FLOAT, 1) for draw in draws}
    given = randoms_to_inputs(model_of(DRAWING), inputs)
    assert find_randoms(given) == []
    np.testing.assert_array_equal(run(given, {"x": x, "a": a, "b": b})[0], y)


def test_draws_of_fixed_shape_are_draws_too():
    model = model_of("""
        g (float[2] x) => (float[2] y) {
            a = RandomNormal <shape = [2]> ()
            b = RandomUniform <shape = [2]> ()
            t = Add (x, a)
            y = Add (t, b)
        }""")
    assert find_randoms(model) == [
        RandomOp("a", "normal", 0.0, 1.0),
        RandomOp("b", "uniform", 0.0, 1.0),
    ]


def test_draws_inside_functions_of_the_models_own_are_reached():
    model = parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 18, "own" : 1]>
        g (float[n] x) => (float[n] y) { y = own.blurred (x) }
        <domain: "own", opset_import: ["" : 18]>
        blurred (x) => (y) { a = RandomNormalLike (x)  y = Add (x, a) }
    """)
    assert len(find_randoms(inline_functions(model))) == 1


def test_draws_out_of_reach_are_told():
    branch = helper.make_graph(
        [helper.make_node("RandomNormalLike", ["x"], ["r"])],
        "branch",
        [],
        [helper.make_empty_tensor_value_info("r")],
    )
    model = model_of("g (float[n] x, bool c) => (float[n] y) { y = Identity (x) }")
    model.graph.node[0].CopyFrom(
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    )
    with pytest.raises(UnsupportedGraph):
        find_randoms(model)
