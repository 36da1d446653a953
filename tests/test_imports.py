"""The import rules: which room may import which."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "chatterbox"
FILES = sorted(PACKAGE.rglob("*.py"))

PURE = [
    "text/*.py",
    "engine/sampler.py",
    "engine/scheduler.py",
    "engine/sequence.py",
    "engine/windows.py",
    "engine/runaway.py",
    "audio/shaping.py",
    "errors.py",
]
# Each room may import only from rooms named here, besides itself and the roots.
ROOTS = {"arrays", "errors", "config", "hardening", "loading", "__init__"}
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
    "cluster": {"dialects", "engine", "families", "logs", "runtime", "server"},
}


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every statement below a node, without the expressions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            yield from statements(child)


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """Return the dotted names of all modules that a file imports, also inside functions."""
    names: set[str] = set()
    for node in statements(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def packages(path: Path) -> set[str]:
    """Return the top-level packages that a file imports."""
    return {name.split(".")[0] for name in imported(path)}


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else Path(parts[0]).stem


def wrong(found: dict[Path, set[str]]) -> dict[str, set[str]]:
    """What should not be there, by file."""
    return {str(path.relative_to(PACKAGE)): names for path, names in found.items() if names}


def test_rooms_know_only_their_neighbours():
    modules = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()}
    found = {}
    for path in FILES:
        here = room(path)
        if here in MAY_KNOW:  # else the roots and the command line
            known = {n.split(".")[1] for n in imported(path) if n.startswith("chatterbox.")}
            found[path] = known & modules - MAY_KNOW[here] - ROOTS - {here}
    assert wrong(found) == {}


HOMES = {
    "onnxruntime": {"runtime", "compile", "families"},
    "onnx": {"hub", "compile"},  # only the compiler edits graphs
    "ray": {"cluster"},
    "fastapi": {"server", "dialects"},
    **dict.fromkeys(("starlette", "uvicorn"), frozenset(("server", "dialects", "cluster"))),
    **dict.fromkeys(("torch", "pickle"), frozenset()),
}


def test_libraries_stay_in_their_rooms():
    assert (
        wrong(
            {
                path: {n for n in packages(path) if room(path) not in HOMES.get(n, {room(path)})}
                for path in FILES
            }
        )
        == {}
    )


def test_pure_cores_touch_neither_graphs_nor_loops():
    outside = {"onnxruntime", "onnx", "asyncio", "fastapi", "httpx", "socket"}
    for pattern in PURE:
        paths = sorted(PACKAGE.glob(pattern))
        assert paths, pattern
        assert wrong({path: packages(path) & outside for path in paths}) == {}


def attributes(module: ast.Module) -> set[str]:
    """Return every `name.attribute` of a module."""
    return {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


def test_only_config_reads_the_environment():
    outside = (path for path in FILES if path.parent != PACKAGE / "config")
    read = {path: attributes(tree(path)) & {"os.environ", "os.getenv"} for path in outside}
    assert wrong(read) == {}


FAMILIES = sorted(path.parent for path in (PACKAGE / "families").glob("*/__init__.py"))
CONSTANTS = {
    "turbo": r"656[123]|50256|50276|clear throat",
    "orpheus": r"128\d{3}|1569\d\d|tara\b",
}
"""Numbers and words that are one family's own."""
CODECS = {"runtime/decoder/s3gen.py", "runtime/decoder/snac.py"}
"""What is known of a codec stands beside what drives it: families share codecs."""


def test_a_family_is_known_in_its_own_folder_alone():
    found: dict[Path, set[str]] = {path: set() for path in FILES}
    for path in FILES:
        where, text = str(path.relative_to(PACKAGE)), path.read_text(encoding="utf-8")
        for folder in FAMILIES:
            if folder in path.parents:
                continue
            own = f"chatterbox.families.{folder.name}"
            if where != "families/load.py":
                found[path] |= {name for name in imported(path) if f"{name}.".startswith(f"{own}.")}
            if where not in CODECS:
                found[path] |= set(re.findall(rf"\b(?:{CONSTANTS[folder.name]})\b", text))
    assert wrong(found) == {}


PRIVATE = re.compile(r"(?<![\w\])\"'])(?!self|cls|os|random|sys)\w+[\w.\])]*\._[a-z]\w*")


def test_no_test_reads_what_is_private():
    found = {
        str(path.relative_to(TESTS)): names
        for path in TESTS.rglob("*.py")
        if (names := PRIVATE.findall(path.read_text(encoding="utf-8")))
    }
    assert found == {}
