"""The SNAC decoder gives its authors' sound: whole, in windows, in company, for every seed.

On small codecs with random weights in the published layout.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from families.orpheus.snac_reference import decoded
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from chatterbox.arrays import F32, I64
from chatterbox.compile.snac import stream_jobs
from chatterbox.config import TTSConfig
from chatterbox.errors import ModelError
from chatterbox.families.base import Voice
from chatterbox.families.snac import open_codec
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.cuda_graphs import CapturedSession
from chatterbox.runtime.decoder.snac import (
    BLOCKS,
    CODEBOOK_PLACES,
    CROPS,
    SNAC,
    SnacEncoder,
    addressed_noise,
)
from chatterbox.runtime.decoder.snac_decoder import SnacDecoder, needed_steps
from chatterbox.runtime.sessions import SessionSettings, open_session
from tools import bench_codec
from tools.model_builder.snac import SMALL, random_weights, write_snac

CPU = SessionSettings("cpu", 1, {})
FRAME = SNAC.samples_per_frame
AUTHORS = Path(__file__).with_name("snac_authors.npz")
"""What the authors' package makes of these weights, tokens, noise and audio: `sound` and `frames`;
`test_snac_authors.py` writes it, and compares it with the package where that is installed."""
FRAMES = 7
WEIGHTS_SEED, NOISE_SEED = 5, 9


def reference_audio() -> F32:
    return np.random.default_rng(1).normal(0, 0.2, 9 * FRAME - 100).astype(np.float32)


class Codec(NamedTuple):
    decoder: SnacDecoder
    note: str


def opened(path: Path, data_dir: Path) -> Codec:
    return Codec(*open_codec(TTSConfig(data_dir=data_dir), path, CPU))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("snac")
    write_snac(made, precisions=("fp32", "fp16"))
    return made / "onnx"


@pytest.fixture(scope="module")
def decoder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SnacDecoder:
    codec = opened(folder / "decoder_model.onnx", tmp_path_factory.mktemp("data"))
    assert "noise by seed" in codec.note
    return codec.decoder


def some_tokens(frames: int, seed: int = 0) -> I64:
    codes = np.random.default_rng(seed).integers(0, 4096, (frames, 7))
    return (codes + 4096 * np.arange(7)).reshape(-1)


def spoken(decoder: SnacDecoder, tokens: I64, hops: Iterator[int], seed: int = 0) -> F32:
    """A whole stream, each window's samples behind the last."""
    made, at = [np.zeros(0, np.float32)], 0
    for job in stream_jobs(decoder, tokens, hops, seed):
        (one,) = decoder.run([job])
        assert one.at == at
        at += len(one.samples)
        made.append(one.samples)
    return np.concatenate(made)


def test_the_receptive_field_is_the_known_one():
    """So many samples from a window's edge, nothing beyond the edge is needed any more."""
    # The depthwise convolution in front of the blocks looks three latents aside; 4 are a frame.
    latents = [needed_steps(20, sample, sample + 1)[0] for sample in range(20 * FRAME)]
    left = next(at for at, steps in enumerate(latents) if steps.start >= 3)
    right = next(at for at, steps in enumerate(reversed(latents)) if steps.stop <= 77)
    assert left == right == 4757 == SNAC.look_ahead_frames * FRAME + SNAC.delay_samples


@pytest.mark.parametrize("hop", [FRAMES, 1, 2])
def test_sound_is_that_of_the_authors_package(tmp_path: Path, hop: int):
    write_snac(tmp_path, WEIGHTS_SEED)
    decoder = opened(tmp_path / "onnx" / "decoder_model.onnx", tmp_path).decoder
    made = spoken(decoder, some_tokens(FRAMES), repeat(hop), NOISE_SEED)
    np.testing.assert_allclose(made, np.load(AUTHORS)["sound"], atol=1e-5)


def test_a_references_codes_are_those_of_the_authors_package(tmp_path: Path):
    write_snac(tmp_path, WEIGHTS_SEED)
    frames = np.load(AUTHORS)["frames"]
    kept = np.append(True, frames[1:, 0] != frames[:-1, 0])
    encoder = SnacEncoder(open_session(tmp_path / "onnx" / "encoder_model.onnx", CPU))
    ours = encoder.encode(reference_audio())
    np.testing.assert_array_equal(ours.reshape(-1, 7) % 4096, frames[kept])


