"""Are draws, cuts, sums, products and mishes found and rewritten in graphs of every make?

Knows small graphs written by hand; runs them.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from tiny_decoder import opener

from chatterbox.model.split.activations import one_gelu, quick_mish, quick_snake
from chatterbox.model.split.attention import Seen, one_attention, questions, seen
from chatterbox.model.split.cut import cut, find_mel
from chatterbox.model.split.draws import Draw, draws_as_inputs, draws_as_outputs, find_draws
from chatterbox.model.split.errors import NotSplittable
from chatterbox.model.split.extents import PROBES, Extent, Length, extents, time_axis
from chatterbox.model.split.graph_edit import inlined
from chatterbox.model.split.int8 import products_in_int8
from chatterbox.model.split.int8_convs import convs_in_int8
from chatterbox.model.split.phase import carry_over, find_sums
from chatterbox.model.tune.quantise import in_blocks
from chatterbox.model.tune.weights import Dense
from tools.decoder.graph import FLOAT, Graph

FLOAT_KIND = {"a": TensorProto.FLOAT, "b": TensorProto.FLOAT}


def model_of(text: str) -> onnx.ModelProto:
    head = '<ir_version: 9, opset_import: ["" : 18, "com.microsoft" : 1, "own" : 1]>\n'
    return parser.parse_model(head + text)


def run(model: onnx.ModelProto, feeds: dict[str, Any], folder: Path = Path()) -> list[Any]:
    return opener(folder)(model).run(None, feeds)


# --- draws


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
    assert find_draws(model_of(DRAWING)) == [
        Draw("a", "normal", 2.0, 0.5),
        Draw("b", "uniform", -3.0, 1.0),
    ]


def test_a_graph_given_what_it_drew_does_it_again():
    told = model_of(DRAWING)
    draws = find_draws(told)
    draws_as_outputs(told, draws)
    x = np.arange(5, dtype=np.float32)
    y, a, b = run(told, {"x": x})
    given = model_of(DRAWING)
    draws_as_inputs(given, draws, {"a": 1, "b": 1}, FLOAT_KIND)
    assert find_draws(given) == []
    np.testing.assert_array_equal(run(given, {"x": x, "a": a, "b": b})[0], y)


def test_draws_of_fixed_shape_are_draws_too():
    model = model_of("""
        g (float[2] x) => (float[2] y) {
            a = RandomNormal <shape = [2]> ()
            b = RandomUniform <shape = [2]> ()
            t = Add (x, a)
            y = Add (t, b)
        }""")
    assert find_draws(model) == [Draw("a", "normal", 0.0, 1.0), Draw("b", "uniform", 0.0, 1.0)]


def test_draws_inside_functions_of_the_models_own_are_reached():
    model = parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 18, "own" : 1]>
        g (float[n] x) => (float[n] y) { y = own.blurred (x) }
        <domain: "own", opset_import: ["" : 18]>
        blurred (x) => (y) { a = RandomNormalLike (x)  y = Add (x, a) }
    """)
    assert len(find_draws(inlined(model))) == 1


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
    with pytest.raises(NotSplittable):
        find_draws(model)


# --- the cut


def vocoder_like(*, first: str, pitch: str, extra: str = "") -> onnx.ModelProto:
    """An input that becomes a mel, two convolutions over it, and something between."""
    model = model_of(f"""
        g (float[1,t,80] x, float[1] speaker) => (float[1,c,n] y) {{
            mel = Transpose <perm = [0, 2, 1]> (x)
            {first}
            {pitch}
            both = Add (loud, low)
            {extra or "y = Tanh (both)"}
        }}""")
    rng = np.random.default_rng(0)
    for name, dims in {
        "w": (4, 80, 7),
        "v": (4, 80, 3),
        "w2": (4, 80, 1, 7),
        "g": (4, 1, 1),
    }.items():
        weight = rng.normal(size=dims).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2]), "two"))
    return model


FIRST = "loud = Conv <pads = [3, 3]> (mel, w)"
PITCH = "low = Conv <pads = [1, 1]> (mel, v)"


