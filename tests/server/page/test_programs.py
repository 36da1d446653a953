"""The programs that the page shows do what the form does, run as they are."""

import ast
import json
import os
import shlex
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest
from server.page.browser import Visit, served

pytestmark = pytest.mark.slow

TEXT = 'It\'s "quoted", 5% costs $HOME `or` \\ more; a&b=c ^1 | <x> café 😀\n@and a second line.'
NODE = ["node", "--experimental-websocket", "--input-type=module", "--eval"]
RUN_BY = {
    "curl": ["bash", "-c"],
    "windows": ["bash", "-c"],
    "register": ["bash", "-c"],
    "python": [sys.executable, "-c"],
    "openai": [sys.executable, "-c"],
    "elevenlabs": [sys.executable, "-c"],
    "javascript": NODE,
    "websocket": NODE,
}
KINDS = tuple(RUN_BY)


def programs(visit: Visit) -> dict[str, str]:
    """All of them, for one form."""
    visit.page.fill("#text", TEXT)
    visit.page.click("#advanced summary")
    visit.page.fill("#seed", "7")
    visit.page.fill("#max_tokens", "300")
    shown = {}
    for kind in KINDS:
        visit.page.check(f"[name=snippet][value={kind}]")
        shown[kind] = visit.page.text_content("#snippet")
    return shown


def run(kind: str, program: str, directory: Path) -> None:
    found = shutil.which("node") or RUN_BY[kind] is not NODE
    assert found, "Node is not installed: apt install nodejs, or run the tests without --all"
    environment = os.environ | {"CHATTERBOX_API_KEY": "the-right-key"}
    command = [*RUN_BY[kind], program]
    done = subprocess.run(
        command, cwd=directory, env=environment, timeout=300, capture_output=True, text=True
    )
    assert done.returncode == 0, (kind, done.stderr)


@pytest.fixture(scope="module", params=["", "the-right-key"])
def shown(request, tmp_path_factory, browser):
    """The programs, with the server that they are for; without keys and with one."""
    key = request.param
    with (
        served(tmp_path_factory.mktemp("data"), API_KEYS=key) as address,
        Visit(browser, address) as visit,
    ):
        if key:
            visit.page.fill("#key", key)
            visit.page.press("#key", "Enter")
        yield programs(visit.ready())


def test_the_programs_do_the_same(shown, tmp_path):
    fields = ast.literal_eval(shown["python"].split("fields = ")[1].split("\nheaders")[0])
    native = {"text": TEXT, "voice_id": "slt", "seed": 7, "max_new_tokens": 300, "stream": False}
    assert fields == native
    sizes = []
    for kind in ("curl", "windows", "python", "openai", "javascript"):
        if kind == "windows" and "%CHATTERBOX_API_KEY%" in shown[kind]:
            continue  # a variable of another shell
        run(kind, shown[kind], tmp_path)
        sizes.append((tmp_path / "speech.wav").stat().st_size)
        with wave.open(str(tmp_path / "speech.wav")) as file:  # its true length
            assert 44 + 2 * file.getnframes() == sizes[-1]
        (tmp_path / "speech.wav").unlink()
    assert sizes[0] > 48_000
    assert len(set(sizes)) == 1


@pytest.mark.parametrize("kind", ["elevenlabs", "websocket"])
def test_programs_that_write_mp3(shown, tmp_path, kind):
    run(kind, shown[kind], tmp_path)
    assert (tmp_path / "speech.mp3").stat().st_size > 10_000


def test_the_voice_in_use_is_registered(shown, tmp_path):
    run("register", shown["register"], tmp_path)
    assert (tmp_path / "recording.flac").read_bytes().startswith(b"fLaC")


def test_cmd_reads_nothing_in_the_windows_form(shown):
    """Its quotes know no backslash, so whatever it would read may stand nowhere."""
    line = shown["windows"].replace("%CHATTERBOX_API_KEY%", "")
    assert line.isascii()
    assert not set("%^&|<>!`$\n") & set(line)
    assert json.loads(shlex.split(line)[-2])["text"] == TEXT
