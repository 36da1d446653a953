"""The shipped directory has the hub's layout, its graphs the contract, in each precision."""

import json

import made
import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer

from chatterbox.families.turbo.spec import GRAPHS, ROOT_FILES
from chatterbox.hub.files import PRECISION_SUFFIX, PRECISIONS, graph_file

HIDDEN = 64
MOST_BYTES = 10_000_000
END = 256


def test_files_are_the_hubs():
    expected = {*ROOT_FILES}
    for graph in GRAPHS:
        for precision in PRECISIONS:
            expected |= {graph_file(graph, precision), (graph_file(graph, precision) + "_data")}
    files = {p.relative_to(made.path()).as_posix() for p in made.path().rglob("*") if p.is_file()}
    assert files == expected


def test_all_of_it_is_small():
    assert sum(p.stat().st_size for p in made.path().rglob("*") if p.is_file()) <= MOST_BYTES


@pytest.mark.parametrize("precision", PRECISIONS)
def test_names_types_and_shapes(model, precision):
    half = precision in ("fp16", "q4f16")
    kv = "tensor(float16)" if half else "tensor(float)"
    f32, i64 = "tensor(float)", "tensor(int64)"
    cache = ["batch", 4, "past", 16], ["batch", 4, "total", 16]
    kinds = [(layer, kind) for layer in range(2) for kind in ("key", "value")]
    expected = {
        "speech_encoder": (
            [("audio_values", f32, ["batch", "samples"])],
            [
                ("audio_features", f32, ["batch", "rows", HIDDEN]),
                ("audio_tokens", i64, ["batch", "prompt"]),
                ("speaker_embeddings", f32, ["batch", 192]),
                ("speaker_features", f32, ["batch", "frames", 80]),
            ],
        ),
        "embed_tokens": (
            [("input_ids", i64, ["batch", "sequence"])],
            [("inputs_embeds", f32, ["batch", "sequence", HIDDEN])],
        ),
        "language_model": (
            [
                ("inputs_embeds", f32, ["batch", "sequence", HIDDEN]),
                ("attention_mask", i64, ["batch", "total"]),
                ("position_ids", i64, ["batch", "sequence"]),
                *((f"past_key_values.{n}.{kind}", kv, cache[0]) for n, kind in kinds),
            ],
            [
                ("logits", f32, ["batch", "sequence", 6563]),
                *((f"present.{n}.{kind}", kv, cache[1]) for n, kind in kinds),
            ],
        ),
        "conditional_decoder": (
            [
                ("speech_tokens", i64, ["batch", "tokens"]),
                ("speaker_embeddings", f32, ["batch", 192]),
                ("speaker_features", f32, ["batch", "frames", 80]),
            ],
            [("waveform", f32, ["batch", "samples"])],
        ),
    }
    for graph in GRAPHS:
        session = model(precision).session(graph)
        found = tuple(
            [(edge.name, edge.type, edge.shape) for edge in edges]
            for edges in (session.get_inputs(), session.get_outputs())
        )
        assert found == tuple(expected[graph]), graph


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_lie_in_one_sidecar_which_they_fill(precision):
    for graph in GRAPHS:
        path = made.path() / graph_file(graph, precision)
        loaded = onnx.load(str(path), load_external_data=False)
        ends = set()
        for tensor in loaded.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                entry = {e.key: e.value for e in tensor.external_data}
                assert entry["location"] == path.name + "_data"
                ends.add(int(entry["offset"]) + int(entry["length"]))
        assert max(ends) == (made.path() / (graph_file(graph, precision) + "_data")).stat().st_size


