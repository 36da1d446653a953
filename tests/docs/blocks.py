"""The code blocks of README and docs, and checks of commands that tests do not run."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from chatterbox.config import CONFIGS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
BY_NAME = {page.stem: page for page in DOCS.rglob("*.md")}
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SETTINGS = {name for config in CONFIGS for name in config.model_fields}

NOT_RUN = {
    "git": "needs the network",
    "rsync": "needs another machine",
    "docker": "needs Docker, and images of the network",
    "kubectl": "needs a cluster",
    "modal": "needs an account",
    "ray": "needs a cluster",
    "systemctl": "needs systemd",
    "sudo": "needs root",
    "./run.sh": "installs packages, serves or measures",
    "./run_benchmark.sh": "installs packages and measures",
    ".venv/bin/python": "takes a model, a GPU or minutes",
    "python": "takes a model, a GPU or minutes",
}
"""First word of a command → why it is not run, only its names and flags checked. All others run."""
COMMAND = re.compile(rf"(?:\w+=\S* )*({'|'.join(map(re.escape, NOT_RUN))})(?: (.*)|$)", re.DOTALL)


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


def is_run(command: str) -> bool:
    return not COMMAND.match(command) and not re.search(r"^cd |\| sudo ", command)


def wrong_with(command: str) -> list[str]:
    """Return the names in a command that the repository does not have: files, subcommands, flags,
    settings, profiles, units."""
    command = command.partition(" # ")[0]
    wrong = [name for name in _files(command) if not (ROOT / name).exists()]
    wrong += [f"CHATTERBOX_{name}" for name in _settings(command) if name.lower() not in SETTINGS]
    found = COMMAND.match(command)
    program, rest = (found[1], found[2] or "") if found and not wrong else ("", "")
    if program == "./run.sh":
        subcommand = re.match(r"[a-z]+", rest)
        if subcommand and f"./run.sh {subcommand[0]}" not in _text("run.sh"):
            wrong.append(subcommand[0])
        if not rest.startswith("ray "):  # Ray's own
            wrong += _unknown_flags(rest, RUN_FLAGS)
    elif program == "./run_benchmark.sh":
        wrong += _unknown_flags(rest, ["chatterbox/bench/flags.py"])
    elif program.endswith("python") and (tool := re.search(r"(?:-m )?(tools[\w./]+)", rest)):
        wrong += _unknown_flags(rest, _sources(tool[1]))
    elif program == "docker" and (file := re.search(r"-f (deploy/\S+\.yaml)", rest)):
        services = yaml.safe_load(_text(file[1]))["services"].values()
        there = {profile for service in services for profile in service.get("profiles", [])}
        wrong += set(re.findall(r"--profile (\w+)", rest)) - there
    elif program == "systemctl" and len(rest.split()) > 1:
        units = {path.stem for path in (ROOT / "deploy").glob("*.service")}
        wrong += {rest.split()[-1]} - units
    return wrong


RUN_FLAGS = [
    "run.sh",
    "chatterbox/cli.py",
    "chatterbox/command_line.py",
    "chatterbox/bench/flags.py",
]


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _files(command: str) -> list[str]:
    return re.findall(
        r"(?<![\w/.-])(?:\./)?((?:deploy|tools|chatterbox)/[\w./-]*\w|run\w*\.sh)", command
    )


def _settings(command: str) -> list[str]:
    return re.findall(r"\bCHATTERBOX_([A-Z_]+)\b", command)


def _sources(tool: str) -> list[str]:
    """Return the source files of a tool: a script, or a module or package after `-m`."""
    path = tool if tool.endswith(".py") else tool.replace(".", "/")
    if (ROOT / path).is_dir():
        return [str(each.relative_to(ROOT)) for each in (ROOT / path).glob("*.py")]
    return [path if path.endswith(".py") else f"{path}.py"]


def _unknown_flags(arguments: str, sources: list[str]) -> list[str]:
    """Return the flags that are neither settings nor named in the sources."""
    said = "".join(map(_text, sources))
    flags = re.findall(r"(?<!\S)--([a-z][\w-]*)", arguments)
    unset = [flag for flag in flags if flag.replace("-", "_") not in SETTINGS]
    return [f"--{flag}" for flag in unset if not re.search(rf"--{flag}\b", said)]