@pytest.mark.parametrize(
    ("first", "pitch"),
    [
        (FIRST, PITCH),
        # weight norm left in the graph
        ("wn = ReduceL2 <keepdims = 0> (w)  wd = Div (w, wn)  wg = Mul (wd, g)"
         "  loud = Conv <pads = [3, 3]> (mel, wg)", PITCH),
        # casts, copies and padding between
        ("m2 = Cast <to = 1> (mel)  m3 = Identity (m2)  loud = Conv <pads = [3, 3]> (m3, w)",
         "m4 = Identity (mel)  low = Conv <pads = [1, 1]> (m4, v)"),
        # written as a 2-D convolution
        ("m2 = Unsqueeze (mel, two)  c2 = Conv <pads = [0, 3, 0, 3]> (m2, w2)"
         "  loud = Squeeze (c2, two)", PITCH),
    ],
)  # fmt: skip
def test_the_mel_is_found_however_it_is_written(first, pitch):
    model = vocoder_like(first=first, pitch=pitch)
    assert find_mel(model) == "mel"
    flow, vocoder = cut(model, "mel", TensorProto.FLOAT)
    x = np.random.default_rng(1).normal(size=(1, 9, 80)).astype(np.float32)
    whole = run(model, {"x": x, "speaker": np.zeros(1, np.float32)})[0]
    assert [i.name for i in vocoder.graph.input] == ["mel"]
    parts = run(vocoder, {"mel": run(flow, {"x": x})[0]})[0]
    np.testing.assert_array_equal(parts, whole)


def test_without_a_pitch_predictor_there_is_no_cut():
    with pytest.raises(NotSplittable, match="no mel"):
        find_mel(vocoder_like(first=FIRST, pitch="low = Identity (loud)"))


def test_a_vocoder_that_reads_more_of_the_flow_is_not_cut():
    extra = "flat = Unsqueeze (x, two)  s = ReduceSum <keepdims = 0> (flat)  y = Add (both, s)"
    model = vocoder_like(first=FIRST, pitch=PITCH, extra=extra)
    with pytest.raises(NotSplittable, match="also reads x"):
        cut(model, find_mel(model), TensorProto.FLOAT)


# --- running sums


SUMMING = """
g (float[b,t] f, int64[n] ids) => (float[b,t] y, int64[n] places) {
    axis = Constant <value = int64 {1}> ()
    zero = Constant <value = int64 {0}> ()
    turns = CumSum (f, axis)
    places = CumSum (ids, zero)
    y = Sin (turns)
}"""


def test_a_sum_goes_on_where_the_piece_before_left_it():
    model = model_of(SUMMING)
    (found,) = find_sums(model)
    assert found.name == "turns"
    carry_over(model, [found], {"turns": 1}, wide=True)
    session = opener(Path())(model)
    rng = np.random.default_rng(0)
    f = rng.uniform(0, 0.5, (2, 60)).astype(np.float32)
    ids = np.zeros(1, np.int64)

    def piece(begin: int, end: int, anchor: int, mark: int, carry: Any, use: float) -> list[Any]:
        feeds = {"f": f[:, begin:end], "ids": ids, found.carry: carry, found.use: np.array([use])}
        feeds |= {found.anchor: np.array([anchor - begin]), found.mark: np.array([mark - begin])}
        return session.run(["y", found.told], feeds)

    whole, _ = piece(0, 60, 0, 0, np.zeros((2, 1)), 0.0)
    first, told = piece(0, 40, 0, 30, np.zeros((2, 1)), 0.0)
    # What lies before the anchor may have changed since; from there on the phase is the same.
    second, _ = piece(25, 60, 30, 59, told, 1.0)
    np.testing.assert_allclose(first, whole[:, :40], atol=1e-6)
    np.testing.assert_allclose(second[:, 5:], whole[:, 30:], atol=1e-6)


def test_unused_and_narrow_it_is_the_sum_as_it_was():
    model = model_of(SUMMING)
    sums = find_sums(model)
    f = np.random.default_rng(0).uniform(0, 5, (1, 5000)).astype(np.float32)
    before = run(model, {"f": f, "ids": np.zeros(1, np.int64)})[0]
    carry_over(model, sums, {"turns": 1}, wide=False)
    feeds = {"f": f, "ids": np.zeros(1, np.int64), sums[0].carry: np.zeros((1, 1))}
    feeds |= {sums[0].use: np.zeros(1), sums[0].anchor: np.array([9]), sums[0].mark: np.array([0])}
    np.testing.assert_array_equal(run(model, feeds)[0], before)


# --- sizes


def test_sizes_follow_from_the_number_of_codes():
    laws = [Extent(0, 0, 1), Extent(0, 0, 80), Extent(2, 2, 0)]
    seen = {p: tuple(e.at(p) for e in laws) for p in PROBES}
    assert extents(seen) == laws
    assert time_axis(laws) == 2
    assert time_axis(laws[:2]) is None
    assert laws[2].at(Length(prompt=75, codes=13)) == 176


