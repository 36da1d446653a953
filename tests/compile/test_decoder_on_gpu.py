"""Tests on a CPU that the decoder compiled for a GPU computes the same."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnxruntime.transformers.float16 import convert_float_to_float16
from tiny_decoder import (
    local_decoder_model,
    open_decoder,
    opener,
    saved,
    snr_db,
    some_codes,
    stream,
    whole,
)

from chatterbox.compile.decoder.compiler import compile_decoder
from chatterbox.compile.decoder.equivalence import compare
from chatterbox.compile.decoder.gpu import find_crossings, stft_as_convolution
from chatterbox.compile.decoder.phase_carry import add_phase_inputs, find_phase_sums
from chatterbox.compile.decoder.random_ops import draw_from_table
from chatterbox.compile.graph import inline_functions
from chatterbox.errors import ModelError
from chatterbox.runtime.decoder.compiled import probe_feeds
from chatterbox.runtime.decoder.graph_io import LinearDim, ProbeLength, RandomOp
from chatterbox.runtime.decoder.s3gen_decoder import StreamSettings
from chatterbox.runtime.decoder.stream_inputs import NoiseInputs, Place, RowLayout
from tools.decoder import forms
from tools.decoder.model import decoder_model
from tools.decoder.weights import TINY, random_weights

ON_A_GPU = StreamSettings(prompt_codes=12, on_gpu=True, max_rows=2, sizes=(5, 10, 20))
ROWS = LinearDim(0, 0, 1)


def exported() -> onnx.ModelProto:
    """Return a small decoder that computes sizes as exporters do."""
    model = decoder_model(random_weights(TINY))
    forms.with_spelled_attention(model)
    forms.with_sizes_read_out(model)
    return model


def kinds(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


# --- sizes


def test_nothing_crosses_between_host_and_device(tmp_path):
    model = exported()
    forms.with_stft(model)
    down, up = find_crossings(model)
    assert len(down) > 2
    assert len(up) == 2
    made = compile_decoder(saved(model, tmp_path), opener(tmp_path), ON_A_GPU)
    assert [find_crossings(graph) for graph in made.graphs.values()] == [(set(), set())] * 2
    assert "MultiHeadAttention" in kinds(made.graphs["flow"])
    assert "ReduceMax" not in kinds(made.graphs["flow"])
    assert "STFT" not in kinds(made.graphs["vocoder"])
    assert made.decoder.rows_share_calls


# --- the operator STFT, for which there is no CUDA kernel


@pytest.mark.parametrize(
    ("inputs", "onesided", "shape"),
    [
        ("step, window, length", 1, "2, 100, 1"),
        ("step, window", 1, "2, 100"),
        ("step, window, length", 0, "1, 97, 1"),
        ("step, , length", 1, "1, 16, 1"),
    ],
)
def test_a_spectrum_by_the_operator_becomes_one_by_convolution(inputs, onesided, shape, tmp_path):
    model = inline_functions(
        parser.parse_model(f"""
        <ir_version: 9, opset_import: ["" : 17]>
        g (float[{shape}] x) => (float[b, t, f, c] y)
        <int64 step = {{4}}, int64 length = {{16}}> {{
            w = HannWindow (length)
            y = STFT <onesided = {onesided}> (x, {inputs})
        }}""")
    )
    window = np.random.default_rng(0).normal(size=16).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(window, "window"))
    x = np.random.default_rng(1).normal(size=[int(n) for n in shape.split(",")])
    feeds = {"x": x.astype(np.float32)}
    (exact,) = opener(tmp_path)(model).run(None, feeds)
    assert stft_as_convolution(model, tmp_path) == 1
    assert kinds(model) == {"Reshape", "Conv", "Transpose"}
    np.testing.assert_allclose(opener(tmp_path)(model).run(None, feeds)[0], exact, atol=2e-5)


def test_a_spectrum_whose_window_is_computed_stays(tmp_path):
    model = parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 17]>
        g (float[1, 64, 1] x) => (float[b, t, f, c] y) <int64 step = {4}, int64 length = {16}> {
            w = HannWindow (length)
            y = STFT (x, step, w)
        }""")
    assert stft_as_convolution(model, tmp_path) == 0
    assert "STFT" in kinds(model)


def test_a_flow_for_a_gpu_is_the_one_for_a_cpu_on_the_same_noise(tmp_path):
    path, length = saved(exported(), tmp_path), ProbeLength(7, 30)
    on_cpu, on_gpu = (
        compile_decoder(path, opener(tmp_path), settings)
        for settings in (StreamSettings(), ON_A_GPU)
    )
    sessions = [opener(tmp_path)(made.graphs["flow"]) for made in (on_cpu, on_gpu)]
    (op,) = [op for op, law in on_gpu.decoder.randoms.items() if law[2].per_code == 2]
    law = on_gpu.decoder.randoms[op]
    drawn = NoiseInputs({op: law}, 0, {op}).feeds([3], [Place(length, 5)])
    table = RowLayout.of(law).table(op)
    noise = table[drawn[op.rows]].transpose(0, 2, 1)
    given = probe_feeds(length)
    mel = on_gpu.decoder.mel
    (exact,) = sessions[0].run([mel], {**given, op.name: noise})
    (made,) = sessions[1].run([mel], {**given, **drawn})
    assert snr_db(exact, made) > 100


