"""Tests that every form of a decoder is compiled and proven, or served as published."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from fakes import window_settings
from onnx import TensorProto, parser
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
from chatterbox.compile.decoder.phase_carry import (
    add_phase_inputs,
    find_phase_sums,
    only_fraction_used,
)
from chatterbox.compile.graph import EditableGraph, inline_functions
from chatterbox.runtime.decoder.compiled import Opened
from chatterbox.runtime.decoder.graph_io import LinearDim
from chatterbox.runtime.decoder.s3gen_decoder import StreamSettings
from tools.decoder import forms
from tools.decoder.model import decoder_model
from tools.decoder.weights import TINY, random_weights

WIDE = replace(TINY, channels=64, vocoder=64)
"""Large enough that products and convolutions are quantised."""
ON_A_CPU = StreamSettings(int8=True, memory_bytes=1 << 28)
WINDOWS = window_settings(first_most_frames=6, most_frames=20)

Change = Callable[[onnx.ModelProto], None]


def published(*changes: Change) -> onnx.ModelProto:
    """Return a small decoder in the published form, with random weights and the given changes."""
    model = decoder_model(random_weights(WIDE), ragged=False)
    for change in (forms.without_masks, *changes):
        change(model)
    return model


def opened(model: onnx.ModelProto, folder: Path, settings: StreamSettings = ON_A_CPU) -> Opened:
    return open_decoder(saved(model, folder, external=True), settings)


def in_fp16(model: onnx.ModelProto) -> None:
    forms.with_sums_in(model, TensorProto.FLOAT16)


def in_double(model: onnx.ModelProto) -> None:
    forms.with_sums_in(model, TensorProto.DOUBLE)


FORMS: dict[str, tuple[Change, ...]] = {
    "queries, keys and values apart": (),
    "spelled out": (forms.with_spelled_attention,),
    "attention_bias of zeros": (forms.with_attention_bias,),
    "its own bias": (forms.with_inner_bias,),
    "its own bias and attention_bias": (forms.with_inner_bias, forms.with_attention_bias),
    "packed": (forms.with_packed_qkv,),
    "packed, with its own bias": (forms.with_inner_bias, forms.with_packed_qkv),
    "sums in double": (in_double,),
    "STFT as an operator": (forms.with_stft,),
    "weights stored for each step": (forms.with_weights_twice,),
    "an optimiser's names": (forms.with_other_names,),
    "all that is likely": (
        forms.with_attention_bias,
        forms.with_stft,
        forms.with_weights_twice,
        forms.with_other_names,
    ),
}


SLOW_FORMS = [pytest.param(name, marks=pytest.mark.slow) for name in FORMS]


@pytest.mark.parametrize("form", [*SLOW_FORMS[:-1], "all that is likely"])
def test_every_form_is_cut_quantised_and_remembers_its_prompt(form, tmp_path):
    made = opened(published(*FORMS[form]), tmp_path)
    assert made.kind == "split"
    assert "flow in 8 bits" in made.note
    assert "its prompt cached" in made.note
    assert "vocoder in 8 bits" in made.note


@pytest.mark.slow
def test_weights_stored_twice_are_held_once(tmp_path):
    sizes = []
    for name, changes in (("once", ()), ("twice", (forms.with_weights_twice,))):
        (tmp_path / name).mkdir()
        path = saved(published(*changes), tmp_path / name, external=True)
        made = compile_decoder(path, opener(path.parent), ON_A_CPU)
        sizes.append([sum(_sizes(graph)) for graph in made.graphs.values()])
    assert sizes[0] == sizes[1]


def _sizes(graph: onnx.ModelProto) -> list[int]:
    return [math.prod(i.dims) for i in graph.graph.initializer if math.prod(i.dims) > 1024]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["spelled out", "packed", "STFT as an operator"])
def test_forms_of_one_decoder_sound_alike(form, tmp_path):
    sounds = []
    for name, changes in (("one", ()), ("other", FORMS[form])):
        (tmp_path / name).mkdir()
        exact = opened(published(*changes), tmp_path / name, StreamSettings())
        sounds.append(stream(exact.decoder, some_codes(30), WINDOWS)[0])
    assert snr_db(*sounds) > 60


@pytest.mark.slow
def test_what_onnxslim_makes_of_it_is_taken(tmp_path):
    import onnxslim  # with sympy, which takes a second

    slim = onnxslim.slim(published(forms.with_spelled_attention, forms.with_weights_twice))
    made = opened(slim, tmp_path)
    assert made.kind == "split"
    assert "its prompt cached" in made.note


@pytest.mark.slow
def test_a_bias_that_is_not_of_zeros_stays_and_that_is_said(tmp_path):
    model = published(forms.with_attention_bias)
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            value = onnx.helper.make_tensor("", TensorProto.FLOAT, [1], [-0.5])
            node.attribute.append(onnx.helper.make_attribute("value", value))
    made = opened(model, tmp_path)
    assert made.kind == "split"
    assert "prompt decoded in every window" in made.note


# --- running sums


def doubled(model: onnx.ModelProto) -> onnx.ModelProto:
    in_double(model)
    return model


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The public fp16 converter sums in single precision and casts the sum to half."""
    return convert_float_to_float16(model, keep_io_types=True)


