"""The path of a GPU, with onnxruntime's own CUDA provider on stand-ins for CUDA's libraries."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnxruntime.transformers.float16 import convert_float_to_float16
from tiny_decoder import opener, saved

from chatterbox.compile.decoder.compiler import compile_decoder
from chatterbox.families.s3gen import GPU_WINDOWS
from chatterbox.runtime.decoder.s3gen_decoder import StreamSettings
from tools.decoder import forms
from tools.decoder.model import decoder_model
from tools.decoder.weights import TINY, random_weights
from tools.gpu_dry_run.build import NotHere, build, environment, site_of_provider

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 600


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """The compiled stand-ins."""
    named = os.environ.get("GPU_DRY_RUN_ONNXRUNTIME")
    try:
        site = site_of_provider(Path(named) if named else None)
    except NotHere as why:
        pytest.skip(f"no dry run: {why}")
    folder = tmp_path_factory.mktemp("stand-ins")
    build(folder)
    return folder, site


def inside(libraries, words, *, cudnn=True, program="tools.gpu_dry_run.inside", **pretended):
    folder, site = libraries
    return subprocess.run(
        [sys.executable, "-m", program, *words],
        env=environment(folder if cudnn else folder / "without_cudnn", site) | pretended,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def report(libraries, subject, *words, **pretended):
    done = inside(libraries, ["report", subject, *words], **pretended)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)[subject]


@pytest.fixture(scope="module", params=["mini", "random", "orpheus"])
def used(request, libraries):
    """A model that was opened and spoken with: the embedded one, published in fp32, one of the
    published form, and a small Orpheus."""
    return report(libraries, request.param)


def test_all_nodes_run_on_the_gpu_but_those_of_sizes(used):
    sizes = {"Add", "Sub", "Mul", "Div", "Neg", "Squeeze", "Concat", "Reshape", "Max", "Min"}
    for graph, placed in used["graphs"].items():
        assert placed["memcpy"] == 0, graph
        assert set(placed["cpu"]) <= sizes, graph
    assert used["graphs"]["language_model"]["cpu"] == {}


def test_steps_are_captured_and_take_one_copy_up_one_down_and_one_wait(used):
    assert "steps captured as CUDA graphs" in used["notes"][0]
    assert used["violations"] == []
    for name, step in used["language model"].items():
        if name.startswith("step"):
            counts = {k: step[k] for k in ("h2d", "d2h", "synchronisations", "replays")}
            assert counts == dict.fromkeys(counts, 1), name
            assert step["kernels"] == step["pageable"] == step["allocations"] == 0, name


def test_a_prefill_copies_its_voice_and_no_more_of_the_slot(used):
    again = used["language model"]["prefill 2"]
    assert again["d2d_bytes"] < 2 * 2**20  # with zeros behind it, it would be four times as much


def test_no_plan_is_built_after_the_start(used):
    parts = [*used["language model"].values(), *used["decoder"].values(), used["speech"]]
    assert [part["cudnn_plans"] for part in parts] == [0] * len(parts)
    assert used["samples"] > 0


def test_decoders_replay_every_window(used):
    if "decoder: whole" not in used["notes"][1]:  # as the embedded model's is
        assert "no CUDA graphs" not in used["notes"][1]
        for name, window in used["decoder"].items():
            assert window["replays"] >= 1, name
            assert window["kernels"] == window["allocations"] == 0, name


@pytest.mark.parametrize("model", ["random", "orpheus"])
def test_a_decoder_on_a_card_of_its_own_leaves_the_other_alone(libraries, model):
    found = report(libraries, model, "--decoder-on", "1", DRY_RUN_DEVICES="2")
    assert found["violations"] == []
    assert found["samples"] > 0
    for device in found["device_memory_gib"]:
        assert device > 0.01
    for name, part in [*found["language model"].items(), *found["decoder"].items()]:
        assert part["across"] == 0, name
    for name, window in found["decoder"].items():
        assert window["replays"] >= 1, name
        assert window["kernels"] == window["cudnn_plans"] == window["allocations"] == 0, name


def test_slots_take_what_they_need_and_a_prefix_lies_where_it_should(libraries):
    found = report(libraries, "memory")
    assert found.pop("copies")
    assert set(found) == {"16", "64", "128"}
    for slots in found.values():
        assert slots["taken_gib"] == pytest.approx(slots["needed_gib"], rel=0.05)


@pytest.mark.parametrize(
    ("pretended", "words", "said"),
    [
        ({}, [], "L40S"),
        ({"DRY_RUN_DRIVER": "12.8"}, [], "driver is too old: it speaks CUDA 12.8"),
        ({"DRY_RUN_DEVICES": "0"}, [], "sees no GPU"),
        ({}, ["--device", "3"], "there is no GPU 3"),
        ({"DRY_RUN_SM": "100"}, [], "compute capability 10.0"),
        ({"DRY_RUN_SM": "70"}, [], "compute capability 7.0"),
        ({"DRY_RUN_FAIL": "malloc:2"}, [], "no memory left"),
    ],
)
def test_what_is_the_matter_with_a_gpu_is_said_in_one_line(libraries, pretended, words, said):
    done = inside(libraries, ["probe", *words], **pretended)
    assert said in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.returncode == int(said != "L40S")


def test_cudnn_that_is_missing_is_named_with_its_remedy(libraries):
    done = inside(libraries, ["probe"], cudnn=False)
    assert done.stdout == "cuDNN 9 was not found (pip install -r requirements-cuda.txt)\n"


def test_a_gpu_that_is_asked_for_and_cannot_be_used_ends_with_code_3(libraries, tmp_path):
    words = ["say", "Hello.", "--model", "mini", "--data-dir", str(tmp_path)]
    words += ["--out", str(tmp_path / "hello.flac")]
    old = {"DRY_RUN_DRIVER": "12.8"}
    asked = inside(libraries, [*words, "--device", "cuda"], program="chatterbox", **old)
    assert asked.returncode == 3
    assert "driver is too old" in asked.stderr
    assert asked.stderr.count("\n") == 1
    auto = inside(libraries, words, program="chatterbox", **old)
    assert auto.returncode == 0, auto.stderr
    assert "on the CPU, not on a GPU: the NVIDIA driver is too old" in auto.stderr


@pytest.mark.parametrize("half", [False, True])
def test_a_decoder_as_exporters_write_it_is_captured_whatever_its_windows(
    libraries, tmp_path, half
):
    model = decoder_model(random_weights(TINY))
    forms.with_spelled_attention(model)
    forms.with_sizes_read_out(model)
    if half:
        model = convert_float_to_float16(model, keep_io_types=True)
    else:  # what the converter makes of the operator cannot be loaded
        forms.with_stft(model)
    path = saved(model, tmp_path)
    settings = StreamSettings(on_gpu=True, max_rows=2, sizes=GPU_WINDOWS)
    made = compile_decoder(path, opener(tmp_path), settings)
    for name, graph in made.graphs.items():
        onnx.save(graph, str(tmp_path / f"{name}.onnx"))
        placed = inside(libraries, ["place", str(tmp_path / f"{name}.onnx")])
        assert "Memcpy: 0 from the host, 0 to it" in placed.stdout
    (tmp_path / "facts.json").write_text(json.dumps(made.decoder.to_json()))
    done = inside(libraries, ["decoder", str(tmp_path)])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["violations"] == []
    assert found["note"].endswith("; flow: 14 shapes replayed; vocoder: 14 shapes replayed")
    for name, seen in found["streams"].items():
        calls = 2 * seen["windows"]
        counted = {k: seen[k] for k in ("replays", "h2d", "d2h", "synchronisations")}
        assert counted == dict.fromkeys(counted, calls), name
        others = ("kernels", "cudnn_plans", "allocations", "pageable")
        assert not any(seen[k] for k in others), name
