"""README's tables are the code's."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from readme_tables import README, rewritten


def test_the_tables_are_what_the_code_says():
    text = README.read_text(encoding="utf-8")
    assert rewritten(text) == text, "run `python tools/readme_tables.py`"
