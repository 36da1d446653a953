#!/usr/bin/env bash
# Sets up .venv and runs the server, its commands or its tests.
# Needs Python 3.11 or newer and nothing else: no root, no compiler. See ./run.sh help.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$root/.venv
newest_first="python3.13 python3.12 python3.11 python3 python"

# glibc: use two arenas for all threads, not eight per core, and return large free blocks (a FLAC
# encoder takes 7 MiB) to the system, instead of fragmenting the heap.
export MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=1048576 MALLOC_TRIM_THRESHOLD_=4194304
export ORT_DISABLE_TELEMETRY=1
export PIP_DISABLE_PIP_VERSION_CHECK=1
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

usage() {
    cat <<'TEXT'
./run.sh [FLAGS]               set up, then serve (same as ./run.sh serve [FLAGS])
./run.sh cluster [FLAGS]       serve with several replicas, on one machine or many (installs Ray)
./run.sh ray ARGS              Ray's own commands, for many machines (docs/run/cluster.md)
./run.sh say TEXT [FLAGS]      speak into a file, without a server
./run.sh voices [ACTION]       list, add, delete, export and import voices
./run.sh compile [FLAGS]       compile the model ahead of the first start
./run.sh health [FLAGS]        ask whether a server is alive (exit code 0 or 1)
./run.sh benchmark [FLAGS]     measure a running server
./run.sh test [--all] [ARGS]   formatter, linter, type checker, tests; --all: the slow ones too
./run.sh test --soak [MINUTES] run under load for two hours, or that many minutes, and look for leaks
./run.sh test --cluster [ARGS] the tests of several replicas (installs Ray)
./run.sh setup                 only set up the server

Examples:
  ./run.sh                                        then open http://127.0.0.1:8000 in a browser
  ./run.sh --port 9000 --model mini               another port, with the demo model
  ./run.sh say "Hello there." --voice me.wav --out hello.wav

`serve --help`, `say --help` and so on list the common flags, `--help-all` all of them, in any order.
Settings are also read from CHATTERBOX_* and from a file .env. PYTHON=/path/to/python chooses the
interpreter for .venv.
TEXT
}

say() { printf 'run.sh: %s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# The first interpreter that is new enough, runs (a pyenv shim may not) and can make a venv.
find_python() {
    local name found=
    for name in ${PYTHON:+"$PYTHON"} $newest_first; do
        "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
        found=$name
        "$name" -c 'import ensurepip, venv' >/dev/null 2>&1 || continue
        command -v "$name"
        return
    done
    if [ -n "$found" ]; then
        die "$found cannot make a virtual environment: its module ensurepip is missing." \
            "On Debian and Ubuntu: apt install python3-venv. Or choose another: PYTHON=... ./run.sh"
    fi
    die "Python 3.11 or newer was not found (looked for: $newest_first)." \
        "Install it from your system or from python.org, or name it: PYTHON=/path/to/python ./run.sh"
}

venv_python() {
    if [ -d "$venv/Scripts" ]; then # Windows
        printf '%s' "$venv/Scripts/python.exe"
    else
        printf '%s' "$venv/bin/python"
    fi
}

make_venv() {
    "$(venv_python)" -c '' >/dev/null 2>&1 && return
    local python
    python=$(find_python)
    say "making .venv with $("$python" --version) ($python)"
    "$python" -m venv --clear "$venv" || die "could not make $venv"
}

# Installs a requirements file unless exactly this file was installed before: a second start needs
# neither the network nor pip. A lock file lists every package with its hashes; nothing is built from
# source.
install() {
    local file=$root/$1 stamp=$venv/.installed-$1 log=$venv/install.log sum
    local -a how=()
    sum=$(cksum <"$file")
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ]; then
        return
    fi
    say "installing $1: $(size_of "$1"). Log: $log"
    rm -f "$stamp"
    case $1 in *.lock) how=(--no-deps --require-hashes --only-binary :all:) ;; esac
    # uv is faster, but does not read pip's settings, such as a private index; fall back to pip.
    SECONDS=0
    if ! {
        { command -v uv && uv pip install --python "$(venv_python)" ${how[@]+"${how[@]}"} -r "$file"; } ||
            "$(venv_python)" -m pip install ${how[@]+"${how[@]}"} -r "$file"
    } >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        die "could not install $1 (the reason is above); run ./run.sh again to continue"
    fi
    say "installed in $SECONDS s"
    printf '%s\n' "$sum" >"$stamp"
}

