"""Tests of the benchmark's command line against a fake server."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from chatterbox.bench.flags import parser, texts
from chatterbox.bench.main import main
from tests.bench.fake_server import VOICE_ID, Behaviour, serving

ROOT = Path(__file__).parent.parent
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def fake() -> Behaviour:
    return Behaviour()


@pytest.fixture
def url(fake: Behaviour) -> Iterator[str]:
    with serving(fake) as address:
        yield address


@pytest.fixture
def measure(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Run the benchmark successfully and return its output and its JSON."""

    def run(*flags: str) -> tuple[str, dict[str, Any]]:
        figures = tmp_path / "out" / "figures.json"
        code = main(["--url", url, "--no-plot", "--json", str(figures), *flags])
        assert code == 0
        return capsys.readouterr().out, json.loads(figures.read_text())

    return run


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]):
    """Run a benchmark that fails and return its exit code and error line."""

    def run(*flags: str) -> tuple[int, str]:
        try:
            code = main([*flags, "--no-plot"])
        except SystemExit as stopped:
            code = int(str(stopped.code))
        lines = capsys.readouterr().err.splitlines()
        return code, lines[-1] if lines else ""

    return run


def test_register_and_ladder(measure, fake: Behaviour, tmp_path: Path) -> None:
    voice = tmp_path / "my voice.wav"
    voice.write_bytes(b"RIFF and so on")
    out, figures = measure(
        "--register-voice", str(voice), "--concurrency", "1,2,4", "--requests", "6", "--warmup", "1"
    )
    assert fake.uploads == [("my voice.wav", b"RIFF and so on")]
    assert len(fake.forms) == 3 * (6 + 1)
    assert {form["voice_id"] for form in fake.forms} == {VOICE_ID}
    assert {form["stream"] for form in fake.forms} == {"false"}
    assert [level["concurrency"] for level in figures["levels"]] == [1, 2, 4]
    assert [level["succeeded"] for level in figures["levels"]] == [6, 6, 6]
    assert figures["levels"][0]["audio_s"] == pytest.approx(6.0)
    assert figures["levels"][0]["server_rtf_mean"] == 0.25
    assert figures["optimal"] in (1, 2, 4)
    assert figures["server"]["model"] == "fake"
    assert figures["workload"]["text_chars_min"] > 0
    assert "fake, fp32, cpu" in out
    assert f"Machine Abacus, 2 cores, {figures['started'][:10]}" in out
    assert figures["verdict"] in out
    assert "Optimal concurrency (lowest mean RTF)" in out
    for column in ("Conc", "RTF Mean", "RTF P95", "Throughput", "Audio/s"):
        assert column in out


def test_every_level_asks_the_same_with_different_seeds(measure, fake: Behaviour) -> None:
    measure("--concurrency", "1,2", "--requests", "9", "--warmup", "0", "--seed", "100")
    first, second = fake.forms[:9], fake.forms[9:]
    assert [form["seed"] for form in first] == [str(100 + n) for n in range(9)]
    assert sorted(form["seed"] for form in second) == [form["seed"] for form in first]
    assert len({form["text"] for form in first}) == len(texts(parser().parse_args([])))
    assert "voice_id" not in first[0]


def test_a_level_has_a_request_for_each_client(measure, fake: Behaviour) -> None:
    measure("--concurrency", "5", "--requests", "2", "--warmup", "0")
    assert len(fake.forms) == 5


def test_streamed_replies(measure, fake: Behaviour) -> None:
    fake.lead_in_s = 0.4
    fake.stall_s = 0.2
    fake.audio_s = 10  # nothing is late, on a machine however slow
    out, figures = measure("--stream", "--concurrency", "1", "--requests", "5", "--warmup", "0")
    level = figures["levels"][0]
    assert {form["stream"] for form in fake.forms} == {"true"}
    assert level["audio_s"] == pytest.approx(50)
    assert level["server_rtf_mean"] is None
    assert level["first_audible_s"]["p50"] < level["latency_s"]["p50"] - 0.1
    assert level["underruns"] == 0
    assert "streamed replies" in out


def test_underruns_are_counted(measure, fake: Behaviour) -> None:
    fake.audio_s = 0.1
    fake.stall_s = 0.3
    for _ in range(10):  # a machine that stands still may read all of a reply at once
        out, figures = measure("--stream", "--concurrency", "1", "--requests", "3", "--warmup", "0")
        level = figures["levels"][0]
        if level["underruns"] == 3:
            break
    assert (level["underruns"], level["replies_with_underruns"]) == (3, 3)
    assert level["underrun_s"] > 0.3
    assert 0.1 < level["longest_underrun_s"] < level["underrun_s"]
    assert "3 of 3 replies had gaps" in out


def test_refusals_are_outcomes(measure, fake: Behaviour) -> None:
    fake.full_above = 2
    fake.stall_s = 0.05  # so that all four clients overlap
    out, figures = measure("--stream", "--concurrency", "1,4", "--requests", "8", "--warmup", "0")
    assert figures["levels"][0]["errors"] == {}
    assert figures["levels"][1]["errors"]["overloaded"] >= 2
    assert "x overloaded (of 8 requests)" in out


