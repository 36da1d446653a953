"""run.sh with a made-up PATH: which Python it takes, when it calls pip, what it starts."""

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("bash", "cat", "chmod", "cksum", "cp", "dirname", "grep", "mkdir", "rm", "tail")

SERVER, CUDA = "requirements.lock", "requirements-cuda.lock"
LOCKED = "--no-deps --require-hashes --only-binary :all: -r "

GOOD_PYTHON = """#!/usr/bin/env bash
# Stands for an interpreter: makes a .venv whose python writes down how it is called.
case "$*" in
"-m venv --clear "*)
    mkdir -p "$4/bin"
    printf '#!/usr/bin/env bash\\n[ "$1" = -c ] || echo "$*" >>"$CALLS"\\n' >"$4/bin/python"
    chmod +x "$4/bin/python"
    ;;
--version) echo "Python 3.11.7" ;;
esac
"""
NO_ENSUREPIP = '#!/usr/bin/env bash\ncase "$*" in *ensurepip*) exit 1 ;; esac\n'
BROKEN_SHIM = '#!/usr/bin/env bash\necho "pyenv: command not found" >&2\nexit 127\n'
OLD = '#!/usr/bin/env bash\ncase "$*" in *version_info*) exit 1 ;; esac\n'
GPU = '#!/usr/bin/env bash\necho "NVIDIA H200, 580.65.06, 9.0"\n'


class Machine:
    """A copy of run.sh, and a directory that is all of its PATH."""

    def __init__(self, directory: Path) -> None:
        self.project = directory / "project"
        self.bin = directory / "bin"
        self.calls_file = directory / "calls"
        self.project.mkdir()
        self.bin.mkdir()
        shutil.copy(ROOT / "run.sh", self.project)
        for name in (
            SERVER,
            CUDA,
            *(f"requirements-{n}.txt" for n in ("bench", "cluster", "dev", "store")),
        ):
            (self.project / name).write_text("something==1\n")
        for name in TOOLS:
            (self.bin / name).symlink_to(str(shutil.which(name)))

    def has(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(script.replace("/usr/bin/env bash", str(shutil.which("bash"))))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        self.calls_file.write_text("")
        command = [str(shutil.which("bash")), str(self.project / "run.sh"), *words]
        environment = {"PATH": str(self.bin), "CALLS": str(self.calls_file)}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    def calls(self) -> list[str]:
        return self.calls_file.read_text().replace(str(self.project), "").splitlines()


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def test_the_first_python_that_works_is_taken(machine):
    machine.has("python3.13", BROKEN_SHIM)
    machine.has("python3.12", OLD)
    machine.has("python3.11", NO_ENSUREPIP)
    machine.has("python3", GOOD_PYTHON)
    done = machine.run("setup")
    assert done.returncode == 0, done.stderr
    assert f"making .venv with Python 3.11.7 ({machine.bin}/python3)" in done.stderr
    assert machine.calls() == [f"-m pip install {LOCKED}/{SERVER}"]


def test_no_python_and_no_ensurepip_are_said_clearly(machine):
    machine.has("python3", OLD)
    done = machine.run()
    assert done.returncode == 1
    assert "Python 3.11 or newer was not found" in done.stderr
    machine.has("python3", NO_ENSUREPIP)
    done = machine.run()
    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr


def test_pip_is_called_only_for_what_has_changed(machine):
    machine.has("python3", GOOD_PYTHON)
    machine.run("setup")
    assert machine.run("setup").stderr == ""
    assert machine.calls() == []
    (machine.project / SERVER).write_text("something==2\n")
    machine.run("setup")
    assert machine.calls() == [f"-m pip install {LOCKED}/{SERVER}"]
    machine.has("nvidia-smi", GPU)
    machine.run("setup")
    assert machine.calls() == [f"-m pip install {LOCKED}/{CUDA}"]
    machine.run("setup")
    assert machine.calls() == []


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("NVIDIA L4, 535.183.01, 8.9", "driver 535.183.01 is too old: CUDA 13 needs 580 or newer"),
        ("Tesla P100, 580.65.06, 6.0", "no kernels for compute capability 6.0"),
        ("NVIDIA B200, 580.65.06, 10.0", "no kernels for compute capability 10.0"),
        ("NVIDIA GB10, 590.1, 12.1", "no kernels for compute capability 12.1"),
        ("No devices were found", ""),
        ("", ""),
    ],
)
def test_nothing_is_downloaded_for_a_gpu_that_is_of_no_use(machine, listed, said):
    machine.has("python3", GOOD_PYTHON)
    machine.has("nvidia-smi", f'#!/usr/bin/env bash\necho "{listed}"\n')
    done = machine.run("setup")
    assert done.returncode == 0
    assert machine.calls() == [f"-m pip install {LOCKED}/{SERVER}"]
    assert (said in done.stderr) if said else ("is not used" not in done.stderr)


@pytest.mark.parametrize("listed", ["Tesla T4, 580.1, 7.5", "Old, 470.1, 3.5\nNew, 580.1, 12.0"])
def test_the_libraries_are_installed_where_one_gpu_can_use_them(machine, listed):
    machine.has("python3", GOOD_PYTHON)
    machine.has("nvidia-smi", f'#!/usr/bin/env bash\necho "{listed}"\n')
    machine.run("setup")
    assert f"-m pip install {LOCKED}/{CUDA}" in machine.calls()