# Download size and time of an installation, measured on Linux.
size_of() {
    case $1 in
    requirements.lock) printf '360 MB to download, 0.8 GB on disk, once; two to five minutes' ;;
    requirements-cuda.lock) printf '1.3 GB, once; five minutes or more' ;;
    requirements-cluster.txt) printf 'Ray, 0.5 GB on disk, once; about a minute' ;;
    *) printf 'once; about a minute' ;;
    esac
}

# Succeeds if there is an NVIDIA GPU that the locked CUDA libraries (1.3 GB) support. Says so if a
# GPU is too old for them, or too new for onnxruntime.
has_usable_gpu() {
    local gpus name driver capability reason
    gpus=$(nvidia-smi --query-gpu=name,driver_version,compute_cap --format=csv,noheader 2>/dev/null) ||
        return 1
    while IFS=, read -r name driver capability; do
        driver=${driver// /} capability=${capability// /} reason=
        if [[ ! $driver =~ ^[0-9]+ || ! $capability =~ ^[0-9]+\.[0-9]+$ ]]; then
            continue
        elif [ "${driver%%.*}" -lt 580 ]; then
            reason="its driver $driver is too old: CUDA 13 needs 580 or newer"
        elif [[ ! $capability =~ ^(7\.5|8\.[0-9]|9\.0|12\.0)$ ]]; then
            reason="onnxruntime has no kernels for compute capability $capability, only for 7.5, 8.x, 9.0, 12.0"
        else
            return 0
        fi
        say "$name is not used: $reason"
    done <<<"$gpus"
    return 1
}

# Succeeds if CHATTERBOX_VOICES, its line in .env, or --voices is a URL.
has_remote_voices() {
    [[ ${CHATTERBOX_VOICES:-} == *://* || " $*" =~ \ --voices[=\ ][^\ ]*:// ]] ||
        grep -qs '^ *CHATTERBOX_VOICES=.*://' .env
}

# Installs what a command with these flags needs.
setup() {
    make_venv
    install requirements.lock
    if has_usable_gpu; then
        install requirements-cuda.lock
    fi
    if has_remote_voices "$@"; then
        install requirements-store.txt
    fi
}

run_tests() {
    local python marks=(-m "not slow and not soak and not cluster" -n 3 --dist worksteal) # three processes: tests also wait
    cd "$root"
    install requirements-dev.txt
    python=$(venv_python)
    export PYTHONDONTWRITEBYTECODE= # keep compiled tests: compiling them takes ten seconds
    case ${1:-} in
    --soak)
        shift
        marks=(tests/soak -m soak)
        if [[ ${1:-} =~ ^[0-9.]+$ ]]; then
            marks+=("--soak-minutes=$1")
            shift
        fi
        exec "$python" -m pytest "${marks[@]}" "$@"
        ;;
    --all)
        marks=(-m "not soak and not cluster")
        shift
        ;;
    --cluster)
        shift
        install requirements-cluster.txt
        exec "$python" -m pytest tests/cluster -m "cluster and not slow" "$@"
        ;;
    esac
    "$python" -m ruff format --check .
    "$python" -m ruff check .
    "$python" -m mypy
    exec "$python" -m pytest "${marks[@]}" "$@"
}

case ${1:-serve} in
help | -h | --help)
    usage
    ;;
setup)
    setup
    ;;
test)
    shift
    setup
    run_tests "$@"
    ;;
ray) # Ray's own command line, with what replicas and proxies need; `ray serve` is Ray Serve's
    shift
    setup
    install requirements-cluster.txt
    module=ray.scripts.scripts entry=main
    if [ "${1:-}" = serve ]; then
        shift
        module=ray.serve.scripts entry=cli
    fi
    exec "$(venv_python)" -P -c "from chatterbox.config import prepare_ray; prepare_ray()
from $module import $entry; $entry()" "$@"
    ;;
benchmark)
    shift
    setup
    install requirements-bench.txt
    exec "$(venv_python)" "$root/benchmark.py" "$@"
    ;;
serve | say | voices | compile | health | cluster)
    setup "$@"
    if [ "${1:-}" = cluster ]; then
        install requirements-cluster.txt
    fi
    command=${1:-serve}
    if [ $# -gt 0 ]; then
        shift
    fi
    exec "$(venv_python)" -P -m chatterbox "$command" "$@"
    ;;
-*)
    setup "$@"
    exec "$(venv_python)" -P -m chatterbox "$@"
    ;;
*)
    say "there is no command '$1'"
    usage >&2
    exit 2
    ;;
esac
