"""Tests that rewritten snake, mish and GELU compute the same as the original nodes."""

import numpy as np
import pytest
from compile.graphs import model_of, run

from chatterbox.compile.decoder.activations import fast_mish, fast_snake, fuse_gelu
from chatterbox.compile.graph import inline_functions

# --- snake


@pytest.mark.parametrize("square", ["Mul (z, z)", "Pow (z, two)"])
def test_snake_is_nearly_the_same_only_quicker(square):
    model = inline_functions(
        model_of(f"""
        g (float[n] x) => (float[n] y) {{
            two = Constant <value = float {{2.0}}> ()
            z = Sin (x)
            q = {square}
            y = Add (x, q)
        }}""")
    )
    x = np.linspace(-200, 200, 40001).astype(np.float32)
    exact = run(model, {"x": x})[0]
    assert fast_snake(model) == 1
    assert "Sin" not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(run(model, {"x": x})[0], exact, rtol=1e-6, atol=5e-5)


@pytest.mark.parametrize("square", ["Mul (z, x)", "Pow (z, three)"])
def test_a_sine_that_is_not_squared_stays(square):
    model = model_of(f"""
        g (float[n] x) => (float[n] y) <float three = {{3.0}}> {{
            z = Sin (x)
            y = {square}
        }}""")
    assert fast_snake(model) == 0


# --- mish


def test_mish_is_the_same_only_quicker():
    model = model_of("""
        g (float[n] x) => (float[n] y) {
            s = Softplus (x)
            t = Tanh (s)
            y = Mul (x, t)
        }""")
    x = np.concatenate([np.linspace(-90, 90, 500), [-1e4, 1e4, 0]]).astype(np.float32)
    exact = run(model, {"x": x})[0]
    assert fast_mish(model) == 1
    assert "Softplus" not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(run(model, {"x": x})[0], exact, rtol=2e-6, atol=1e-6)


def test_a_softplus_that_is_no_mish_stays():
    model = model_of("""
        g (float[n] x) => (float[n] y) {
            s = Softplus (x)
            t = Tanh (s)
            y = Add (s, t)
        }""")
    assert fast_mish(model) == 0


# --- gelu


@pytest.mark.parametrize(
    "body",
    [
        "n = Mul (x, narrow)\n e = Erf (n)\n r = Add (e, one)\n h = Mul (x, half)\n y = Mul (h, r)",
        "n = Div (x, root)\n e = Erf (n)\n r = Add (e, one)\n p = Mul (x, r)\n y = Mul (p, half)",
    ],
)
def test_gelu_is_the_same_in_one_operator(body):
    model = model_of(gelu(body))
    x = np.linspace(-9, 9, 300).astype(np.float32)
    exact = run(model, {"x": x})[0]
    assert fuse_gelu(model) == 1
    assert [node.op_type for node in model.graph.node] == ["Gelu"]
    np.testing.assert_allclose(run(model, {"x": x})[0], exact, atol=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        "n = Mul (x, half)\n e = Erf (n)\n r = Add (e, one)\n h = Mul (x, half)\n y = Mul (h, r)",
        "n = Mul (x, narrow)\n e = Erf (n)\n r = Add (e, n)\n h = Mul (x, half)\n y = Mul (h, r)",
        "n = Mul (x, narrow)\n e = Erf (n)\n r = Add (e, one)\n h = Mul (e, half)\n y = Mul (h, r)",
        "n = Mul (x, narrow)\n e = Erf (n)\n r = Add (e, one)\n y = Mul (x, r)",
    ],
)
def test_what_is_no_gelu_stays(body):
    assert fuse_gelu(model_of(gelu(body))) == 0


def gelu(body: str) -> str:
    constants = "float narrow = {0.70710677}, float root = {1.4142135}, float one = {1.0}"
    return f"g (float[n] x) => (float[n] y) <{constants}, float half = {{0.5}}> {{ {body} }}"