def test_it_is_what_the_authors_describe(decoder: SnacDecoder):
    frames, seed = 5, 3
    tokens = some_tokens(frames)
    codes = tokens.reshape(-1, 7) % 4096
    rows = [codes[:, places].reshape(-1) for places in CODEBOOK_PLACES]
    noise = [addressed_noise(seed, i, 0, rate * frames) for i, (_, rate) in enumerate(BLOCKS)]
    wanted = decoded(random_weights(SMALL), rows, noise)
    whole = spoken(decoder, tokens, repeat(frames), seed)
    np.testing.assert_allclose(whole, wanted, atol=1e-5)
    assert 0.03 < whole.std() < 0.5
    np.testing.assert_allclose(spoken(decoder, tokens, repeat(1), seed), wanted, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    frames=st.integers(1, 12),
    hops=st.lists(st.integers(1, 5), min_size=12, max_size=12),
    seed=st.integers(0, 2**64 - 1),
)
def test_windows_fall_as_they_like(decoder: SnacDecoder, frames: int, hops: list[int], seed: int):
    tokens = some_tokens(frames)
    whole = spoken(decoder, tokens, repeat(frames), seed)
    assert whole.size == frames * FRAME
    np.testing.assert_allclose(spoken(decoder, tokens, iter(hops), seed), whole, atol=1e-5)


def test_the_first_sound_comes_after_three_frames(decoder: SnacDecoder):
    first, *_, last = stream_jobs(decoder, some_tokens(9), repeat(1))
    assert first.window.stop == 3
    (sound,) = decoder.run([first])
    assert sound.samples.size == 3 * FRAME - 4757
    assert last.window.end_sample == 9 * FRAME


def test_samples_held_back_for_a_cross_fade_come_again(decoder: SnacDecoder):
    tokens = some_tokens(8)
    whole = spoken(decoder, tokens, repeat(8))
    for job in stream_jobs(decoder, tokens, repeat(1)):
        held = 0 if job.window.last else 360
        again = replace(
            job, next_sample=max(job.next_sample - 360, 0), resume_sample=job.resume_sample - held
        )
        (one,) = decoder.run([again])
        assert one.at == again.next_sample
        wanted = whole[one.at : job.window.end_sample]
        np.testing.assert_allclose(one.samples, wanted, atol=1e-5)


def test_a_stream_without_a_frame_has_no_sound(decoder: SnacDecoder):
    assert spoken(decoder, some_tokens(0), repeat(1)).size == 0