def test_the_search_stops_at_refusals(measure, fake: Behaviour) -> None:
    fake.full_above = 3
    fake.stall_s = 0.05
    fake.audio_s = 10  # real time, on a machine however slow
    out, figures = measure("--find-max-concurrency", "--stream", "--warmup", "0")
    assert figures["search"]["best"] == 3
    assert figures["search"]["stopped_at"] == 4
    assert "overloaded" in figures["search"]["stopped_by"]
    assert [level["concurrency"] for level in figures["levels"]] == [1, 2, 4, 3]
    assert "Maximum concurrency: 3; stopped at 4 by errors" in out


def test_the_search_stops_at_the_limit(measure) -> None:
    out, figures = measure(
        "--find-max-concurrency", "--max-concurrency", "3", "--requests", "3", "--warmup", "0"
    )
    assert figures["search"] == {"best": 3, "stopped_at": None, "stopped_by": "the limit of 3"}
    assert "not by the server" in out


def test_the_search_stops_at_rtf(measure, fake: Behaviour) -> None:
    fake.slow_above = 0
    fake.audio_s = 0.2
    _, figures = measure(
        "--find-max-concurrency", "--requests", "1", "--warmup", "0", "--max-concurrency", "2"
    )
    assert (figures["search"]["best"], figures["search"]["stopped_at"]) == (0, 1)
    assert figures["search"]["stopped_by"].startswith("RTF (p95 ")


def test_poisson_arrivals(measure, fake: Behaviour) -> None:
    out, figures = measure("--rate", "200,400", "--requests", "10", "--warmup", "0")
    assert [level["rate_hz"] for level in figures["levels"]] == [200.0, 400.0]
    assert [level["requests"] for level in figures["levels"]] == [10, 10]
    assert out.splitlines()[6].split()[:2] == ["Rate", "n"]
    assert "Optimal rate" in out
    assert len(fake.forms) == 20


def test_a_duration_bounds_a_level(measure, fake: Behaviour) -> None:
    out, figures = measure("--concurrency", "2", "--duration", "0.05", "--warmup", "0")
    assert figures["workload"]["requests"] is None
    assert figures["levels"][0]["requests"] == len(fake.forms) >= 2
    assert "0.05 s per level" in out


@pytest.mark.parametrize(("fault", "code"), [("cut", "broken_reply"), ("html", "not_wav")])
def test_a_bad_reply_is_an_error(
    complaint, fake: Behaviour, url: str, tmp_path: Path, fault: str, code: str
) -> None:
    fake.fault = fault
    figures = tmp_path / "figures.json"
    exit_code, _ = complaint(
        "--url", url, "--stream", "--concurrency", "1", "--requests", "2", "--json", str(figures)
    )
    assert exit_code == 1
    assert json.loads(figures.read_text())["levels"][0]["errors"] == {code: 2}


def test_inaudible_replies_are_noted(measure, fake: Behaviour) -> None:
    fake.fault = "silent"
    out, figures = measure("--concurrency", "1", "--requests", "2", "--warmup", "0")
    assert figures["levels"][0]["first_audible_s"] is None
    assert "2 replies were inaudible" in out