@pytest.mark.parametrize("shape", [lambda p: (p.codes**2,), lambda p: (1,) * p.codes])
def test_sizes_that_follow_no_line_are_told(shape):
    with pytest.raises(NotSplittable):
        extents({p: shape(p) for p in PROBES})


def test_two_axes_of_time_are_told():
    with pytest.raises(NotSplittable):
        time_axis([Extent(2, 0, 0), Extent(2, 0, 0)])


# --- 8 bits


def product_model(kind: str, k: int = 96, n: int = 80) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    g = Graph({"p.weight": rng.normal(size=(n, k)), "p.bias": rng.normal(size=n)})
    x = g.input("x", FLOAT, ["t", k])
    if kind == "gemm":
        y = g.op("Gemm", x, g.weight("p.weight"), g.weight("p.bias"), transB=1)
    else:
        y = g.linear(x, "p", bias="biased" in kind)
    g.output(y, "y", FLOAT, ["t", n])
    model = g.model()
    if "blocks" in kind:
        in_4_bits(model, rng.normal(size=(k, n)).astype(np.float32))
    return model


def in_4_bits(model: onnx.ModelProto, matrix: Any) -> None:
    """Have the graph's product done as the published q4 files do it."""
    blocks = in_blocks(Dense(matrix), 4, 32)
    parts = {"q": blocks.codes, "s": blocks.scales.ravel(), "z": blocks.zero_points.ravel()}
    node = model.graph.node[0]
    product = helper.make_node(
        "MatMulNBits", [node.input[0], *parts], [node.output[0]], domain="com.microsoft",
        K=matrix.shape[0], N=matrix.shape[1], bits=4, block_size=32,
    )  # fmt: skip
    node.CopyFrom(product)
    kept = [i for i in model.graph.initializer if i.dims[:] == [matrix.shape[1]]]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in parts.items())


@pytest.mark.parametrize("kind", ["plain", "biased", "gemm", "blocks", "blocks biased"])
def test_products_of_every_make_run_in_8_bits(kind, tmp_path):
    model = product_model(kind)
    x = np.random.default_rng(1).normal(size=(50, 96)).astype(np.float32)
    exact = run(model, {"x": x})[0]
    assert products_in_int8(model, tmp_path) == 1
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["DynamicQuantizeMatMul", "Identity"]
    assert len(model.graph.initializer) == 2 + (kind in ("biased", "gemm", "blocks biased"))
    off = run(model, {"x": x})[0] - exact
    assert np.square(off).mean() < np.square(exact).mean() * 10**-3.5


def test_weights_are_read_from_the_file_beside_the_graph(tmp_path):
    model = product_model("biased")
    x = np.ones((2, 96), np.float32)
    exact = run(model, {"x": x})[0]
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=100)
    referring = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert products_in_int8(referring, tmp_path) == 1
    np.testing.assert_allclose(run(referring, {"x": x}, tmp_path)[0], exact, atol=0.3)


def test_small_products_and_half_precision_stay(tmp_path):
    assert products_in_int8(product_model("plain", k=16, n=16), tmp_path) == 0
    half = product_model("plain")
    for weight in half.graph.initializer:
        values = numpy_helper.to_array(weight).astype(np.float16)
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    assert products_in_int8(half, tmp_path) == 0


# --- convolutions in 8 bits


def conv_model(taps: int, *, biased: bool = True, width: int = 64, **how: Any) -> onnx.ModelProto:
    rng = np.random.default_rng(taps)
    kernel = rng.normal(size=(width, width, taps), scale=(taps * width) ** -0.5)
    g = Graph({"c.weight": kernel, "c.bias": rng.normal(size=width)})
    inputs = [g.input("x", FLOAT, ["rows", width, "steps"]), g.weight("c.weight")]
    inputs += [g.weight("c.bias")] if biased else []
    g.output(g.op("Conv", *inputs, **how), "y", FLOAT, ["rows", width, "n"])
    return g.model()


@pytest.mark.parametrize(
    "how",
    [
        {"taps": 1},
        {"taps": 3, "pads": [1, 1]},
        {"taps": 3, "biased": False, "pads": [2, 0]},
        {"taps": 7, "pads": [9, 9], "dilations": [3]},
        {"taps": 4},
    ],
)
def test_convolutions_run_in_8_bits(how, tmp_path):
    model = conv_model(**how)
    x = np.random.default_rng(1).normal(size=(1, 64, 50)).astype(np.float32)
    exact = run(model, {"x": x})[0]
    assert convs_in_int8(model, tmp_path) == 1
    kinds = {node.op_type for node in model.graph.node}
    assert "MatMulIntegerToFloat" in kinds
    assert "Conv" not in kinds
    made = run(model, {"x": x})[0]
    assert made.shape == exact.shape
    assert np.square(made - exact).mean() < np.square(exact).mean() * 10**-3.5


