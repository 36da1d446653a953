"""Every code block of README and the guides runs, against one live server with the embedded model.

A page's blocks run from top to bottom in one folder, where `me.wav` lies, as a reader runs them.
"""

import gc
import json
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from dialects.live import Live, clip, live

from chatterbox.config import ServerConfig, TTSConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.families.orpheus.spec import ORPHEUS
from chatterbox.families.turbo.spec import TURBO

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
INDEX = DOCS / "README.md"
GUIDES = (
    "install tags python javascript curl voice-agent clients coming-from monitoring upgrade "
    "sizing consent"
)
BY_NAME = {page.stem: page for page in DOCS.rglob("*.md")}
PAGES = [ROOT / "README.md", *(BY_NAME[name] for name in GUIDES.split())]
PAGES += [ROOT / "CONTRIBUTING.md"]
EVERY_PAGE = sorted({*PAGES, *DOCS.rglob("*.md")})
ADDRESS = "127.0.0.1:8000"
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")
NOT_RUN = re.compile(r"(git|docker|cd|systemctl|rsync|\./run\.sh|\./run_benchmark\.sh)\b")
"""Commands that install, serve, measure or need a network: their scripts and files must exist."""


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text[: found.start()].count("\n") + 1, found[1].strip(), found[2])
        for found in BLOCK.finditer(text)
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Live]:
    data_dir = tmp_path_factory.mktemp("data")
    engine = TTSEngine(TTSConfig(model="mini", data_dir=data_dir, _env_file=None))
    engine.load()
    with live(engine) as running:
        yield running
    engine.close()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "me.wav").write_bytes(clip())
    (tmp_path / "chapter.txt").write_text("One sentence. Another one.")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return tmp_path


def run_python(block: Block, code: str) -> None:
    """A script leaves its client to the interpreter's end, which is here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        exec(compile(code, block.place, "exec"), {"__name__": "__main__"})
        gc.collect()


def run_process(block: Block, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{block.place}\n{done.stdout}\n{done.stderr}"


def run_console(block: Block, code: str) -> None:
    """Lines after `$ ` are commands, those that end in a backslash go on; others are output."""
    commands = re.findall(r"^\$ ((?:.*\\\n)*.*)$", code, re.MULTILINE)
    assert commands, f"{block.place}: no `$ `"
    for command in filter(NOT_RUN.match, commands):
        check_command(block, command)
    script = "\n".join(command for command in commands if not NOT_RUN.match(command))
    run_process(block, ["bash", "-euo", "pipefail", "-c", script])


def check_command(block: Block, command: str) -> None:
    """What it names in the repository is there, and `run.sh` knows the subcommand."""
    for name in re.findall(r"(?<![\w/.-])(?:\./)?((?:deploy|tools)/[\w./]+|run\w*\.sh)", command):
        assert (ROOT / name).exists(), f"{block.place}: {name}"
    usage = (ROOT / "run.sh").read_text(encoding="utf-8")
    for subcommand in re.findall(r"\./run\.sh ([a-z]+)", command):
        assert f"./run.sh {subcommand}" in usage or subcommand == "serve", block.place


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


def check_config(block: Block, code: str) -> None:
    assert yaml.safe_load(code), block.place


def set_variables(block: Block, code: str) -> None:
    """For the blocks below; ours must be settings that exist."""
    variables = dict(line.split("=", 1) for line in code.splitlines())
    os.environ.update(variables)
    ours = {name.removeprefix("CHATTERBOX_").lower() for name in variables if "CHATTERBOX_" in name}
    assert ours <= {*TTSConfig.model_fields, *ServerConfig.model_fields}, block.place


RUNNERS = {
    "python": run_python,
    "console": run_console,
    "javascript": run_javascript,
    "diff python": run_diff,
    "diff console": run_diff,
    "yaml": check_config,
    "dotenv": set_variables,
    "diff": lambda block, code: None,  # another program's settings
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_blocks_of_a_page_run(page, server, folder, capsys):
    for block in blocks_of(page):
        assert block.language in RUNNERS, f"{block.place}: which language?"
        code = block.code.replace(ADDRESS, server.http.removeprefix("http://"))
        RUNNERS[block.language](block, code)


def test_curl_says_why_a_call_failed():
    for page in EVERY_PAGE:
        for line in page.read_text(encoding="utf-8").splitlines():
            if re.match(r"[$+] *curl ", line):
                assert "--fail-with-body" in line, f"{page.name}: {line}"


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target, heading in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        found = page.parent / target
        assert found.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading[1:] in map(anchor, titles), target + heading


def anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_the_index_names_every_page():
    index = INDEX.read_text(encoding="utf-8")
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"README.md"}
    assert [page for page in sorted(pages) if f"]({page})" not in index] == []


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_tags_are_those_of_the_models():
    turbo, orpheus = (BY_NAME["tags"]).read_text(encoding="utf-8").split("## Orpheus")
    rows = [row for row in turbo.split("## Pauses")[0].splitlines() if row.startswith("|")]
    assert set(re.findall(r"`\[([a-z ]+)\]`", "\n".join(rows))) == TURBO.tags
    assert set(re.findall(r"`<([a-z]+)>`", orpheus)) == ORPHEUS.tags


def test_alerts_and_dashboard_name_metrics_that_exist(server):
    httpx.post(server.http + "/tts", json={"text": "Hello."}).raise_for_status()
    answer = httpx.get(server.http + "/metrics", headers={"Accept": "text/plain"}).text
    there = set(re.findall(r"^(?:# TYPE )?(\w+)", answer, re.MULTILINE))
    page = (BY_NAME["monitoring"]).read_text(encoding="utf-8")
    dashboard = (ROOT / "deploy" / "grafana.json").read_text(encoding="utf-8")
    for text in (page, dashboard):
        named = set(re.findall(r"\b(?:chatterbox|process)_\w+", text))
        assert len(named) > 8
        assert named <= there
    assert json.loads(dashboard)["panels"]
    (rules,) = [block for block in blocks_of(BY_NAME["monitoring"]) if "groups:" in block.code]
    alerts = [rule for group in yaml.safe_load(rules.code)["groups"] for rule in group["rules"]]
    assert len(alerts) >= 6
    assert all(rule["annotations"]["summary"] for rule in alerts)
