"""docs/faults.md has every row, and every test that it names exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
TABLE = TESTS.parent / "docs" / "faults.md"
ROWS = {f"F{number:02}" for number in range(1, 86) if number != 69} | {"F05b"}
RESULTS = re.compile(r"passes|passes in part: .+|does not apply: .+|pending")
LINE = re.compile(r"\| (F\d\d\w?) \| (.+?) \| (.*?) \| (.+?) \|")


def table() -> list[tuple[str, str, str, str]]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [match.groups() for line in lines if (match := LINE.fullmatch(line))]


@cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign)
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            names |= {ast.unparse(target) for target in node.targets}
        elif isinstance(node, kinds):
            names.add(node.name)
    return names


def test_every_row_is_there_once():
    found = [row for row, *_ in table()]
    assert len(found) == len(set(found))
    assert set(found) >= ROWS


@pytest.mark.parametrize("row", table(), ids=lambda row: row[0])
def test_what_a_row_says_is_so(row):
    name, happens, tests, result = row
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
    for file, function in named:
        assert function in functions(TESTS / file), f"{name}: {file} has no {function}"
    assert happens
    assert RESULTS.fullmatch(result), result
    assert named or not result.startswith("passes"), f"{name}: no test shows it"


def test_every_test_named_after_a_row_is_in_it():
    """A row's tests can be found from the table."""
    rows = {name: tests for name, _, tests, _ in table()}
    for path in sorted(
        path for room in ("faults", "soak") for path in (TESTS / room).glob("test_*.py")
    ):
        for function in functions(path):
            numbers = re.match(r"test_((?:f\d{2,3}b?_)+)", function)
            for number in numbers[1].rstrip("_").split("_") if numbers else ():
                name = "F" + number[1:]
                assert f"::{function}`" in rows[name], (
                    f"{name} does not name {path.name} {function}"
                )