def test_seeds_repeat_and_differ(decoder: SnacDecoder):
    tokens = some_tokens(4)
    one, again, other = (spoken(decoder, tokens, repeat(4), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


def test_rows_in_company_sound_as_alone(decoder: SnacDecoder):
    rows = [
        list(stream_jobs(decoder, some_tokens(9, row), repeat(1), row))[row + 3] for row in range(3)
    ]
    assert len({decoder.bucket(job) for job in rows}) == 1
    for job, together in zip(rows, decoder.run(rows), strict=True):
        (alone,) = decoder.run([job])
        assert together.at == alone.at
        np.testing.assert_array_equal(together.samples, alone.samples)


def test_first_middle_and_last_windows_do_not_meet(decoder: SnacDecoder):
    all_of_them = list(stream_jobs(decoder, some_tokens(12), repeat(1)))
    assert len({decoder.bucket(job) for job in all_of_them}) == 5  # 0 to 3 frames before; the end


SIZES = (1, 2, 5)
LEAST_IN_TWO = 7  # frames: the first size as long as the context, and what is looked ahead


@pytest.fixture(scope="module")
def replayed(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """As on a GPU, where windows come in few shapes, each captured; here by a CPU. And a list that
    grows by whatever was not met before."""
    data = tmp_path_factory.mktemp("replayed")
    opened(folder / "decoder_model.onnx", data)
    (graph,) = data.glob("compiled/*/decoder.onnx")

    def open_graph(_: dict[str, str] | None):
        return open_session(graph.read_bytes(), CPU, weights_in=folder)

    session = CapturedSession(open_graph, Memory("cpu"), CROPS)
    decoder = SnacDecoder(session, max_rows=4, sizes=SIZES, replayed=True)
    with session.recording():
        decoder.run_all_shapes(Voice("nobody's", None))
    # Of 1, 2 and 4 rows: 3 sizes at the start or later, the largest behind others at the start.
    assert session.note == "21 shapes replayed"
    others, plainly = [], session.plain
    session.plain = lambda *given: others.append(1) or plainly(*given)
    return decoder, others


@settings(max_examples=10, deadline=None)
@given(
    hops=st.lists(st.sampled_from(SIZES), min_size=3, max_size=8),
    last=st.integers(0, 5),
    seed=st.integers(0, 2**32),
)
def test_few_shapes_give_the_same_sound(decoder, replayed, hops: list[int], last: int, seed: int):
    tokens = some_tokens(sum(hops) + last)
    whole = spoken(decoder, tokens, repeat(len(tokens)), seed)
    few, others = replayed
    others.clear()
    found = spoken(few, tokens, iter([*hops, *repeat(1, 9)]), seed)
    np.testing.assert_allclose(found, whole, atol=1e-5)
    assert len(others) <= (len(tokens) < 7 * LEAST_IN_TWO)


@pytest.mark.parametrize("frames", [1, 6, 7, 8, 9, 12])
def test_a_word_in_one_window_is_replayed_too_unless_it_is_very_short(decoder, replayed, frames):
    tokens, (few, others) = some_tokens(frames), replayed
    others.clear()
    whole = spoken(decoder, tokens, repeat(frames), 3)
    np.testing.assert_allclose(spoken(few, tokens, repeat(frames), 3), whole, atol=1e-5)
    assert len(others) == (frames < LEAST_IN_TWO)


def test_rows_of_one_shape_share_a_replay(replayed, decoder):
    few, _ = replayed
    jobs = [
        list(stream_jobs(few, some_tokens(9, row), repeat(1), row))[row + 4] for row in range(3)
    ]
    for job, one in zip(jobs, few.run(jobs), strict=True):
        (alone,) = decoder.run([job])
        np.testing.assert_allclose(one.samples, alone.samples, atol=1e-5)


def changed(folder: Path, to: Path, change: Callable[[onnx.GraphProto], None]) -> Path:
    model = onnx.load(str(folder / "decoder_model.onnx"))
    change(model.graph)
    onnx.save(model, str(to / "decoder_model.onnx"))
    return to / "decoder_model.onnx"


def test_it_is_compiled_once(
    folder: Path, tmp_path: Path, decoder: SnacDecoder, monkeypatch: pytest.MonkeyPatch
):
    path = folder / "decoder_model.onnx"
    first = opened(path, tmp_path)
    monkeypatch.setattr("chatterbox.compile.snac.compile_snac", None)
    again = opened(path, tmp_path)
    assert again.note == first.note
    tokens = some_tokens(4)
    wanted = spoken(decoder, tokens, repeat(1))
    np.testing.assert_array_equal(spoken(again.decoder, tokens, repeat(1)), wanted)


def test_half_precision_is_compiled_too(folder: Path, tmp_path: Path, decoder: SnacDecoder):
    codec = opened(folder / "decoder_model_fp16.onnx", tmp_path)
    assert "noise by seed" in codec.note
    tokens = some_tokens(4)
    wanted = spoken(decoder, tokens, repeat(4))
    error = spoken(codec.decoder, tokens, repeat(1)) - wanted
    assert error.std() < 0.01 * wanted.std()


def test_draws_in_half_precision_are_compiled_too(folder: Path, tmp_path: Path):
    """No CPU could run them as they are."""
    model = onnx.load(str(folder / "decoder_model_fp16.onnx"))
    draws = [n for n in model.graph.node if n.op_type == "RandomNormalLike"]
    for draw in draws:
        draw.attribute.append(helper.make_attribute("dtype", onnx.TensorProto.FLOAT16))
    onnx.save(model, str(tmp_path / "decoder_model_fp16.onnx"))
    codec = opened(tmp_path / "decoder_model_fp16.onnx", tmp_path)
    assert "noise by seed" in codec.note
    wanted = opened(folder / "decoder_model_fp16.onnx", tmp_path).decoder
    tokens = some_tokens(5)
    one, other = (spoken(d, tokens, repeat(1), 8) for d in (codec.decoder, wanted))
    np.testing.assert_array_equal(one, other)


def test_a_layer_that_cannot_go_on_is_cropped(folder: Path, tmp_path: Path, decoder: SnacDecoder):
    """A kernel that is computed in the graph, as weight norm that nobody folded."""

    def computed(graph: onnx.GraphProto) -> None:
        conv = next(n for n in graph.node if n.op_type == "Conv" and "model.7.weight" in n.input[1])
        graph.node.insert(0, helper.make_node("Identity", [conv.input[1]], ["kernel"]))
        conv.input[1] = "kernel"

    codec = opened(changed(folder, tmp_path, computed), tmp_path)
    assert "noise by seed" in codec.note
    assert "decodes its surroundings again: the weights of" in codec.note
    tokens = some_tokens(6)
    wanted = spoken(decoder, tokens, repeat(6))
    np.testing.assert_allclose(spoken(codec.decoder, tokens, repeat(1)), wanted, atol=1e-5)


def test_noise_of_another_make_stays_the_graphs_own(folder: Path, tmp_path: Path):
    """It can be served, but not addressed."""

    def one_draw_softer(graph: onnx.GraphProto) -> None:
        draws = [n for n in graph.node if n.op_type == "RandomNormalLike"]
        draws[0].attribute.append(helper.make_attribute("scale", 0.5))

    codec = opened(changed(folder, tmp_path, one_draw_softer), tmp_path)
    assert "served as published" in codec.note
    assert codec.decoder.max_rows == 1
    assert spoken(codec.decoder, some_tokens(6), repeat(1)).size == 6 * FRAME


def test_coarse_precisions_are_refused(folder: Path, tmp_path: Path):
    def quantised(graph: onnx.GraphProto) -> None:
        graph.node.append(helper.make_node("DynamicQuantizeLinear", ["q"], ["a", "b", "c"]))

    with pytest.raises(ModelError, match="use fp32 or fp16"):
        opened(changed(folder, tmp_path, quantised), tmp_path)


def test_another_codec_is_refused(folder: Path, tmp_path: Path):
    def half_the_rate(graph: onnx.GraphProto) -> None:
        tanh = next(n for n in graph.node if n.op_type == "Tanh")
        pooled = helper.make_node(
            "AveragePool", [tanh.input[0]], ["pooled"], kernel_shape=[2], strides=[2]
        )
        tanh.input[0] = "pooled"
        graph.node.insert(list(graph.node).index(tanh), pooled)

    with pytest.raises(ModelError, match="not SNAC"):
        opened(changed(folder, tmp_path, half_the_rate), tmp_path)


def test_other_rates_are_another_codec(folder: Path, tmp_path: Path):
    """As SNAC at 44 kHz has them."""

    def slower(graph: onnx.GraphProto) -> None:
        up = next(n for n in graph.node if n.op_type == "ConvTranspose")
        next(a for a in up.attribute if a.name == "strides").ints[0] = 7

    with pytest.raises(ModelError, match="not SNAC"):
        opened(changed(folder, tmp_path, slower), tmp_path)


def test_a_recording_becomes_tokens(folder: Path):
    encoder = SnacEncoder(open_session(folder / "encoder_model.onnx", CPU))
    audio = np.random.default_rng(0).normal(0, 0.1, 10 * FRAME - 5).astype(np.float32)
    tokens = encoder.encode(audio)
    assert 0 < tokens.size <= 70
    assert np.array_equal(tokens // 4096, np.tile(np.arange(7), tokens.size // 7))


class Codes:
    """An encoder that says what it is told."""

    def __init__(self, *books: list[int]) -> None:
        self._books = [np.array([book]) for book in books]

    def get_inputs(self) -> list[onnx.ValueInfoProto]:
        return [Put("audio_values", [1, 1, "n"])]

    def get_outputs(self) -> list[onnx.ValueInfoProto]:
        return [Put(f"codes_{i}", [1, "n"]) for i in range(len(self._books))]

    def run(self, *_: object) -> list[I64]:
        return self._books


class Put:
    type = "tensor(float)"

    def __init__(self, name: str, shape: list[object]) -> None:
        self.name, self.shape = name, shape


def test_frames_that_begin_as_the_one_before_are_left_out():
    fine = list(range(10, 26))
    encoder = SnacEncoder(Codes([1, 1, 2, 1], [3, 4, 5, 6, 7, 8, 9, 0], fine))
    tokens = encoder.encode(np.zeros(4 * FRAME, np.float32)).reshape(-1, 7) - 4096 * np.arange(7)
    assert tokens.tolist() == [
        [1, 3, 10, 11, 4, 12, 13],
        [2, 7, 18, 19, 8, 20, 21],
        [1, 9, 22, 23, 0, 24, 25],
    ]


def test_a_vector_of_codes_alone_is_no_snac():
    with pytest.raises(ModelError, match="three rows of codes"):
        SnacEncoder(Codes([1]))


def test_its_cost_is_measured(folder: Path, capsys: pytest.CaptureFixture[str]):
    bench_codec.main(["--directory", str(folder.parent), "--rounds", "1", "--rows", "1,2"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert lines[3].endswith("| 1.0 × |")