@pytest.mark.slow
def test_streams_on_a_gpu_are_whole(tmp_path):
    decoder = open_decoder(saved(exported(), tmp_path), ON_A_GPU).decoder
    for count in (1, 15, 29):
        sound, _ = stream(decoder, some_codes(count), whole())
        assert sound.size == (count + 3) * 960
        assert np.isfinite(sound).all()
        assert sound.any()


def test_masks_that_hide_nothing_are_dropped(tmp_path):
    path = saved(decoder_model(random_weights(TINY)), tmp_path)
    flow = compile_decoder(path, opener(tmp_path), ON_A_GPU).graphs["flow"]
    attentions = [node for node in flow.graph.node if node.op_type == "MultiHeadAttention"]
    assert attentions
    assert {len(node.input) for node in attentions} == {3}


def test_a_number_of_the_hosts_becomes_one_of_the_devices():
    text = """<ir_version: 9, opset_import: ["" : 18]>
    g (int64[b, n] codes, float[b, f, c] mel) => (float[m] y) <int64 one = {1}, int64 zero = {0}> {
        shape = Shape (codes)
        count = Gather (shape, one)
        ones = ConstantOfShape (shape)
        lengths = ReduceSum <keepdims = 0> (ones)
        long = Add (lengths, count)
        steps = Range (zero, long, one)
        more = Mul (steps, count)
        y = Cast <to = 1> (more)
    }"""
    assert find_crossings(inline_functions(parser.parse_model(text))) == ({"count"}, {"long"})


def test_what_is_made_of_constants_alone_crosses_nothing():
    text = """<ir_version: 9, opset_import: ["" : 18]>
    g (float[b, n] x) => (float[b, m] y) <int64[1] four = {4}> {
        none = ConstantOfShape (four)
        pads = Cast <to = 7> (none)
        y = Pad (x, pads)
    }"""
    assert find_crossings(inline_functions(parser.parse_model(text))) == (set(), set())


# --- noise


@pytest.mark.parametrize(
    ("law", "place"),
    [
        ([ROWS, LinearDim(0, 0, 80), LinearDim(2, 2, 0)], Place(ProbeLength(3, 7), 4)),
        ([ROWS, LinearDim(2, 2, 0), LinearDim(0, 0, 80)], Place(ProbeLength(0, 7), 4)),
        ([ROWS, LinearDim(0, 0, 9), LinearDim(960, 0, 0)], Place(ProbeLength(0, 7), 2.5)),
        ([ROWS, LinearDim(960, 0, 0), LinearDim(0, 0, 9)], Place(ProbeLength(0, 7), 2.5)),
    ],
)
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_noise_made_in_the_graph_is_of_its_place_alone(law, place, kind):
    op = RandomOp("noise", kind, -1.0, 0.5)
    shape = [dim.at(place.length) for dim in law]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["noise"], ["y"])],
            "g",
            [helper.make_tensor_value_info("noise", TensorProto.FLOAT, [None] * 3)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 3)],
        ),
        ir_version=9,
        opset_imports=[helper.make_opsetid("", 18)],
    )
    assert draw_from_table(model, op, law)
    session = opener(Path())(model)

    def drawn(seeds: list[int], places: list[Place]) -> np.ndarray:
        return session.run(["y"], NoiseInputs({op: law}, 0, {op}).feeds(seeds, places))[0]

    both = drawn([1, 2], [place, place])
    assert both.shape == (2, *shape[1:])
    np.testing.assert_array_equal(both[:1], drawn([1], [place]))
    assert not np.array_equal(both[0], both[1])
    time = 1 if law[1].per_code else 2
    later = Place(ProbeLength(place.length.prompt, 5), place.begin + 2)
    behind = law[time].per_prompt * place.length.prompt
    skipped = 2 * law[time].per_code
    one, other = (np.moveaxis(x, time, 1)[0, behind:] for x in (both, drawn([1], [later])))
    np.testing.assert_array_equal(one[skipped:], other)
    if kind == "normal":
        assert abs(both.mean() + 1.0) < 0.1
        assert abs(both.std() - 0.5) < 0.05
    else:
        assert both.min() >= -1
        assert both.max() < 0.5


def test_draws_of_another_make_stay_inputs():
    for law in (
        [ROWS, LinearDim(0, 0, 9), ROWS],
        [ROWS, LinearDim(3, 0, 0), LinearDim(0, 0, 9)],
        [ROWS, LinearDim(2, 0, 1), LinearDim(0, 0, 80)],
    ):
        assert not draw_from_table(onnx.ModelProto(), RandomOp("noise", "normal", 0, 1), law)


# --- phase


def summing(shape: str, axis: int) -> onnx.ModelProto:
    text = f"""<ir_version: 9, opset_import: ["" : 18]>
    g (float[{shape}] f) => (float[{shape}] y) {{
        axis = Constant <value = int64 {{{axis}}}> ()
        turns = CumSum (f, axis)
        y = Sin (turns)
    }}"""
    return inline_functions(parser.parse_model(text))