@pytest.mark.parametrize(
    ("words", "started"),
    [
        ([], "-P -m chatterbox serve"),
        (["--port", "9000"], "-P -m chatterbox --port 9000"),
        (["--model", "mini", "say", "x"], "-P -m chatterbox --model mini say x"),
        (["serve", "--port", "9000"], "-P -m chatterbox serve --port 9000"),
        (["say", "two words", "--out", "x.wav"], "-P -m chatterbox say two words --out x.wav"),
        (["voices"], "-P -m chatterbox voices"),
    ],
)
def test_what_is_started(machine, words, started):
    machine.has("python3", GOOD_PYTHON)
    machine.run("setup")
    assert machine.run(*words).returncode == 0
    assert machine.calls() == [started]


def test_the_benchmark_installs_what_it_needs_and_nobody_else_does(machine):
    machine.has("python3", GOOD_PYTHON)
    machine.run("setup")
    assert "-m pip install -r /requirements-bench.txt" not in machine.calls()
    assert machine.run("benchmark", "--stream").stdout == ""
    assert machine.calls() == [
        "-m pip install -r /requirements-bench.txt",
        "/benchmark.py --stream",
    ]
    machine.run("benchmark")
    assert machine.calls() == ["/benchmark.py"]


@pytest.mark.parametrize("works", [True, False])
def test_uv_is_used_where_there_is_one_that_works(machine, works):
    machine.has("python3", GOOD_PYTHON)
    machine.has("uv", f'#!/usr/bin/env bash\necho "uv $*" >>"$CALLS"\nexit {0 if works else 1}\n')
    assert machine.run("setup").returncode == 0
    uv = f"uv pip install --python /.venv/bin/python {LOCKED}/{SERVER}"
    assert machine.calls() == [uv] if works else [uv, f"-m pip install {LOCKED}/{SERVER}"]


def test_pip_is_quiet_and_its_size_is_said_first(machine):
    chatty = '{ echo "Collecting $*"; echo "$*" >>"$CALLS"; }'
    machine.has("python3", GOOD_PYTHON.replace('echo "$*" >>"$CALLS"', chatty))
    machine.has("nvidia-smi", GPU)
    done = machine.run("setup")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Collecting" not in done.stderr
    log = machine.project / ".venv" / "install.log"
    assert "Collecting" in log.read_text()
    said = [line for line in done.stderr.splitlines() if ": installing " in line]
    assert len(said) == 2
    for line in said:
        assert re.search(r"\d (MB|GB)\b.*minutes", line)
        assert str(log) in line


def test_a_failed_installation_is_said_and_tried_again(machine):
    failing = '{ echo "no space left"; echo "$*" >>"$CALLS"; exit 1; }'
    machine.has("python3", GOOD_PYTHON.replace('echo "$*" >>"$CALLS"', failing))
    for _ in range(2):
        done = machine.run("serve")
        assert (done.returncode, len(machine.calls())) == (1, 1)
        assert "no space left" in done.stderr
        assert f"could not install {SERVER}" in done.stderr


def test_what_test_runs(machine):
    machine.has("python3", GOOD_PYTHON)
    machine.run("setup")
    assert machine.run("test", "tests/text").returncode == 0
    assert machine.calls() == [
        "-m pip install -r /requirements-dev.txt",
        "-m ruff format --check .",
        "-m ruff check .",
        "-m mypy",
        "-m pytest -m not slow and not soak and not cluster -n 3 --dist worksteal tests/text",
    ]
    machine.run("test", "--all")
    assert machine.calls()[-1] == "-m pytest -m not soak and not cluster"
    machine.run("test", "--soak")
    assert machine.calls() == ["-m pytest tests/soak -m soak"]
    machine.run("test", "--soak", "4.5", "-x")
    assert machine.calls() == ["-m pytest tests/soak -m soak --soak-minutes=4.5 -x"]


def test_ray_is_installed_for_a_cluster_alone(machine):
    machine.has("python3", GOOD_PYTHON)
    machine.run("setup")
    assert machine.run("cluster", "--replicas", "2").returncode == 0
    ray = "-m pip install -r /requirements-cluster.txt"
    assert machine.calls() == [ray, "-P -m chatterbox cluster --replicas 2"]
    machine.run("test", "--cluster", "-x")
    assert machine.calls()[-1] == "-m pytest tests/cluster -m cluster and not slow -x"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["serve"], False),
        (["serve", "--voices=/srv/voices"], False),
        (["serve", "--voices=s3://bucket/x"], True),
        (["--voices", "gs://bucket"], True),
    ],
)
def test_what_a_bucket_needs_is_installed_where_voices_are_in_one(machine, words, wanted):
    machine.has("python3", GOOD_PYTHON)
    machine.run(*words)
    assert ("-m pip install -r /requirements-store.txt" in machine.calls()) == wanted


def test_help_and_a_wrong_word_set_nothing_up(machine):
    said = machine.run("--help").stdout
    assert "./run.sh say TEXT" in said
    assert "open http://127.0.0.1:8000" in said
    assert len(said.splitlines()) <= 30
    done = machine.run("sereve")
    assert (done.returncode, machine.calls()) == (2, [])
    assert "there is no command 'sereve'" in done.stderr
