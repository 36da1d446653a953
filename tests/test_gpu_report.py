"""The report of a GPU's owner, made by a CPU: every step runs, and what fails is named."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TINY = [
    *("--model", "mini", "--device", "cpu", "--batch", "1,2", "--steps", "3", "--clients", "1,2"),
    *("--compared", "1", "--rates", "5", "--seconds", "1", "--codes", "10", "--rounds", "1"),
]


def report(out: Path, *words: str):
    command = [sys.executable, str(ROOT / "tools" / "gpu_report.py"), *TINY, "--out", str(out)]
    done = subprocess.run(
        [*command, *words], capture_output=True, text=True, timeout=600, check=False
    )
    return done, json.loads((out / "report.json").read_text()), (out / "report.md").read_text()


@pytest.mark.slow
def test_one_command_measures_all_and_writes_it_down(tmp_path):
    done, made, text = report(tmp_path)
    assert done.returncode == 0, done.stdout
    rows = {name: step["rows"] for name, step in made["steps"].items()}
    assert all(rows.values()), done.stdout
    assert [row["clients"] for row in rows["ladder"]] == [1, 2]
    assert [row["clients"] for row in rows["open loop"]] == [1, "5/s"]
    assert all(finding["kept"] for finding in rows["check"])
    assert {"defaults", "no CUDA graphs", "no TF32", "sdpa_kernel 0"} <= set(rows)
    assert text.count("\n### ") == len(rows)


@pytest.mark.slow
def test_what_takes_too_long_is_named_and_the_rest_goes_on(tmp_path):
    done, made, text = report(tmp_path, "--minutes", "0.01", "--only", "check,defaults")
    assert done.returncode == 1
    assert all("took longer than" in step["fault"] for step in made["steps"].values())
    assert text.count("**took longer than") == 2
