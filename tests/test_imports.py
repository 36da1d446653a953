"""The house's import rules: who may know whom."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "chatterbox"
FILES = sorted(PACKAGE.rglob("*.py"))

PURE = [
    "text/*.py",
    "engine/sampler.py",
    "engine/scheduler.py",
    "engine/outbox.py",
    "engine/windows.py",
    "engine/runaway.py",
    "audio/join.py",
    "errors.py",
]
# Each room may import only from rooms named here, besides itself and the roots.
ROOTS = {"arrays", "errors", "config", "hardening", "__init__"}
MAY_KNOW = {
    "text": set(),
    "mini": set(),
    "hub": {"mini"},
    "runtime": {"hub", "families"},
    "compile": {"families", "hub", "runtime"},
    "families": {"compile", "hub", "runtime", "text"},
    "audio": {"runtime"},
    "voices": {"audio", "families", "runtime"},
    "engine": {"audio", "families", "runtime", "text", "voices"},
    "server": {"audio", "engine", "families", "runtime", "text", "voices"},
    "dialects": {"audio", "engine", "families", "runtime", "server", "text", "voices"},
    "bench": set(),
}


def test_every_pure_name_is_of_a_file():
    assert [name for name in PURE if not list(PACKAGE.glob(name))] == []


def imported(path: Path) -> set[str]:
    """Dotted names of every module a file imports, function bodies included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else Path(parts[0]).stem


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_know_only_their_neighbours(path: Path):
    here = room(path)
    if here not in MAY_KNOW:  # the roots and the command line
        return
    known = {n.split(".")[1] for n in imported(path) if n.startswith("chatterbox.")}
    modules = {p.name.removesuffix(".py") for p in PACKAGE.iterdir()} - {"__pycache__"}
    assert known & modules <= MAY_KNOW[here] | ROOTS | {here}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_libraries_stay_in_their_rooms(path: Path):
    names = roots(path)
    where = room(path)
    if where not in {"runtime", "compile", "families"}:
        assert "onnxruntime" not in names
    if where not in {"hub", "compile"}:
        assert "onnx" not in names, "only the compiler edits graphs"
    if where not in {"server", "dialects"}:
        assert not names & {"fastapi", "starlette", "uvicorn"}
    assert "torch" not in names
    assert "pickle" not in names


@pytest.mark.parametrize(
    "path", [p for pattern in PURE for p in sorted(PACKAGE.glob(pattern))], ids=lambda p: p.name
)
def test_pure_cores_touch_neither_graphs_nor_loops(path: Path):
    assert not roots(path) & {"onnxruntime", "onnx", "asyncio", "fastapi", "httpx", "socket"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_config_reads_the_environment(path: Path):
    if path.parent == PACKAGE / "config":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("os", "environ"), ("os", "getenv")}


FAMILIES = sorted(path.parent for path in (PACKAGE / "families").glob("*/__init__.py"))
CONSTANTS = {
    "turbo": r"656[123]|50256|50276|clear throat",
    "orpheus": r"128\d{3}|1569\d\d|tara\b",
}
"""Numbers and words that are one family's own."""
CODECS = {"runtime/decoder/s3gen.py", "runtime/decoder/snac.py"}
"""What is known of a codec stands beside what drives it: families share codecs."""
CLIENTS = {"dialects/shared/voice_names.py"}
"""Voice names of other servers are those servers' own."""


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_family_is_known_in_its_own_folder_alone(path: Path):
    where = str(path.relative_to(PACKAGE))
    text = path.read_text(encoding="utf-8")
    for folder in FAMILIES:
        if folder in path.parents:
            continue
        own = f"chatterbox.families.{folder.name}"
        known = {name for name in imported(path) if name == own or name.startswith(f"{own}.")}
        assert not known or where == "families/registry.py"
        if where not in CODECS | CLIENTS:
            assert not re.search(rf"\b(?:{CONSTANTS[folder.name]})\b", text), folder.name
