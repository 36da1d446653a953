"""Compiles the stand-in libraries with gcc and returns the environment that loads them."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent / "stand_ins"
ROOT = Path(__file__).resolve().parents[2]
CUDART = "libcudart.so.13"
LIBRARIES = {
    CUDART: ("events", "device", "memory", "streams", "kernels"),
    "libcuda.so.1": ("driver",),
    "libcublas.so.13": ("cublas",),
    "libcublasLt.so.13": ("cublaslt",),
    "libcurand.so.10": ("curand",),
    "libcufft.so.12": ("cufft",),
    "libcudnn.so.9": ("cudnn",),
}
PROVIDER = "libonnxruntime_providers_cuda.so"


class NotHere(Exception):
    """Why there can be no dry run on this machine."""


def site_of_provider(folder: Path | None = None) -> Path:
    """Where the onnxruntime lies whose CUDA provider is run. `folder`: as `pip install --no-deps
    --target FOLDER onnxruntime-gpu` filled it; none: the one installed here. Raises NotHere."""
    if folder is None:
        found = importlib.util.find_spec("onnxruntime")
        if found is None or found.origin is None:
            raise NotHere("onnxruntime is not installed")
        folder = Path(found.origin).parents[1]
    if not (folder / "onnxruntime" / "capi" / PROVIDER).is_file():
        raise NotHere(f"onnxruntime in {folder.name} has no {PROVIDER}: it is not onnxruntime-gpu")
    if shutil.which("gcc") is None:
        raise NotHere("there is no gcc to compile the stand-ins with")
    return folder


def build(out: Path) -> None:
    """All of them into `out`; takes 3 s. Below it `without_cudnn` has all but cuDNN."""
    bare = out / "without_cudnn"
    bare.mkdir(parents=True, exist_ok=True)
    for name, parts in LIBRARIES.items():
        versions = out / "versions"  # the provider asks for names with versions
        versions.write_text(f"{name} {{ global: *; }};")
        links = ["-lpthread", "-ldl"] if name == CUDART else [f"-L{out}", f"-l:{CUDART}"]
        command = ["gcc", "-std=gnu11", "-O1", "-Wall", "-Werror", "-fPIC", "-shared"]
        command += ["-o", str(out / name), *(str(SOURCES / f"{part}.c") for part in parts)]
        command += [*links, f"-Wl,-soname,{name}", f"-Wl,--version-script={versions}"]
        subprocess.run(command, check=True)
        versions.unlink()
        if name != "libcudnn.so.9":
            (bare / name).symlink_to(out / name)


def environment(libraries: Path, site: Path) -> dict[str, str]:
    """Of a process in which all that is above happens."""
    paths = [str(ROOT), str(site)]
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("CHATTERBOX_")},
        "LD_LIBRARY_PATH": str(libraries),
        "PYTHONPATH": os.pathsep.join(paths),
        "ORT_DISABLE_TELEMETRY": "1",
    }