def test_texts_from_a_file(measure, fake: Behaviour, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("One.\n\n  Zwei Wörter. \n", encoding="utf-8")
    _, figures = measure("--texts", str(texts), "--concurrency", "1", "--requests", "3")
    assert {form["text"] for form in fake.forms} == {"One.", "Zwei Wörter."}
    assert figures["workload"]["text_chars_max"] == 12


def test_the_picture(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "new" / "picture.png"
    flags = ["--concurrency", "1,2", "--requests", "2", "--warmup", "0", "--plot", str(picture)]
    assert main(["--url", url, *flags]) == 0
    assert picture.read_bytes().startswith(PNG)
    assert f"Plot: {picture}" in capsys.readouterr().out


def test_what_stands_in_the_picture(
    url: str, fake: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.full_above = 1
    fake.stall_s = 0.05
    fake.audio_s = 10
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    flags = ["--concurrency", "1,3", "--requests", "6", "--warmup", "0", "--stream"]
    assert main(["--url", url, *flags, "--plot", str(tmp_path / "unwritten.png")]) == 0
    (figure,) = drawn
    title = figure.get_suptitle()
    for fact in ("1 listener at once, first sound", "fake, fp32, cpu", "Abacus, 2 cores", "n = 6"):
        assert fact in title
    first, rtf, audio, wrong = figure.axes
    assert "First audible" in first.get_title()
    assert rtf.get_yscale() == "log"
    assert "as fast as it plays" in " ".join(text.get_text() for text in rtf.texts)
    assert [text.get_text() for text in audio.texts] == ["knee: 1"]
    errors, gaps = (line.get_ydata() for line in wrong.get_lines())
    assert (errors[0], gaps[0]) == (0, 0)
    assert errors[1] > 0


def test_a_key(measure, complaint, fake: Behaviour, url: str) -> None:
    fake.api_key = "secret"
    measure("--api-key", "secret", "--concurrency", "1", "--requests", "1")
    exit_code, line = complaint("--url", url)
    assert (exit_code, line) == (2, f"benchmark.py: {url} requires a key: use --api-key.")


def test_nobody_there(complaint) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        exit_code, line = complaint("--url", url)
    assert exit_code == 1
    assert line.startswith(f"benchmark.py: No server answers at {url}.")


def test_a_server_that_is_not_ready(complaint, fake: Behaviour, url: str) -> None:
    fake.ready = False
    fake.health["status"] = "loading"
    exit_code, line = complaint("--url", url, "--wait", "0.3")
    assert exit_code == 1
    assert line == f"benchmark.py: The server at {url} is not ready yet: loading."


def test_another_kind_of_server(complaint, fake: Behaviour, url: str) -> None:
    exit_code, line = complaint("--url", f"{url}/elsewhere")
    assert exit_code == 1
    assert "is not a speech server: /health answers HTTP 404" in line


def test_a_refused_voice(complaint, url: str, tmp_path: Path) -> None:
    voice = tmp_path / "voice.txt"
    voice.write_text("no audio")
    exit_code, line = complaint("--url", url, "--register-voice", str(voice))
    assert exit_code == 1
    assert line.endswith("HTTP 415 No: unsupported_audio.")


def test_an_unreadable_voice(complaint, url: str, tmp_path: Path) -> None:
    missing = tmp_path / "missing.wav"
    exit_code, line = complaint("--url", url, "--register-voice", str(missing))
    assert exit_code == 2
    assert line == f"benchmark.py: Cannot read the voice file {missing}: No such file or directory."


@pytest.mark.parametrize(
    "flags",
    [
        ["--concurrency", "0"],
        ["--concurrency", "1,x"],
        ["--rate", "nan"],
        ["--rate", "1", "--find-max-concurrency"],
        ["--requests", "-1"],
        ["--seed", str(2**32)],
        ["--duration", "inf"],
        ["--voice-id", "a", "--register-voice", "b.wav"],
        ["--url", "localhost:8000"],
        ["--url", "http://a:b"],
        ["--texts", "/nowhere/texts.txt"],
    ],
)
def test_wrong_flags(complaint, flags: list[str]) -> None:
    exit_code, line = complaint(*flags)
    assert exit_code == 2
    assert line.startswith("benchmark.py: ")
    assert "_" not in line.split(":")[1]  # no names of ours


def test_as_a_program(url: str, tmp_path: Path) -> None:
    flags = ["--concurrency", "1", "--requests", "3", "--plot", "picture.png"]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmark.py", "--url", url, *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Optimal concurrency" in done.stdout
    assert "concurrency 1:" in done.stderr  # the progress bar
    assert (tmp_path / "picture.png").read_bytes().startswith(PNG)


def test_an_interrupted_run_reports_what_it_has(url: str, tmp_path: Path) -> None:
    flags = ["--rate", "1000,0.01", "--requests", "2", "--warmup", "0"]  # the second: 68 s
    with subprocess.Popen(
        [sys.executable, ROOT / "benchmark.py", "--url", url, "--no-plot", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as started:
        assert started.stdout is not None
        while not started.stdout.readline().strip().startswith("1000 "):
            pass
        started.send_signal(signal.SIGINT)
        rest = started.stdout.read()
        assert started.wait() == 130
    assert "Interrupted." in rest
    assert "Optimal rate (lowest mean RTF): 1000" in rest


def test_the_documentation_names_every_flag_and_figure(measure) -> None:
    documented = (ROOT / "docs" / "run" / "benchmarking.md").read_text(encoding="utf-8")
    flags = set(re.findall(r"^ +(?:-h, )?(--[a-z-]+)", parser().format_help(), re.MULTILINE))
    assert len(flags) > 5
    assert [flag for flag in flags - {"--help"} if f"`{flag}" not in documented] == []
    _, figures = measure("--concurrency", "1", "--requests", "1")
    keys = {*figures, *figures["workload"], *figures["levels"][0], *figures["client"]}
    assert [key for key in sorted(keys) if f"`{key}`" not in documented] == []


@pytest.mark.parametrize("set_up", [False, True])
def test_a_python_without_the_packages_finds_the_projects_own(tmp_path: Path, set_up: bool) -> None:
    alone = tmp_path / "benchmark.py"
    alone.write_bytes((ROOT / "benchmark.py").read_bytes())
    if set_up:
        own = tmp_path / ".venv" / "bin" / "python"
        own.parent.mkdir(parents=True)
        own.write_text('#!/bin/sh\necho "own python runs $*"\n', encoding="utf-8")
        own.chmod(0o755)
    started = [sys.executable, "-I", "-S", alone, "--stream"]
    done = subprocess.run(started, capture_output=True, text=True, check=False, cwd=tmp_path)
    if set_up:
        assert done.stdout == f"own python runs {alone} --stream\n"
    else:
        assert done.returncode == 2
        assert done.stderr.endswith("use ./run.sh benchmark, which installs it\n")
        assert len(done.stderr.splitlines()) == 1
