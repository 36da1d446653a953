"""README's tables are the code's."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from readme_tables import README, rewritten


def test_the_tables_are_what_the_code_says():
    text = README.read_text(encoding="utf-8")
    assert rewritten(text) == text, "run `python tools/readme_tables.py`"


def test_what_is_saved_in_the_examples_has_its_true_length():
    commands = [line for line in README.read_text(encoding="utf-8").splitlines() if "curl " in line]
    saved = [line for line in commands if "/tts" in line and ".wav" in line.rpartition(" -o ")[2]]
    assert saved
    assert all("-F stream=false" in line for line in saved)