@pytest.mark.parametrize(("time", "axis"), [(1, 1), (2, 2), (2, -1)])
def test_a_sum_by_frames_is_the_sum(time, axis):
    law = [ROWS, LinearDim(0, 0, 9), LinearDim(0, 0, 9)]
    law[time] = LinearDim(960, 0, 0)
    model = summing("b, n, m", axis)
    sums = dict.fromkeys(find_phase_sums(model), law)
    add_phase_inputs(model, sums, {"turns": TensorProto.FLOAT}, wide=True)
    assert [n.op_type for n in model.graph.node].count("CumSum") == 2
    shape = [dim.at(ProbeLength(0, 75)) for dim in law]
    rng = np.random.default_rng(1)
    f = rng.uniform(0.001, 0.1, [2, *shape[1:]]).astype(np.float32)
    (s,) = sums
    one = [2, *(1 if i == time else n for i, n in enumerate(shape[1:], 1))]
    feeds = {"f": f, s.carry: rng.uniform(size=one), s.use: np.ones(1)}
    feeds |= {s.anchor: np.array([7000]), s.mark: np.array([71_999])}
    (told,) = opener(Path())(model).run([s.carry_out], feeds)
    exact = np.cumsum(f, axis=time, dtype=np.float64)
    expected = exact.take([71_999], time) - exact.take([7000], time) + feeds[s.carry]
    assert np.abs(told - expected).max() < 1e-9


@pytest.mark.parametrize(
    ("law", "axis"),
    [
        ([ROWS, LinearDim(0, 0, 9), LinearDim(2, 0, 0)], 2),
        ([ROWS, LinearDim(0, 0, 9), LinearDim(960, 0, 1)], 2),
        ([ROWS, LinearDim(0, 0, 9), LinearDim(960, 0, 0)], 1),
    ],
)
def test_other_sums_are_left_as_they_are(law, axis):
    model = summing("b, n, m", axis)
    sums = dict.fromkeys(find_phase_sums(model), law)
    add_phase_inputs(model, sums, {"turns": TensorProto.FLOAT}, wide=True)
    assert [n.op_type for n in model.graph.node].count("CumSum") == 1


def in_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    return convert_float_to_float16(model, keep_io_types=True)


@pytest.mark.slow
def test_in_half_precision_a_phase_is_kept_by_its_fraction(tmp_path):
    made = open_decoder(saved(in_fp16(exported()), tmp_path), ON_A_GPU)
    assert made.kind == "split"


def test_a_phase_that_half_precision_would_lose_is_refused(tmp_path):
    model = local_decoder_model()
    known = {o: n for n in model.graph.node for o in n.output}
    for node in model.graph.node:  # whole turns go to the sine
        if node.op_type == "Sub" and known.get(node.input[1], node).op_type == "Floor":
            node.op_type, node.input[:] = "Identity", [node.input[0]]
    summed = onnx.ModelProto.FromString(model.SerializeToString())
    forms.with_sums_in(summed, TensorProto.FLOAT16)
    for lossy in (in_fp16(model), summed):
        with pytest.raises(ModelError, match="CHATTERBOX_CONDITIONAL_DECODER_DTYPE=fp32"):
            open_decoder(saved(lossy, tmp_path), ON_A_GPU)
    assert open_decoder(saved(model, tmp_path), ON_A_GPU).kind == "split"


# --- what counts as the same


def test_on_a_gpu_rounding_is_no_other_sound_and_another_row_is():
    mels_alike = partial(compare, on_gpu=True, sound=False)
    sounds_alike = partial(compare, on_gpu=True, sound=True)
    rng = np.random.default_rng(0)
    mel = rng.normal(-6, 2.5, (1, 80, 40))
    assert mels_alike(mel, mel + rng.normal(0, 0.05, mel.shape)).is_equal
    assert not mels_alike(mel, rng.normal(-6, 2.5, mel.shape)).is_equal
    turns = np.cumsum(np.repeat(rng.uniform(100, 300, 30), 960) / 24_000)[None]
    sound = sum(np.sin(2 * np.pi * k * turns) / k for k in range(1, 10))
    later = sum(np.sin(2 * np.pi * (k * turns + 0.1 * k)) / k for k in range(1, 10))
    assert snr_db(sound, later) < 10
    assert sounds_alike(sound, later).is_equal
    assert not sounds_alike(sound, np.roll(sound, 5000)).is_equal
    assert not sounds_alike(sound, np.full_like(sound, np.nan)).is_equal
    assert sounds_alike(sound, sound).text == "0.00 dB apart in sound"


def test_on_a_cpu_they_differ_by_rounding_alone():
    sounds_alike = partial(compare, on_gpu=False, sound=True)
    sound = np.random.default_rng(0).normal(size=(1, 4000))
    assert sounds_alike(sound, sound * (1 + 1e-4)).is_equal
    assert not sounds_alike(sound, sound * 1.01).is_equal
