"""Tests that every form of attention becomes one operator that computes the same."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compile.graphs import model_of, run
from tiny_decoder import opener

from chatterbox.compile.decoder.attention import (
    Observed,
    fuse_attention,
    observe,
    tensors_to_observe,
)
from chatterbox.compile.graph import inline_functions

ATTENTION = """
    g (float[1, n, 64] q, float[1, n, 64] k, float[1, n, 64] v) => (float[1, n, 64] y)
    <int64[4] parted = {0, 0, 4, 16}, int64[3] joined = {0, 0, 64}, float scale = {0.25}>
    {
        q4 = Reshape (q, parted)
        k4 = Reshape (k, parted)
        v4 = Reshape (v, parted)
        qh = Transpose <perm = [0, 2, 1, 3]> (q4)
        kh = Transpose <perm = [0, 2, 1, 3]> (k4)
        vh = Transpose <perm = [0, 2, 1, 3]> (v4)
        kt = Transpose <perm = [0, 1, 3, 2]> (kh)
        qs = Mul (qh, scale)
        s = MatMul (qs, kt)
        p = Softmax <axis = -1> (s)
        o = MatMul (p, vh)
        oh = Transpose <perm = [0, 2, 1, 3]> (o)
        y = Reshape (oh, joined)
    }"""


COMPUTED = """
    g (float[1, n, 64] q, float[1, n, 64] k, float[1, n, 64] v, float[1, 1, 1, n] mask)
        => (float[1, n, 64] y)
    <int64[1] three = {3}, int64[1] four = {4}, int64[4] parted = {0, -1, 4, 16}, float one = {1.0}>
    {
        q4 = Reshape (q, parted)
        k4 = Reshape (k, parted)
        v4 = Reshape (v, parted)
        qh = Transpose <perm = [0, 2, 1, 3]> (q4)
        kt = Transpose <perm = [0, 2, 3, 1]> (k4)
        vh = Transpose <perm = [0, 2, 1, 3]> (v4)
        sizes = Shape (qh)
        width = Slice (sizes, three, four)
        wide = Cast <to = 1> (width)
        root = Sqrt (wide)
        half = Sqrt (root)
        scale = Reciprocal (half)
        qs = Mul (qh, scale)
        ks = Mul (kt, scale)
        m = MatMul (qs, ks)
        hides = Mul (mask, one)
        s = Add (m, hides)
        p = Softmax <axis = -1> (s)
        o = MatMul (p, vh)
        oh = Transpose <perm = [0, 2, 1, 3]> (o)
        joined = Constant <value = int64[3] {0, -1, 64}> ()
        y = Reshape (oh, joined)
    }"""
"""Attention as exporters write it: the scale is computed from a shape and split, with a mask."""


def attention_feeds(steps: int, masked: float = 0.0) -> dict[str, Any]:
    rng = np.random.default_rng(steps)
    feeds: dict[str, Any] = {
        name: rng.normal(size=(1, steps, 64)).astype(np.float32) for name in "qkv"
    }
    return feeds | {"mask": np.full((1, 1, 1, steps), masked, np.float32)}


def told_of(model: onnx.ModelProto, masked: float = 0.0) -> Observed:
    """Return the properties observed in runs of two lengths."""
    asked = tensors_to_observe(model)
    asking = onnx.ModelProto()
    asking.CopyFrom(model)
    asking.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in asked)
    session = opener(Path())(asking)
    wanted = [i.name for i in session.get_inputs()]
    made = []
    for steps in (20, 30):
        feeds = attention_feeds(steps, masked)
        values = session.run(asked, {name: feeds[name] for name in wanted})
        made.append(dict(zip(asked, values, strict=True)))
    return observe(made, asked)


@pytest.mark.parametrize("text", [ATTENTION, COMPUTED])
def test_attention_is_the_same_in_one_operator(text):
    model = inline_functions(model_of(text))
    feeds = {i.name: attention_feeds(30)[i.name] for i in model.graph.input}
    exact = run(model, feeds)[0]
    assert fuse_attention(model, told_of(model)) == 1
    kinds = {node.op_type for node in model.graph.node}
    assert "MultiHeadAttention" in kinds
    assert not kinds & {"MatMul", "Softmax", "Reshape", "Transpose", "Shape", "Sqrt"}
    np.testing.assert_allclose(run(model, feeds)[0], exact, atol=2e-6)


def test_attention_with_a_mask_that_hides_something_stays():
    model = inline_functions(model_of(COMPUTED))
    assert fuse_attention(model, told_of(model, masked=-1.0)) == 0


def test_attention_in_one_operator_lets_go_of_a_mask_that_lets_all_be_seen():
    text = """
    g (float[1, n, 64] q, float[1, n, 64] k, float[1, n, 64] v, float[1, 1, 1, n] mask)
        => (float[1, n, 64] y)
    <int64[2] flat = {1, -1}, float one = {1.0}>
    {
        raised = Add (mask, one)
        row = Reshape (raised, flat)
        seen = Cast <to = 6> (row)
        y = com.microsoft.MultiHeadAttention <num_heads: int = 4> (q, k, v, , seen)
    }"""
    model = model_of(text)
    feeds = attention_feeds(30)
    exact = run(model, feeds)[0]
    told = told_of(model)
    assert fuse_attention(model, told) == 0
    (node,) = [n for n in model.graph.node if n.op_type == "MultiHeadAttention"]
    assert list(node.input) == ["q", "k", "v"]
    np.testing.assert_allclose(run(model, feeds)[0], exact, atol=2e-6)


def test_what_others_read_of_an_attentions_sizes_is_still_made():
    text = COMPUTED.replace(
        "y = Reshape (oh, joined)", "t = Reshape (oh, joined)\n y = Mul (t, wide)"
    )
    model = inline_functions(model_of(text))
    feeds = attention_feeds(30)
    exact = run(model, feeds)[0]
    assert fuse_attention(model, told_of(model)) == 1
    np.testing.assert_allclose(run(model, feeds)[0], exact, atol=4e-5)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("s = MatMul (qs, kt)", "t = MatMul (qs, kt)\n s = Abs (t)"),
        ("p = Softmax <axis = -1> (s)", "t = Softmax <axis = -1> (s)\n p = Abs (t)"),
        ("vh = Transpose <perm = [0, 2, 1, 3]> (v4)", "vh = Transpose <perm = [0, 2, 3, 1]> (v4)"),
        (
            "y = Reshape (oh, joined)",
            "z = Reshape (oh, joined)\n w = ReduceSum (p)\n y = Add (z, w)",
        ),
        ("qs = Mul (qh, scale)", "qs = Mul (qh, qh)"),
    ],
)
def test_attention_of_another_form_stays(was, now):
    assert was in ATTENTION
    told = told_of(model_of(ATTENTION))
    assert fuse_attention(model_of(ATTENTION.replace(was, now)), told) == 0
