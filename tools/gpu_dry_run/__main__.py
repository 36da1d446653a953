"""Command line of the dry run of onnxruntime's CUDA provider without a GPU.

    python -m tools.gpu_dry_run report [memory] [mini] [random] [orpheus] [--decoder-on 1]
    python -m tools.gpu_dry_run report … --json FILE
    python -m tools.gpu_dry_run probe
    python -m tools.gpu_dry_run place MODEL.onnx [--option key=value] [--session key=value]
    python -m tools.gpu_dry_run capture MODEL.onnx --shape input=1,4 --fill input=3

Needs Linux, gcc, and an onnxruntime-gpu: the installed one, or GPU_DRY_RUN_ONNXRUNTIME=FOLDER with
what `pip install --no-deps --target FOLDER onnxruntime-gpu` unpacked. DRY_RUN_* pretend another
machine (docs/run/gpu.md).
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.gpu_dry_run.build import NotHere, build, environment, site_of_provider


def main() -> int:
    """Compile, and start the process that is looked at."""
    named = os.environ.get("GPU_DRY_RUN_ONNXRUNTIME")
    try:
        site = site_of_provider(Path(named) if named else None)
    except NotHere as why:
        print(f"no dry run: {why}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        libraries = Path(folder)
        build(libraries)
        if os.environ.get("DRY_RUN_WITHOUT_CUDNN"):
            libraries /= "without_cudnn"
        command = [sys.executable, "-m", "tools.gpu_dry_run.inside", *sys.argv[1:]]
        return subprocess.run(command, env=environment(libraries, site), check=False).returncode


if __name__ == "__main__":
    if not sys.argv[1:] or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    sys.exit(main())
