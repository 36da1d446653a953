"""A model's other precisions, made of its fp32, say what those say that were built as such."""

import made
import numpy as np
import onnx
import pytest
from builder.drive import SOME_PRECISIONS, Model

from chatterbox.families.turbo.spec import GRAPHS
from chatterbox.hub.files import ModelFiles, graph_file
from tools.build_model import main


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("converted")
    main(["convert", str(directory), "--of", str(made.path())])
    return directory


@pytest.mark.parametrize("precision", SOME_PRECISIONS)
def test_a_converted_model_says_the_same(converted, model, precision, low_voice):
    ModelFiles(converted, dict.fromkeys(GRAPHS, precision)).check()
    ours, built = Model(converted, precision), model(precision)
    voice, expected = ours.encode(low_voice), built.encode(low_voice)
    for name in ("inputs", "outputs"):
        edges = [
            [(e.name, e.type, e.shape) for e in getattr(m.session(g), f"get_{name}")()]
            for m in (ours, built)
            for g in GRAPHS
        ]
        assert edges[: len(GRAPHS)] == edges[len(GRAPHS) :]
    codes = ours.speak(expected[0], "Hello there.")
    assert codes == built.speak(expected[0], "Hello there.")
    sound, other = ours.decode(codes, voice), built.decode(codes, expected)
    assert sound.shape == other.shape
    assert np.isfinite(sound).all()


@pytest.mark.parametrize("precision", ["q8", "q4", "q4f16"])
def test_what_hears_and_makes_sound_keeps_eight_bits(converted, precision):
    found = {}
    for graph in GRAPHS:
        loaded = onnx.load(converted / graph_file(graph, precision), load_external_data=False)
        found[graph] = {
            attribute.i
            for node in loaded.graph.node
            for attribute in node.attribute
            if attribute.name == "bits"
        }
    others = 8 if precision == "q8" else 4
    assert found["language_model"] == found["embed_tokens"] == {others}
    assert found["speech_encoder"] | found["conditional_decoder"] == {8}


def test_fewer_bits_are_fewer_bytes(converted):
    sizes = []
    for precision in ("fp32", "fp16", "q8", "q4"):
        files = ModelFiles(converted, dict.fromkeys(GRAPHS, precision))
        sizes.append(sum(files.sidecars(graph)[0].stat().st_size for graph in GRAPHS))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] < 0.52 * sizes[0]
    assert sizes[3] < 0.25 * sizes[0]