@pytest.mark.parametrize(
    "how",
    [
        {"taps": 3, "strides": [2]},
        {"taps": 3, "width": 16},
        {"taps": 3, "auto_pad": "SAME_UPPER"},
    ],
)
def test_other_convolutions_stay(how, tmp_path):
    assert convs_in_int8(conv_model(**how), tmp_path) == 0


def test_what_must_be_exact_stays_exact(tmp_path):
    assert convs_in_int8(conv_model(3), tmp_path, exact=["y"]) == 0


# --- attention


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
"""As an exporter writes it: the scale from a shape, half of it on each side, and a mask."""


def attention_feeds(steps: int, masked: float = 0.0) -> dict[str, Any]:
    rng = np.random.default_rng(steps)
    feeds: dict[str, Any] = {
        name: rng.normal(size=(1, steps, 64)).astype(np.float32) for name in "qkv"
    }
    return feeds | {"mask": np.full((1, 1, 1, steps), masked, np.float32)}


def told_of(model: onnx.ModelProto, masked: float = 0.0) -> Seen:
    """What runs of two lengths show."""
    asked = questions(model)
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
    return seen(made, asked, masks=True)


@pytest.mark.parametrize("text", [ATTENTION, COMPUTED])
def test_attention_is_the_same_in_one_operator(text):
    model = inlined(model_of(text))
    feeds = {i.name: attention_feeds(30)[i.name] for i in model.graph.input}
    exact = run(model, feeds)[0]
    assert one_attention(model, told_of(model)) == 1
    kinds = {node.op_type for node in model.graph.node}
    assert "MultiHeadAttention" in kinds
    assert not kinds & {"MatMul", "Softmax", "Reshape", "Transpose", "Shape", "Sqrt"}
    np.testing.assert_allclose(run(model, feeds)[0], exact, atol=2e-6)


def test_attention_with_a_mask_that_hides_something_stays():
    model = inlined(model_of(COMPUTED))
    assert one_attention(model, told_of(model, masked=-1.0)) == 0


def test_masks_stay_where_rows_of_different_length_may_come():
    model = inlined(model_of(COMPUTED))
    told = told_of(model)
    assert told.nothing == {"hides"}
    assert one_attention(model, replace(told, nothing=frozenset())) == 0


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
    assert one_attention(model, told) == 0
    (node,) = [n for n in model.graph.node if n.op_type == "MultiHeadAttention"]
    assert list(node.input) == ["q", "k", "v"]
    np.testing.assert_allclose(run(model, feeds)[0], exact, atol=2e-6)


def test_attention_whose_sizes_serve_others_too_stays():
    text = COMPUTED.replace(
        "y = Reshape (oh, joined)", "t = Reshape (oh, joined)\n y = Mul (t, wide)"
    )
    model = inlined(model_of(text))
    assert one_attention(model, told_of(model)) == 0


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
    assert one_attention(model_of(ATTENTION.replace(was, now)), told) == 0


# --- snake


@pytest.mark.parametrize("square", ["Mul (z, z)", "Pow (z, two)"])
def test_snake_is_nearly_the_same_only_quicker(square):
    model = inlined(
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
    assert quick_snake(model) == 1
    assert "Sin" not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(run(model, {"x": x})[0], exact, rtol=1e-6, atol=5e-5)


@pytest.mark.parametrize("square", ["Mul (z, x)", "Pow (z, three)"])
def test_a_sine_that_is_not_squared_stays(square):
    model = model_of(f"""
        g (float[n] x) => (float[n] y) <float three = {{3.0}}> {{
            z = Sin (x)
            y = {square}
        }}""")
    assert quick_snake(model) == 0


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
    assert quick_mish(model) == 1
    assert "Softplus" not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(run(model, {"x": x})[0], exact, rtol=2e-6, atol=1e-6)


def test_a_softplus_that_is_no_mish_stays():
    model = model_of("""
        g (float[n] x) => (float[n] y) {
            s = Softplus (x)
            t = Tanh (s)
            y = Add (s, t)
        }""")
    assert quick_mish(model) == 0


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
    assert one_gelu(model) == 1
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
    assert one_gelu(model_of(gelu(body))) == 0


def gelu(body: str) -> str:
    constants = "float narrow = {0.70710677}, float root = {1.4142135}, float one = {1.0}"
    return f"g (float[n] x) => (float[n] y) <{constants}, float half = {{0.5}}> {{ {body} }}"
