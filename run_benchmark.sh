#!/usr/bin/env bash
# Register a voice and benchmark: ./run_benchmark.sh VOICE.wav [flags of benchmark.py]
# If no server answers at --url, starts one for the duration of the benchmark.
# benchmark.py does the measuring.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
log="$root/benchmark_results/server.log"

if [ $# -lt 1 ] || [ "${1#-}" != "$1" ]; then
    echo "usage: ./run_benchmark.sh VOICE.wav [flags; see: python benchmark.py --help]" >&2
    exit 2
fi
voice="$1"
shift
if [ ! -r "$voice" ]; then
    echo "run_benchmark.sh: cannot read the voice file $voice" >&2
    exit 2
fi

url="http://localhost:8000"
previous=""
for flag in "$@"; do
    case "$flag" in --url=*) url="${flag#--url=}" ;; esac
    [ "$previous" != "--url" ] || url="$flag"
    previous="$flag"
done

"$root/run.sh" setup >&2
python="$root/.venv/bin/python"
[ -x "$python" ] || python="$root/.venv/Scripts/python.exe"

# Prints the server's state: ready, loading, refused PORT (no server on this machine yet), or
# remote (no answer from another machine, where this script cannot start a server).
state() {
    "$python" - "$url" <<'PY'
import json, sys, urllib.error, urllib.parse, urllib.request
url = sys.argv[1].rstrip("/")
try:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url + "/health", timeout=5) as reply:
        health = json.load(reply)
    print("ready" if health.get("ready", True) else "loading")
except urllib.error.HTTPError as refusal:
    print("loading" if refusal.code == 503 else "ready")
except (OSError, ValueError):
    parts = urllib.parse.urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    print(f"refused {parts.port or 80}" if local else "remote")
PY
}

server=""
stop_server() {
    [ -n "$server" ] || return 0
    kill -TERM -- "-$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=""
}
trap stop_server EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

now="$(state)"
if [ "${now%% *}" = "refused" ]; then
    mkdir -p "$(dirname "$log")"
    echo "Starting a server at $url (log: $log)" >&2
    set -m # a process group of its own, so that all of it can be stopped
    CHATTERBOX_PORT="${now#refused }" "$root/run.sh" serve >"$log" 2>&1 </dev/null &
    server=$!
    set +m
fi
while [ "${now%% *}" = "loading" ] || { [ -n "$server" ] && [ "$now" != "ready" ]; }; do
    if [ -n "$server" ] && ! kill -0 "$server" 2>/dev/null; then
        echo "run_benchmark.sh: the server did not start; the end of its log:" >&2
        tail -n 5 "$log" >&2
        exit 1
    fi
    sleep 0.5
    now="$(state)"
done

"$root/run.sh" benchmark --register-voice "$voice" "$@"