@pytest.mark.parametrize("made_of", [halved, doubled])
def test_in_pieces_a_sum_of_any_type_sounds_as_in_one(made_of, tmp_path):
    decoder = opened(made_of(local_decoder_model()), tmp_path, StreamSettings()).decoder
    exact, _ = stream(decoder, some_codes(120), whole())
    streamed, windows = stream(decoder, some_codes(120), WINDOWS)
    assert len(windows) > 5
    assert snr_db(exact, streamed) > 25


def test_in_half_precision_harmonics_hold_for_40_seconds():
    """The public fp16 converter sums in single precision and casts the sum to half."""
    text = """<ir_version: 9, opset_import: ["" : 18]>
    g (float[1, t] f) => (float[1, t] y) <float turn = {6.2831855}> {
        axis = Constant <value = int64 {1}> ()
        turns = CumSum (f, axis)
        half = Cast <to = 10> (turns)
        whole = Floor (half)
        part = Sub (half, whole)
        wide = Cast <to = 1> (part)
        angle = Mul (wide, turn)
        y = Sin (angle)
    }"""
    model = inline_functions(parser.parse_model(text))
    before = opener(Path())(onnx.ModelProto.FromString(model.SerializeToString()))
    (found,) = find_phase_sums(model)
    law = [LinearDim(0, 0, 1), LinearDim(960, 0, 0)]
    add_phase_inputs(model, {found: law}, {"turns": TensorProto.FLOAT}, wide=True)
    hz = 1800 + 50 * np.sin(np.arange(40 * 24_000) / 5000)  # the ninth harmonic of 200 Hz
    f = (hz / 24_000).astype(np.float32)[None]
    feeds = {"f": f, found.carry: np.zeros((1, 1)), found.use: np.zeros(1)}
    feeds |= {found.anchor: np.array([0]), found.mark: np.array([0])}
    exact = np.sin(2 * np.pi * (np.cumsum(f, axis=1, dtype=np.float64) % 1))
    last = np.s_[:, -24_000:]
    (held,) = opener(Path())(model).run(["y"], feeds)
    assert np.abs(held.astype(np.float64) - exact)[last].max() < 0.01
    (lost,) = before.run(["y"], {"f": f})
    assert not np.isfinite(lost[last]).any() or np.abs(lost - exact)[last].mean() > 0.5


READERS = {
    "f = Floor (s) y = Sub (s, f)": True,
    "a = Cast <to = 10> (s) f = Floor (a) y = Sub (a, f)": True,
    "d = Div (s, one) f = Floor (d) m = Mul (f, one) y = Sub (s, m)": True,
    "y = Mod (s, one)": True,
    "t = Add (s, x) f = Floor (t) y = Sub (t, f)": True,
    "t = Add (s, x) u = Mod (t, one) f = Floor (s) v = Sub (s, f) y = Add (u, v)": True,
    "y = Sin (s)": False,
    "y = Mod (s, two)": False,
    "y = Mod <fmod = 1> (s, one)": False,
    "d = Mul (s, two) f = Floor (d) y = Sub (d, f)": False,
    "f = Floor (s) t = Sub (s, f) y = Add (t, f)": False,
    "f = Floor (s) t = Sub (s, f) u = Sin (s) y = Add (t, u)": False,
    "f = Floor (s) y = Sub (f, s)": False,
    "y = Identity (s)": False,
}


@pytest.mark.parametrize("readers", READERS)
def test_whole_turns_are_dropped_only_where_nothing_reads_them(readers):
    text = f"""<ir_version: 9, opset_import: ["" : 18]>
    g (float[n] x) => (float[n] y) <float one = {{1.0}}, float two = {{2.0}}> {{
        axis = Constant <value = int64 {{0}}> ()
        s = CumSum (x, axis)
        {readers}
    }}"""
    model = inline_functions(parser.parse_model(text))
    assert only_fraction_used("s", EditableGraph(model)) is READERS[readers]


@pytest.mark.slow
def test_in_half_precision_throughout_it_is_cut_and_exact(tmp_path):
    """Its products stay unchanged: only single-precision products are quantised."""
    made = opened(halved(published()), tmp_path)
    assert (made.kind, made.note.startswith("flow exact; vocoder exact")) == ("split", True)


def test_a_sum_that_is_itself_in_fp16_is_served_as_published_and_why_is_said(tmp_path):
    model = local_decoder_model()
    in_fp16(model)
    made = opened(model, tmp_path, StreamSettings())
    assert made.kind == "as published"
    assert "dB SNR" in made.note
