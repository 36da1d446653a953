"""The package's syntax trees, for tests of forbidden constructs."""

import ast
from collections.abc import Iterator
from pathlib import Path


def nodes(package: Path) -> Iterator[tuple[Path, ast.AST]]:
    """Yield (file, node) for all nodes of all files."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path, node


def dotted(node: ast.AST) -> str:
    """Return `name` or `name.attribute` as written, or "" for other nodes. `ast.unparse` of every
    call would take seconds."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""
