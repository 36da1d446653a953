"""Tests of the README's examples and of the generated reference pages."""

from pathlib import Path

import pytest

from tools.reference_tables import pages

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    """Return the reference pages by name."""
    return {path.stem: text for path, text in pages().items()}


@pytest.mark.parametrize("name", ["calls", "sockets", "settings", "errors", "metrics"])
def test_a_reference_page_is_what_the_code_says(name, generated):
    content = generated[name]
    written = (ROOT / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8")
    assert written == content, "run `python tools/reference_tables.py`"


def test_what_is_saved_in_the_examples_has_its_true_length():
    commands = [
        line
        for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
        if "curl " in line
    ]
    saved = [line for line in commands if "/tts" in line and ".wav" in line.rpartition(" -o ")[2]]
    assert saved
    assert all("-F stream=false" in line for line in saved)
