"""Every step of reading is described with an example, and reads the example as described."""

import ast
import re
from pathlib import Path

import pytest
from text.examples import normalise

from chatterbox import text

DESCRIPTION = re.compile(
    r"(?:Read|Replace|Remove|Mark|Capitalise|Put|Clean up)[^`]+(?:`~`[^`]+)?"
    r": `(?P<written>[^`]+)` → `(?P<said>[^`]+)`"
)


def steps() -> list[tuple[str, str]]:
    """Name and docstring of every step that is assigned in `chatterbox/text`."""
    found = []
    for path in sorted(Path(text.__file__).parent.glob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
            if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Step("):
                is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                name = f"{path.stem}.{ast.unparse(node.targets[0])}"
                found.append((name, str(after.value.value) if is_text else ""))
    return found


@pytest.mark.parametrize(("name", "description"), steps(), ids=lambda value: value[:24])
def test_the_example_is_read_as_described(name: str, description: str) -> None:
    example = DESCRIPTION.match(description)
    assert example, f"{name} has no description with an example"
    said = normalise(example["written"]).rstrip(".")
    assert said.lower() == example["said"].rstrip(".").lower()
