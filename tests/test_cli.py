"""Tests of the command line: output, files and exit codes."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made import with_compiled_mini

from chatterbox import __version__, cli
from chatterbox.console import ready_message
from chatterbox.families.model import ModelInfo

ROOT = Path(__file__).resolve().parent.parent
RECORDING = ROOT / "chatterbox" / "voices" / "builtin" / "rms.flac"
HEAVY = ("fastapi", "uvicorn", "onnxruntime", "numpy", "av", "soundfile", "scipy", "librosa")


@pytest.fixture(autouse=True)
def own_directory(tmp_path, monkeypatch):
    """Hide `.env` and the environment's settings."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("CHATTERBOX_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CHATTERBOX_MODEL", "mini")
    monkeypatch.setenv("CHATTERBOX_DATA_DIR", str(with_compiled_mini(tmp_path / "data")))


def test_help_imports_no_room():
    program = f"""
import sys
from chatterbox.cli import main
try:
    main(["serve", "--help"])
except SystemExit as leave:
    assert leave.code == 0
loaded = [name for name in {HEAVY} if name in sys.modules]
assert not loaded, loaded
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--max-concurrent-requests" in done.stdout
    assert "--drain-timeout-s" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["serve", "--port", "x"], 2, "--port='x': Input should be a valid integer"),
        (["serve", "--port", "70000"], 2, "--port='70000': Input should be less than"),
        (["serve", "--temperature", "nan"], 2, "--temperature='nan'"),
        (["serve", "--host", "no such host"], 2, "--host no such host: "),
        (["serve", "--port", "0", "--model", "/nowhere"], 3, "CHATTERBOX_MODEL=/nowhere"),
        (["serve", "--port", "0", "--models", "mini,/nowhere"], 3, "CHATTERBOX_MODEL=/nowhere"),
        (
            ["serve", "--models", "a/b", "--model-revision", "c"],
            2,
            "_REVISION applies to one model",
        ),
        (["serve", "--port", "0", "--default-voice", "nobody"], 2, "there is no such voice"),
        (["say", "hello", "--default-voice", "no one"], 2, "CHATTERBOX_DEFAULT_VOICE=no one: "),
        (["say", "hello", "--out", "x.exe"], 2, "--out x.exe: the file must end in .wav"),
        (["say", "hello", "--seed", "-1"], 2, "--seed -1: from 0 to 4294967295"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(words, code, line, monkeypatch, capsys):
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as leaving:
        sys.exit(cli.main(words))
    said = capsys.readouterr().err
    assert leaving.value.code == code
    assert line in said
    assert len([x for x in said.splitlines() if x.startswith("chatterbox: ")]) == 1
    assert "Traceback" not in said


def say(*words: str) -> int:
    return cli.main(["say", *words])


def test_say_with_a_recording_and_by_name(tmp_path, capsys):
    assert say("Hello there.", "--voice", str(RECORDING), "--out", "a.wav", "--seed", "7") == 0
    said = capsys.readouterr()
    assert re.search(r"a\.wav: \d+\.\d s of speech in \d+\.\d s \(mini, fp32, cpu\)", said.out)
    assert "NOT Chatterbox Turbo" in said.err
    samples, rate = soundfile.read("a.wav")
    assert rate == 24_000
    assert np.abs(samples).max() > 0.01
    assert say("Hello there.", "--voice", "rms", "--out", "b.flac", "--seed", "7") == 0
    again, _ = soundfile.read("b.flac")
    assert len(again) == len(samples)  # the built-in voice is that recording


def test_say_reads_standard_input_and_refuses_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello from a pipe."))
    assert say("-") == 0
    assert Path("speech.wav").stat().st_size > 1000
    capsys.readouterr()
    (tmp_path / "text.wav").write_text("no sound in here")
    for words, code in (
        (["..."], 1),
        (["a", "--voice", "text.wav"], 1),
        (["a", "--voice", "nobody"], 2),
    ):
        assert say(*words) == code
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("chatterbox: ")
    assert say("a", "--out", "no/such/directory/x.wav") == 1
    assert "no/such/directory/x.wav: No such file" in capsys.readouterr().err


def test_voices_from_a_recording_to_deletion(capsys):
    def voices(*words: str) -> str:
        assert cli.main(["voices", *words]) == 0
        return capsys.readouterr().out

    assert len(voices().splitlines()) == 4
    samples, rate = soundfile.read(RECORDING)
    soundfile.write("me.wav", samples[: 6 * rate], rate)
    added = voices("add", "me.wav", "--name", "me")
    assert added.startswith("Registered: ")
    assert "me  (" in voices("list")
    assert voices("export", "me", "me.voice").startswith("me.voice: ")
    assert voices("delete", "me").startswith("Deleted: ")
    assert len(voices().splitlines()) == 4
    assert voices("import", "me.voice").startswith("Imported: ")
    assert "me  (" in voices()
    assert cli.main(["voices", "delete", "slt"]) == 1
    assert "built-in" in capsys.readouterr().err


def test_misspelt_variables_are_warned_of(monkeypatch, capsys):
    monkeypatch.setenv("CHATTERBOX_PROT", "9000")
    assert cli.main(["voices"]) == 0
    assert "there is no setting CHATTERBOX_PROT" in capsys.readouterr().err


AT = "http://127.0.0.1:8000"
INFO = ModelInfo(
    "mini",
    {"language_model": "q4"},
    "cpu",
    "the hub cannot be reached",
    ("a note",),
    device_note="no GPU here",
)


def test_the_ready_message_is_loud_where_it_must_be():
    data = Path.home() / "data"
    message = ready_message(AT, INFO, 1.23, voices=4, data_dir=data, needs_key=True)
    assert "NOT Chatterbox Turbo" in message
    assert "Why: the hub cannot be reached." in message
    assert "a note" not in message
    assert "Note: no GPU here" in message
    facts = "mini q4 · CPU · 4 voices · data in ~/data · ready in 1.2 s".replace("/", os.sep)
    assert f"Chatterbox {__version__} · {facts}" in message
    assert f"\n  Open  {AT}\n  Try   curl --fail-with-body" in message
    assert '-H "Authorization: Bearer KEY"' in message
    assert message.endswith(f"\n  API   {AT}/docs\n  Stop  Ctrl-C")
    full = ModelInfo("ResembleAI/chatterbox-turbo-ONNX", {"language_model": "q4"}, "cpu", None, ())
    quiet = ready_message(AT, full, 1.0, voices=1, data_dir=Path("data"), needs_key=False)
    assert "*" not in quiet
    assert "Bearer" not in quiet
    assert "1 voice ·" in quiet


def test_serve_prints_a_line_that_works_as_printed():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CHATTERBOX_PORT": "0"}
    server = subprocess.Popen(
        [sys.executable, "-m", "chatterbox", "serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        line = next(line for line in server.stdout if line.startswith("  Try "))
        line = line.removeprefix("  Try ")
        assert "--fail-with-body" in line
        curl = subprocess.run(shlex.split(line), capture_output=True, timeout=300, check=False)
        assert curl.returncode == 0, curl.stderr
        samples, rate = soundfile.read("hello.wav")
        assert rate == 24_000
        with wave.open("hello.wav") as file:
            assert file.getnframes() == len(samples)  # its true length
        assert np.abs(samples).max() > 0.01
    finally:
        server.terminate()
        rest, log = server.communicate(timeout=300)
    assert rest.splitlines()[-1] == "Stopped."
    assert server.returncode == 143
    assert log.count("chatterbox.requests") == 1, log
    assert "POST /tts status=200 outcome=ok" in log


def test_compile_prepares_what_a_start_opens(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CHATTERBOX_DATA_DIR", str(tmp_path / "empty"))
    assert cli.main(["compile"]) == 0
    first = capsys.readouterr()
    assert "mini: language model: compiled; its logits are at most" in first.out
    assert "mini: decoder: whole" in first.out
    assert "compiling the decoder" in first.err
    assert cli.main(["compile"]) == 0
    again = capsys.readouterr()
    assert "compiling" not in again.err
    assert again.out.splitlines()[:2] == first.out.splitlines()[:2]


def helped(*words: str, capsys) -> list[str]:
    with pytest.raises(SystemExit) as leaving:
        cli.main(words)
    assert leaving.value.code == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("command", "lines"), [("serve", 60), ("say", 25), ("voices", 25)])
def test_help_is_short_and_help_all_is_whole(command, lines, capsys):
    short = helped(command, "--help", capsys=capsys)
    assert len(short) <= lines
    assert sum(f"  chatterbox {command}" in line for line in short) == 3
    assert any(line.split()[:1] == ["--model"] and "(auto)" in line for line in short)
    assert any("{auto,cpu,cuda} (auto)" in line for line in short)
    assert not any("--sdpa-kernel" in line for line in short)
    whole = "\n".join(helped(command, "--help-all", capsys=capsys))
    assert "--sdpa-kernel N (3)" in whole
    assert "Expert:" in whole
    assert "--temperature X" in whole


@pytest.mark.parametrize(
    "words",
    [
        "voices --device tpu list",
        "voices list --device tpu",
        "--device tpu voices",
        "--model mini voices --device=tpu list",
        "--device=tpu say Hello",
        "say Hello --device tpu",
        "--device tpu compile",
        "--device tpu",  # without a command: serve
    ],
)
def test_flags_go_before_and_after_command_and_action(words, capsys, monkeypatch):
    monkeypatch.setattr(os, "_exit", sys.exit)
    with contextlib.suppress(SystemExit):
        assert cli.main(words.split()) == 2
    assert "--device='tpu'" in capsys.readouterr().err


def test_what_looks_like_a_flag_is_text_where_it_stands_for_text(capsys):
    assert cli.main(["say", "--device", "tpu", "--- so it was"]) == 2
    assert cli.main(["say", "--device", "tpu", "--", "--prt"]) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_the_help_of_health_names_what_it_uses(capsys):
    short = helped("health", "--help", capsys=capsys)
    assert len(short) <= 25
    assert any("--port N (8000)" in line for line in short)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["serve", "--prt", "9"], "--port"),
        (["say", "hello", "--temprature=1"], "--temperature"),
        (["voices", "list", "--modle", "mini"], "--model"),
        (["voices", "--modle", "mini", "list"], "--model"),
        (["voices", "add", "f.wav", "--nmae=x"], "--name"),
        (["--prt", "9", "serve"], "--port"),
        (["sya", "hello"], "say"),
        (["voices", "improt", "f.voice"], "import"),
    ],
)
def test_a_misspelt_flag_is_answered_with_the_one_meant(words, meant, capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main(words)
    said = capsys.readouterr().err
    assert leaving.value.code == 2
    assert f"did you mean {meant}?" in said
    assert "usage: chatterbox" in said


def test_misspelt_lines_of_the_env_file_are_warned_of(tmp_path, capsys):
    (tmp_path / ".env").write_text("CHATTERBOX_PROT=9000\nOTHER=1\n")
    assert cli.main(["voices"]) == 0
    assert "there is no setting CHATTERBOX_PROT; ignored" in capsys.readouterr().err
