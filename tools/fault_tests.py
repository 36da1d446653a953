"""Updates the test column of docs/inside/faults.md from the existing tests.

`python tools/fault_tests.py` adds tests that are named after a row (`test_f07_…`), follows tests
whose file was renamed, takes out those that are gone, and lists rows that no test shows.
"""

import ast
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "inside" / "faults.md"
ROW = re.compile(r"\| (F\d+b?) \| (.+) \| (.*?) \|")
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def tests() -> dict[str, list[str]]:
    """Test function → the files that have it."""
    found = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[node.name].append(str(path.relative_to(ROOT / "tests")))
    return found


def rows_of(function: str) -> list[str]:
    """`test_f08_f09_…` → F08, F09."""
    named = re.match(r"test_((?:f\d+b?_)+)", function)
    return [f"F{part[1:]}" for part in named[1].split("_")[:-1]] if named else []


def column(row: str, written: str, there: dict[str, list[str]]) -> str:
    """The tests of one row."""
    listed = {
        (file, name) for name, files in there.items() if row in rows_of(name) for file in files
    }
    for file, name in NAMED.findall(written):
        files = there.get(name, [])
        if file in files or len(files) == 1:
            listed.add((file if file in files else files[0], name))
        else:
            print(f"{row}: no {file}::{name}", file=sys.stderr)
    if not listed:
        print(f"{row}: no test shows it", file=sys.stderr)
    own = f"test_{row.lower()}_"
    count = Counter(file for file, name in listed if name.startswith(own))
    short = {  # of several tests of one file that are named after the row, what they begin with
        (file, f"{own}*" if name.startswith(own) and count[file] > 1 else name)
        for file, name in listed
    }
    return "<br>".join(f"`{file}::{name}`" for file, name in sorted(short))


def main() -> None:
    """Rewrite the page."""
    there = tests()
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for at, line in enumerate(lines):
        if row := ROW.fullmatch(line):
            lines[at] = f"| {row[1]} | {row[2]} | {column(row[1], row[3], there)} |"
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
