"""Runs all GPU measurements within 20 minutes and writes one JSON and one Markdown file.

    python tools/gpu_report.py                     the published model, which is downloaded
    python tools/gpu_report.py --model DIR         another one, with config.json and onnx/

First whether the device computes what a CPU does (`check_device`), then steps of the language model
(`bench_lm`), the engine with 1 to 128 clients and under 1, 10 and 20 requests a second
(`bench_stream`), and last some settings beside the defaults. Each runs in a process of its own;
what fails or takes too long is named, and the rest goes on. Files are written after each step.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chatterbox.config import TTSConfig
from chatterbox.errors import ChatterboxError, ConfigError, ModelError
from chatterbox.families.load import find_model
from chatterbox.hub.files import ModelFiles
from chatterbox.runtime.sessions import fitted, session_settings

ROOT = Path(__file__).resolve().parents[1]
VARIANTS: dict[str, list[str]] = {
    "defaults": [],
    "no CUDA graphs": ["cuda_graphs=false"],
    "no TF32": ["use_tf32=false"],
    "sdpa_kernel 0": ["sdpa_kernel=0"],
    "cudnn_conv1d_pad_to_nc1d": ["cudnn_conv1d_pad_to_nc1d=true"],
}
"""Settings that are compared."""
KEPT_LINES = 40  # of what a step printed
UNASKED = ["--query-gpu=name,driver_version,compute_cap,memory.total,power.limit"]


@dataclass(frozen=True, slots=True)
class Step:
    """One process."""

    name: str
    words: list[str]
    share: float  # of the time that is left, at most

    def run(self, left_s: float, out: Path, environment: dict[str, str]) -> dict[str, Any]:
        """What it measured, or why it did not."""
        file = out / f"{self.name.replace(' ', '-')}.json"
        file.unlink(missing_ok=True)
        command = [sys.executable, *self.words, "--json", str(file)]
        began = time.monotonic()
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=max(1.0, self.share * left_s),
                check=False,
            )
            printed, code = done.stdout, done.returncode
            fault = f"ended with code {code}" if code else None
        except subprocess.TimeoutExpired as late:
            raw = late.stdout or b""
            printed = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
            fault = f"took longer than {self.share * left_s:.0f} s"
        rows = json.loads(file.read_text()) if file.is_file() else None
        return {
            "command": " ".join(["python", *self.words]),
            "took_s": round(time.monotonic() - began, 1),
            "fault": fault,
            "rows": rows,
            "printed": printed.splitlines()[-KEPT_LINES:],
        }


def steps(given: argparse.Namespace, files: ModelFiles, data: Path) -> Iterator[Step]:
    """In order: what is right before what is fast."""
    device, model = given.device, files.directory
    dtypes = [f"{graph}_dtype={precision}" for graph, precision in files.precisions.items()]
    same = [word for setting in dtypes for word in ("--set", setting)]
    speak = ["tools/bench_stream.py", "--model", str(model), "--codes", str(given.codes)]
    speak += ["--rounds", str(given.rounds), "--in-a-row", "1", "--threads", "0"]
    speak += ["--set", f"device={device}", *same]
    check = ["tools/check_device.py", "--model", str(model), "--device", device, *same]
    yield Step("check", [*check, "--reference", "same"], 0.4)
    lm = ["tools/bench_lm.py", "--device", device, "--directory", str(model / "onnx")]
    lm += ["--graph", "compiled,compiled+graphs" if device == "cuda" else "compiled"]
    lm += ["--precision", files.precisions["language_model"], "--batch", given.batch]
    lm += ["--cache", str(data / "steps")]
    yield Step("steps", [*lm, "--rounds", "1", "--steps", str(given.steps)], 0.3)
    yield Step("ladder", [*speak, "--clients", given.clients], 0.4)
    rates = ["--rates", given.rates, "--seconds", str(given.seconds)]
    yield Step("open loop", [*speak, "--clients", "1", *rates], 0.4)
    for number, (name, settings) in enumerate(VARIANTS.items()):
        words = [word for setting in settings for word in ("--set", setting)]
        left = len(VARIANTS) - number
        yield Step(name, [*speak, "--clients", given.compared, *words], 1 / left)


def machine(config: TTSConfig) -> dict[str, Any]:
    """What it was measured on, and at which commit."""

    def said(*words: str) -> str:
        try:
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        except OSError:
            return ""
        return done.stdout.strip()

    import onnxruntime as ort

    try:
        note = session_settings(config).note
    except (ConfigError, ModelError) as fault:
        sys.exit(f"gpu_report: {fault}")
    return {
        "commit": said("git", "rev-parse", "--short", "HEAD"),
        "gpus": said("nvidia-smi", *UNASKED, "--format=csv,noheader").splitlines(),
        "chosen": note,
        "onnxruntime": ort.__version__,
        "packages": [
            line
            for line in said(sys.executable, "-m", "pip", "freeze").splitlines()
            if line.startswith("nvidia-")
        ],
        "cores": os.cpu_count(),
        "system": platform.platform(),
    }


def markdown(report: dict[str, Any]) -> str:
    """For docs/inside/benchmarks.md."""
    facts = report["machine"]
    lines = [
        f"## {report['date']}, {'; '.join(facts['gpus']) or facts['system']}",
        "",
        f"`python tools/gpu_report.py`, commit {facts['commit']}, onnxruntime "
        f"{facts['onnxruntime']}, {facts['cores']} cores, model {report['model']}. "
        f"{facts['chosen']}",
    ]
    for name, step in report["steps"].items():
        lines += ["", f"### {name}", "", f"`{step['command']}`, {step['took_s']:g} s"]
        if step["fault"]:
            lines += ["", f"**{step['fault']}**", "", "```", *step["printed"][-10:], "```"]
        rows = step["rows"]
        if rows:
            columns = [key for key, value in rows[0].items() if not isinstance(value, list)]
            lines += ["", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
            lines += [f"| {' | '.join(_cell(row[key]) for key in columns)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="auto", help="as CHATTERBOX_MODEL, or a directory")
    parser.add_argument("--out", type=Path, default=Path("gpu-report"), help="a folder")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--only", help="names of steps: check,steps,ladder,…")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--batch", default="1,8,32,64,128", help="rows of a step")
    parser.add_argument("--steps", type=int, default=50, help="for each cell")
    parser.add_argument("--clients", default="1,2,4,8,16,32,64,128")
    parser.add_argument("--compared", default="1,16,64", help="clients where settings are compared")
    parser.add_argument("--rates", default="1,10,20", help="requests a second")
    parser.add_argument("--seconds", type=float, default=30, help="of each rate")
    parser.add_argument("--codes", type=int, default=150, help="of each utterance; 25 are a second")
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


def main() -> int:
    """Run the steps, and write."""
    given = arguments()
    ends = time.monotonic() + 60 * given.minutes
    out = given.out.absolute()
    data = out / "data"
    data.mkdir(parents=True, exist_ok=True)
    config = TTSConfig(model=given.model, device=given.device)
    try:
        config = fitted(config)
        files = find_model(config, print)
    except (ChatterboxError, ConfigError, ModelError) as fault:
        sys.exit(f"gpu_report: {fault}")
    environment = os.environ | {"CHATTERBOX_DATA_DIR": str(data), "PYTHONPATH": str(ROOT)}
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "model": f"{given.model} ({files.directory.name})",
        "machine": machine(config),
        "steps": {},
    }
    for step in steps(given, files, data):
        if given.only and step.name not in given.only.split(","):
            continue
        print(f"{step.name} …", flush=True)
        found = step.run(ends - time.monotonic(), out, environment)
        report["steps"][step.name] = found
        print(f"{step.name}: {found['fault'] or 'done'} in {found['took_s']:g} s", flush=True)
        (out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        (out / "report.md").write_text(markdown(report), encoding="utf-8")
    print(
        f"\n{out / 'report.md'} and report.json: docs/inside/benchmarks.md says where to send them"
    )
    return int(any(step["fault"] for step in report["steps"].values()))


if __name__ == "__main__":
    sys.exit(main())