@pytest.mark.parametrize("precision", ["q8", "q4", "q4f16"])
def test_small_precisions_use_blocks(precision):
    suffix = PRECISION_SUFFIX[precision]
    loaded = onnx.load(
        str(made.path() / f"onnx/language_model{suffix}.onnx"), load_external_data=False
    )
    kinds = [node.op_type for node in loaded.graph.node]
    assert kinds.count("MatMulNBits") == 9
    assert kinds.count("GatherBlockQuantized") == 1
    assert {o.domain: o.version for o in loaded.opset_import} == {"": 18, "com.microsoft": 1}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_encoder_lengths(model, precision):
    rng = np.random.default_rng(0)
    for seconds, rows, prompt in ((0.01, 1, 1), (3.0, 75, 75), (12.0, 300, 250), (21.3, 375, 250)):
        audio = rng.standard_normal(int(seconds * 24_000)) * 0.1
        features, tokens, speaker, mel = model(precision).encode(audio)
        assert features.shape == (1, 1 + rows, HIDDEN)
        assert tokens.shape == (1, prompt)
        assert speaker.shape == (1, 192)
        assert mel.shape == (1, 2 * prompt, 80)
        assert tokens.min() >= 0 and tokens.max() < 6561
        for values in (features, speaker, mel):
            assert np.isfinite(values).all()


def test_encoder_takes_silence(model):
    assert all(np.isfinite(part).all() for part in model("fp32").encode(np.zeros(48_000)))


def test_encoder_rows_of_a_batch_are_those_alone(model, low_voice, high_voice):
    clips = [low_voice[:96_000], high_voice[:96_000]]
    together = model("fp32").encode(np.stack(clips))
    for row, clip in enumerate(clips):
        for both, alone in zip(together, model("fp32").encode(clip), strict=True):
            np.testing.assert_allclose(both[row], alone[0], atol=1e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_embedding_chooses_the_table_by_place(model, precision):
    embed = model(precision).embed
    codes = np.stack([embed([[code]])[0, 0] for code in (6561, 100, 256, 6000)])
    text = embed([[72, 105, 33, END, END]])[0]
    np.testing.assert_array_equal(text[3:], codes[[0, 0]])
    np.testing.assert_array_equal(embed([[72, 100, 6000]])[0], [text[0], codes[1], codes[3]])
    np.testing.assert_array_equal(embed([[100, 6000]])[0], codes[[1, 3]])
    # An id standing alone is a code, also where it equals the text's end.
    assert np.abs(codes[2] - codes[0]).max() > 0.1
    assert np.abs(embed([[72, 72, 72]])[0, 0] - embed([[72]])[0, 0]).max() > 0.1


def test_embedding_of_a_batch(model):
    ids = np.array([[1, 2, 3, END, END], [4, 5, 6, END, END]])
    together = model("q4").embed(ids)
    for row in range(2):
        np.testing.assert_array_equal(together[row], model("q4").embed(ids[row : row + 1])[0])


def test_tokenizer_has_bytes_tags_and_two_ends():
    tokenizer = Tokenizer.from_file(str(made.path() / "tokenizer.json"))
    assert tokenizer.encode("Hi [laugh]é").ids == [72, 105, 32, 275, 195, 169, END, END]
    assert tokenizer.encode("[clear throat]").ids == [267, END, END]
    assert tokenizer.encode("[Laugh]").ids == [*b"[Laugh]", END, END]
    assert tokenizer.encode("").ids == [END, END]
    assert tokenizer.get_vocab_size() == 276
    every = bytes(range(256)).decode("latin-1")
    assert tokenizer.decode(tokenizer.encode(every).ids) == every


def test_config_says_what_the_graphs_are():
    config = json.loads((made.path() / "config.json").read_text())
    graph = onnx.load(str(made.path() / "onnx/language_model.onnx"), load_external_data=False).graph
    shapes = {tuple(t.dims) for t in graph.initializer}
    assert (config["n_positions"], config["hidden_size"]) in shapes
    assert (config["hidden_size"], config["vocab_size"]) in shapes
    generation = json.loads((made.path() / "generation_config.json").read_text())
    assert (generation["bos_token_id"], generation["eos_token_id"]) == (6561, 6562)
