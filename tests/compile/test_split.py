"""Tests of finding the mel, the running sums and the sizes of a decoder."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compile.graphs import model_of, run
from onnx import TensorProto, numpy_helper
from tiny_decoder import opener

from chatterbox.compile.decoder.phase_carry import add_phase_inputs, find_phase_sums
from chatterbox.compile.decoder.split import PROBES, cut, find_mel, fit_dims
from chatterbox.compile.graph import UnsupportedGraph
from chatterbox.runtime.decoder.graph_io import LinearDim, ProbeLength, time_axis

# --- the cut


def vocoder_like(*, first: str, pitch: str, extra: str = "") -> onnx.ModelProto:
    """Return a graph with a mel, two convolutions over it, and nodes in between."""
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
    with pytest.raises(UnsupportedGraph, match="no mel"):
        find_mel(vocoder_like(first=FIRST, pitch="low = Identity (loud)"))


def test_a_vocoder_that_reads_more_of_the_flow_is_not_cut():
    extra = "flat = Unsqueeze (x, two)  s = ReduceSum <keepdims = 0> (flat)  y = Add (both, s)"
    model = vocoder_like(first=FIRST, pitch=PITCH, extra=extra)
    with pytest.raises(UnsupportedGraph, match="also reads x"):
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
BY_FRAMES = [LinearDim(0, 0, 1), LinearDim(2, 0, 0)]


def test_a_sum_goes_on_where_the_piece_before_left_it():
    model = model_of(SUMMING)
    (found,) = find_phase_sums(model)
    assert found.name == "turns"
    add_phase_inputs(model, {found: BY_FRAMES}, {"turns": TensorProto.FLOAT}, wide=True)
    session = opener(Path())(model)
    rng = np.random.default_rng(0)
    f = rng.uniform(0, 0.5, (2, 60)).astype(np.float32)
    ids = np.zeros(1, np.int64)

    def piece(begin: int, end: int, anchor: int, mark: int, carry: Any, use: float) -> list[Any]:
        feeds = {"f": f[:, begin:end], "ids": ids, found.carry: carry, found.use: np.array([use])}
        feeds |= {found.anchor: np.array([anchor - begin]), found.mark: np.array([mark - begin])}
        return session.run(["y", found.carry_out], feeds)

    whole, _ = piece(0, 60, 0, 0, np.zeros((2, 1)), 0.0)
    first, told = piece(0, 40, 0, 30, np.zeros((2, 1)), 0.0)
    # What lies before the anchor may have changed since; from there on the phase is the same.
    second, _ = piece(25, 60, 30, 59, told, 1.0)
    np.testing.assert_allclose(first, whole[:, :40], atol=1e-6)
    np.testing.assert_allclose(second[:, 5:], whole[:, 30:], atol=1e-6)


def test_unused_and_narrow_it_is_the_sum_as_it_was():
    model = model_of(SUMMING)
    sums = find_phase_sums(model)
    f = np.random.default_rng(0).uniform(0, 5, (1, 5000)).astype(np.float32)
    before = run(model, {"f": f, "ids": np.zeros(1, np.int64)})[0]
    add_phase_inputs(
        model, dict.fromkeys(sums, BY_FRAMES), {"turns": TensorProto.FLOAT}, wide=False
    )
    feeds = {"f": f, "ids": np.zeros(1, np.int64), sums[0].carry: np.zeros((1, 1))}
    feeds |= {sums[0].use: np.zeros(1), sums[0].anchor: np.array([9]), sums[0].mark: np.array([0])}
    np.testing.assert_array_equal(run(model, feeds)[0], before)


# --- sizes


def test_sizes_follow_from_the_number_of_codes():
    laws = [LinearDim(0, 0, 1), LinearDim(0, 0, 80), LinearDim(2, 2, 0)]
    seen = {p: tuple(e.at(p) for e in laws) for p in PROBES}
    assert fit_dims(seen) == laws
    assert time_axis(laws) == 2
    assert time_axis(laws[:2]) is None
    assert laws[2].at(ProbeLength(prompt=75, codes=13)) == 176


@pytest.mark.parametrize("shape", [lambda p: (p.codes**2,), lambda p: (1,) * p.codes])
def test_sizes_that_follow_no_line_are_told(shape):
    with pytest.raises(UnsupportedGraph):
        fit_dims({p: shape(p) for p in PROBES})


def test_two_axes_of_time_are_told():
    with pytest.raises(ValueError, match="two axes"):
        time_axis([LinearDim(2, 0, 0), LinearDim(2, 0, 0)])
