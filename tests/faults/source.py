"""The package's syntax trees, for tests of forbidden constructs."""

import ast
from collections.abc import Iterator
from pathlib import Path


def nodes(package: Path, *words: str) -> Iterator[tuple[Path, ast.AST]]:
    """Yield (file, node) for all nodes of the files that contain any of the words. To parse all
    files and visit all nodes would take a second."""
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if any(word in text for word in words):
            for node in ast.walk(ast.parse(text)):
                yield path, node


def dotted(node: ast.AST) -> str:
    """Return `name` or `name.attribute` as written, or "" for other nodes. `ast.unparse` of every
    call would take seconds."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""
