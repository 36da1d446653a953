"""What the server imports is in requirements.txt, locked with hashes; nothing else is in it."""

import ast
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from made import with_compiled_mini
from test_imports import statements

ROOT = Path(__file__).resolve().parent.parent
NOT_THE_SERVERS = ("httpx", "matplotlib", "librosa", "numba", "pytest", "httptools", "playwright")
BEHIND = {
    "pydantic_core": "pydantic",
    "dotenv": "pydantic-settings",
    "starlette": "fastapi",
    "h11": "uvicorn",
    "scipy": "pyloudnorm",
}
"""Imported here, and pinned by what needs them."""
OPTIONAL = {"perth", "ray", "obstore", "fsspec"}
PIN = re.compile(r"^([\w-]+)==([\w.]+)", re.MULTILINE)


distributions = cache(packages_distributions)
"""Looking through thousands of files takes a second."""


def pins(name: str) -> set[tuple[str, str]]:
    found = PIN.findall((ROOT / name).read_text(encoding="utf-8"))
    return {(package.lower().replace("_", "-"), version) for package, version in found}


def packages(name: str) -> set[str]:
    return {package for package, _ in pins(name)}


def imported(directory: Path) -> set[str]:
    """The packages that the files below import, by the names that pip knows."""
    modules: set[str] = set()
    for path in directory.rglob("*.py"):
        for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.split(".")[0])
    foreign = modules - set(sys.stdlib_module_names) - {"chatterbox"} - OPTIONAL
    known = distributions()
    found = {BEHIND.get(module) or known[module][0] for module in foreign}
    return {package.lower().replace("_", "-") for package in found}


def test_the_server_imports_what_is_in_its_requirements():
    bench = ROOT / "chatterbox" / "bench"
    rooms = [path for path in (ROOT / "chatterbox").iterdir() if path.is_dir() and path != bench]
    needed = set().union(*(imported(room) for room in rooms))
    assert needed - packages("requirements.txt") == set()
    assert imported(bench) <= packages("requirements.txt") | packages("requirements-bench.txt")


def test_nothing_of_the_benchmark_or_the_tests_is_required():
    assert not packages("requirements.txt") & set(NOT_THE_SERVERS)
    assert not packages("requirements.lock") & set(NOT_THE_SERVERS)


def test_the_server_runs_without_the_benchmarks_packages(tmp_path):
    program = f"""
import sys
for name in {NOT_THE_SERVERS}:
    sys.modules[name] = None  # importing it raises ImportError
from chatterbox.cli import main
import chatterbox.server.run, chatterbox.voices.library, chatterbox.families.turbo.load
sys.exit(main(["say", "Hello.", "--model", "mini", "--out", "hello.flac"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={
            "PATH": "",
            "PYTHONPATH": str(ROOT),
            "CHATTERBOX_DATA_DIR": str(with_compiled_mini(tmp_path)),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "hello.flac").stat().st_size > 1000


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-cuda.lock"])
def test_every_locked_package_has_a_hash_and_no_address(lock):
    text = (ROOT / lock).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    entries = "\n".join(lines).replace("\\\n", " ").splitlines()
    assert len(entries) > 5
    assert all(re.match(r"[\w-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line) for line in entries)
    assert "://" not in text


def test_the_lock_follows_the_requirements():
    assert pins("requirements.txt") <= pins("requirements.lock")
    assert len(pins("requirements-cuda.txt")) == 6
    assert pins("requirements-cuda.txt") <= pins("requirements-cuda.lock")
