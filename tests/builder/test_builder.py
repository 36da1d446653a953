"""The tool that writes models: always the same files, in any size."""

import hashlib
import subprocess
import sys
from pathlib import Path

import made
import numpy as np
import pytest
from builder.drive import SOME_PRECISIONS, Model, voice_like

from chatterbox.families.turbo.spec import ROOT_FILES
from chatterbox.hub.files import PRECISIONS, graph_file
from tools.build_model import main
from tools.model_builder.quantise import BLOCK, quantise

TINY = [
    *("--layers", "2", "--heads", "2", "--head-dim", "32", "--inner", "96"),
    *("--positions", "500", "--end-id", "256", "--stand-ins", "0.1"),
]


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_two_builds_are_equal(tmp_path):
    main(["made", str(tmp_path)])
    assert digests(tmp_path) == digests(made.path())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    main(["random", str(directory), *TINY])
    return directory


def test_random_has_the_same_layout(tiny):
    assert set(digests(tiny)) == set(digests(made.path()))


@pytest.mark.parametrize("precision", SOME_PRECISIONS)
def test_random_runs(tiny, precision):
    m = Model(tiny, precision)
    voice = m.encode(voice_like(120, 2))
    assert [part.shape for part in voice] == [(1, 51, 64), (1, 50), (1, 192), (1, 100, 80)]
    logits, cache = m.prefill(voice[0], "Hello.")
    assert np.isfinite(logits).all()
    assert 0.05 < logits.std() < 2
    assert [kv.shape for kv in cache] == [(1, 2, 59, 32)] * 4
    codes = m.speak(voice[0], "Hello.", limit=6)
    waveform = m.decode(codes, voice)
    assert waveform.shape == (1, (len(codes) + 3) * 960)
    assert np.isfinite(waveform).all()
    assert 0.001 < np.abs(waveform).max() <= 0.99
    assert not waveform[0, :481].any()


def test_precisions_hold_the_same_weights(tiny):
    logits = {}
    for precision in PRECISIONS:
        m = Model(tiny, precision)
        rows = np.random.default_rng(0).standard_normal((1, 20, 64)).astype(np.float32)
        logits[precision] = m.step(rows, np.ones((1, 20)), np.arange(20)[None], m.empty_cache())[0]
    spread = logits["fp32"].std()
    for precision, most in (("fp16", 0.02), ("q8", 0.05), ("q4", 0.6), ("q4f16", 0.6)):
        assert np.abs(logits[precision] - logits["fp32"]).max() < most * spread, precision


def test_random_is_decided_by_its_seed(tmp_path):
    small = [*TINY, "--precision", "q4", "--graphs", "embed_tokens,language_model"]
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        main(["random", str(tmp_path / name), *small, "--seed", seed])
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a") != digests(tmp_path / "c")
    written = {*ROOT_FILES}
    for graph in ("embed_tokens", "language_model"):
        written |= {graph_file(graph, "q4"), (graph_file(graph, "q4") + "_data")}
    assert set(digests(tmp_path / "a")) == written


def test_sidecars_hold_exactly_what_the_published_ones_do(tiny):
    """At full size this gives the published byte counts, for all five precisions."""
    hidden, layers, inner, vocab, positions = 64, 2, 96, 6563, 500
    tables = (276 + vocab) * hidden
    matrices = layers * (4 * hidden**2 + 2 * hidden * inner) + hidden * vocab
    vectors = layers * (9 * hidden + inner) + 2 * hidden + vocab
    blocked, per_block = matrices + positions * hidden, 1 / BLOCK

    def size(bits: float, scale: int, count: int) -> float:
        return count * (bits / 8 + per_block * (scale + bits / 8))

    for precision, plain in (("fp32", 4), ("fp16", 2)):
        assert (
            tiny / (graph_file("embed_tokens", precision) + "_data")
        ).stat().st_size == tables * plain
        expected = (blocked + vectors) * plain
        assert (
            tiny / (graph_file("language_model", precision) + "_data")
        ).stat().st_size == expected
    for precision, bits, plain in (("q8", 8, 4), ("q4", 4, 4), ("q4f16", 4, 2)):
        found = (tiny / (graph_file("embed_tokens", precision) + "_data")).stat().st_size
        assert found == size(bits, plain, tables)
        # Three blocks of a 4-bit row (its feed-forward) take two bytes of zero points, not 1.5.
        rounding = layers * hidden / 2 if bits == 4 else 0
        found = (tiny / (graph_file("language_model", precision) + "_data")).stat().st_size
        assert found == size(bits, plain, blocked) + rounding + vectors * plain


@pytest.mark.parametrize(("bits", "most"), [(4, 1 / 14), (8, 1 / 254)])
def test_quantised_blocks_are_near(bits, most):
    values = np.random.default_rng(0).standard_normal((7, 3 * BLOCK - 5)).astype(np.float32)
    blocks = quantise(values, bits)
    codes, zeros = blocks.codes.astype(np.int64), blocks.zero_points.astype(np.int64)
    if bits == 4:
        codes = np.stack([codes & 15, codes >> 4], -1).reshape(7, 3, BLOCK)
        zeros = np.stack([zeros & 15, zeros >> 4], -1).reshape(7, -1)[:, :3]
    again = ((codes - zeros[..., None]) * blocks.scales[..., None]).reshape(7, -1)
    error = np.abs(again[:, : values.shape[1]] - values)
    assert error.max() <= most * np.abs(values).max() * 1.01


def test_signs_and_zero_are_exact_in_four_bits():
    row = np.zeros((1, BLOCK), np.float32)
    row[0, 3], row[0, 9] = 0.7, -0.7
    blocks = quantise(row, 4)
    codes = np.stack([blocks.codes & 15, blocks.codes >> 4], -1).reshape(-1).astype(int) - 8
    np.testing.assert_allclose(codes * blocks.scales[0, 0], row[0], rtol=1e-6)


def test_a_wrong_precision_is_one_line():
    tool = Path(__file__).parents[2] / "tools" / "build_model.py"
    done = subprocess.run(
        [sys.executable, str(tool), "made", "nowhere", "--precision", "q4,q5"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "q5 is none of fp32, fp16, q8, q4, q4f16" in done.stderr
    assert "Traceback" not in done.stderr
