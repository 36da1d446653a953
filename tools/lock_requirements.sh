#!/usr/bin/env bash
# Makes requirements.lock and requirements-cuda.lock: exact versions with hashes of all packages that
# requirements.txt and requirements-cuda.txt need, for every system. Needs uv (pip install uv).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lock() {
    # docopt comes as source only, and only num2words' command line imports it: nothing that is
    # installed here runs a build.
    uv pip compile "$@" --universal --python-version 3.11 --generate-hashes --no-emit-package docopt \
        --no-emit-index-url --no-annotate --quiet --custom-compile-command tools/lock_requirements.sh
}

lock requirements.txt --output-file requirements.lock
lock requirements-cuda.txt --output-file requirements-cuda.lock
