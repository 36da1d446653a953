"""Every code block of README and docs runs, against one live server with the embedded model.

A page's blocks run from top to bottom in one folder, where `me.wav` lies, as a reader runs them.
What needs root, the network, Docker or hardware is checked as far as it can be: `blocks.py`.
"""

import configparser
import gc
import json
import os
import re
import shutil
import subprocess
import tomllib
import warnings
from pathlib import Path

import httpx
import pytest
import yaml

from .blocks import BY_NAME, DOCS, PAGES, SETTINGS, Block, blocks_of, is_run, wrong_with

ADDRESS = "127.0.0.1:8000"
OTHER_VOICES = {"orpheus": "leo"}
"""Page → a voice of another model that it speaks with; the embedded one answers to its name."""
SLOW = {"python", "diff python", "javascript"}
"""They import whole packages, or start Node."""
OF_ITS_TIME = {"experiments", "CHANGELOG"}
"""Records: their commands are those of their day."""


def run_python(block: Block, code: str) -> None:
    """A script leaves its client to the interpreter's end, which is here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        exec(compile(code, block.place, "exec"), {"__name__": "__main__"})
        gc.collect()


def run_process(block: Block, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{block.place}\n{done.stdout}\n{done.stderr}"


def run_console(block: Block, code: str) -> None:
    """Lines after `$ ` are commands, those that end in a backslash go on; others are output."""
    commands = re.findall(r"^\$ ((?:.*\\\n)*.*)$", code, re.MULTILINE)
    assert commands, f"{block.place}: no `$ `"
    for command in commands:
        assert not wrong_with(command), f"{block.place}: {command}"
    script = "\n".join(filter(is_run, commands))
    run_process(block, ["bash", "-euo", "pipefail", "-c", script])


def run_javascript(block: Block, code: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    script = Path(f"block{block.line}.mjs")
    script.write_text(code)
    run_process(block, [node, "--no-warnings", "--experimental-websocket", str(script)])


def run_diff(block: Block, code: str) -> None:
    """The new lines, without those that they replace."""
    after = "".join(line[1:] for line in code.splitlines(True) if not line.startswith("-"))
    {"diff python": run_python, "diff console": run_console}[block.language](block, after)


def set_variables(block: Block, code: str) -> None:
    """For the blocks below; ours must be settings that exist."""
    variables = dict(line.split("=", 1) for line in code.splitlines())
    os.environ.update(variables)
    ours = {name.removeprefix("CHATTERBOX_").lower() for name in variables if "CHATTERBOX_" in name}
    assert ours <= SETTINGS, block.place


def check_proxy(block: Block, code: str) -> None:
    """nginx: each line a directive; what the comments name are settings."""
    for line in code.splitlines():
        directive, _, comment = line.partition("#")
        assert directive.strip().endswith((";", "{", "}")), f"{block.place}: {line}"
        assert set(re.findall(r"\b[a-z]+_[a-z_]+\b", comment)) <= SETTINGS, f"{block.place}: {line}"


RUNNERS = {
    "python": run_python,
    "console": run_console,
    "javascript": run_javascript,
    "diff python": run_diff,
    "diff console": run_diff,
    "yaml": lambda block, code: list(yaml.safe_load_all(code)),
    "json": lambda block, code: json.loads(code),
    "toml": lambda block, code: tomllib.loads(code),
    "ini": lambda block, code: configparser.ConfigParser(interpolation=None).read_string(code),
    "nginx": check_proxy,
    "dotenv": set_variables,
    "diff": lambda block, code: None,  # another program's settings
    "text": lambda block, code: None,  # a drawing, an output, a list of files
}


def marked(page: Path):
    slow = any(block.language in SLOW for block in blocks_of(page))
    return pytest.param(page, id=page.stem, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("page", [marked(page) for page in PAGES if blocks_of(page)])
def test_the_code_blocks_of_a_page_run(page, server, folder, capsys):
    if voice := OTHER_VOICES.get(page.stem):
        httpx.put(f"{server.http}/voices/slt/aliases/{voice}").raise_for_status()
    for block in blocks_of(page):
        assert block.language in RUNNERS, f"{block.place}: which language?"
        code = block.code.replace(ADDRESS, server.http.removeprefix("http://"))
        RUNNERS[block.language](block, code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_in_sentences_name_what_exists(page):
    if page.stem in OF_ITS_TIME:
        return
    for command in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text(encoding="utf-8")):
        assert not wrong_with(command), command


@pytest.mark.parametrize(
    "command",
    [
        "./run.sh sing",
        "./run.sh --prot 9",
        "./run_benchmark.sh me.wav --straem",
        "CHATTERBOX_PROT=9 ./run.sh",
        "python tools/bench_none.py",
        "python -m tools.gpu_dry_run --pace",
        "docker compose -f deploy/compose.yaml --profile tpu up",
        "docker build -f deploy/Dockerfil .",
    ],
)
def test_a_command_that_names_what_is_not_there_is_found(command):
    assert wrong_with(command)


def test_alerts_and_dashboard_name_metrics_that_exist(server):
    httpx.post(server.http + "/tts", json={"text": "Hello."}).raise_for_status()
    answer = httpx.get(server.http + "/metrics", headers={"Accept": "text/plain"}).text
    there = set(re.findall(r"^(?:# TYPE )?(\w+)", answer, re.MULTILINE))
    page = BY_NAME["monitoring"].read_text(encoding="utf-8")
    dashboard = (DOCS.parent / "deploy" / "grafana.json").read_text(encoding="utf-8")
    for text in (page, dashboard):
        named = set(re.findall(r"\b(?:chatterbox|process)_\w+", text))
        assert len(named) > 8
        assert named <= there
    assert json.loads(dashboard)["panels"]
    (rules,) = [block for block in blocks_of(BY_NAME["monitoring"]) if "groups:" in block.code]
    alerts = [rule for group in yaml.safe_load(rules.code)["groups"] for rule in group["rules"]]
    assert len(alerts) >= 6
    assert all(rule["annotations"]["summary"] for rule in alerts)
