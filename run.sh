#!/usr/bin/env bash
# Sets up .venv and runs the server, its commands or its tests.
# Needs Python 3.11 or newer and nothing else: no root, no compiler. See ./run.sh help.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$root/.venv
newest_first="python3.13 python3.12 python3.11 python3 python"

# glibc: two arenas for all threads, not eight for each core; and large blocks (a FLAC encoder is
# one of 7 MiB) go back to the system when they are free, instead of leaving holes.
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
./run.sh compile [FLAGS]       compile the model now, so that the first start need not
./run.sh health [FLAGS]        ask whether a server is alive (exit code 0 or 1)
./run.sh benchmark [FLAGS]     measure a running server
./run.sh test [--all] [ARGS]   formatter, linter, type checker, tests; --all: the slow ones too
./run.sh test --soak [MINUTES] use it for two hours, or so many minutes, and show what has grown
./run.sh test --cluster [ARGS] the tests of several replicas (installs Ray)
./run.sh setup                 only set up the server

Examples:
  ./run.sh                                        then open http://127.0.0.1:8000 in a browser
  ./run.sh --port 9000 --model mini               elsewhere, with the demo model
  ./run.sh say "Hello there." --voice me.wav --out hello.wav

`serve --help`, `say --help` and so on list the flags, `--help-all` all of them. Flags go anywhere.
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

# Installs a requirements file unless exactly this one was installed before: a second start neither
# needs the network nor waits for pip. A lock file names every package with its hashes, and nothing of
# it is built here.
install() {
    local file=$root/$1 stamp=$venv/.installed-$1 log=$venv/install.log sum
    local -a how=()
    sum=$(cksum <"$file")
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ]; then
        return
    fi
    say "installing $1: $(size_of "$1"). pip's words: $log"
    rm -f "$stamp"
    case $1 in *.lock) how=(--no-deps --require-hashes --only-binary :all:) ;; esac
    # uv is quicker, but reads other settings than pip: of an index of one's own it may not know.
    SECONDS=0
    if ! {
        { command -v uv && uv pip install --python "$(venv_python)" ${how[@]+"${how[@]}"} -r "$file"; } ||
            "$(venv_python)" -m pip install ${how[@]+"${how[@]}"} -r "$file"
    } >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        die "could not install $1; run ./run.sh again to go on (pip's reason is above)"
    fi
    say "installed in $SECONDS s"
    printf '%s\n' "$sum" >"$stamp"
}

# What an installation takes; measured on Linux.
size_of() {
    case $1 in
    requirements.lock) printf '360 MB to download, 0.8 GB on disk, once; two to five minutes' ;;
    requirements-cuda.lock) printf '1.3 GB, once; five minutes or more' ;;
    requirements-cluster.txt) printf 'Ray, 0.5 GB on disk, once; about a minute' ;;
    *) printf 'once; about a minute' ;;
    esac
}

# Whether there is an NVIDIA GPU that the locked CUDA libraries (1.3 GB) run on; of one that is too
# old for them, or too new for onnxruntime, says so.
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

# Whether CHATTERBOX_VOICES, its line in .env or --voices is an address.
has_remote_voices() {
    [[ ${CHATTERBOX_VOICES:-} == *://* || " $*" =~ \ --voices[=\ ][^\ ]*:// ]] ||
        grep -qs '^ *CHATTERBOX_VOICES=.*://' .env
}

# For a command with these flags.
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
    local python marks=(-m "not slow and not soak and not cluster" -n 2 --dist worksteal) # in two processes
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
