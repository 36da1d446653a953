"""Measures the times promised in docs/inside/faults.md, on a server with the embedded model.

Its clients come in numbers, leave, crawl, guess and attack.

    python tools/bench_faults.py --json FILE
    python tools/bench_faults.py --only leaving,goodput --rounds 20

Each part has a server of its own, and clients in other processes where they would disturb the
clock. Linux only: what a server's threads do is read from /proc. On a shared machine the figures
are upper bounds.
"""

import argparse
import asyncio
import io
import json
import random
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile as sf

from chatterbox.server.auth import Keyring
from tools.fault_attacked import under_attack
from tools.fault_calls import SENTENCE, TRANSPORTS, Server, ask, post
from tools.fault_crowds import (
    SHORT,
    beside,
    crowd,
    first_sound_s,
    held,
    retry_after,
    sleepers,
    until_full,
)
from tools.fault_machine import naps
from tools.fault_table import HEADER, Row, row_of, told_apart

PLACES, QUEUE = 4, 8
WHOLE = {"text": SENTENCE * 3, "stream": False, "response_format": "pcm", "seed": 1}
IMPATIENT_S = 0.05
WAITING_S = 0.25
"""Of the two who keep the queue full: they are not to be what a refusal waits for."""
STOPPED_S = 0.25
"""The bound of F20."""
SLEEPERS = 4
"""So few that all are as far behind as they may be before the first of them is cut off."""
KEYS = "0123456789abcdef0123456789abcdef"
LOOKED_UP = 300_000
GUESSES = 18
"""Of one address in a minute; 20 are the limit."""


# --- Parts


async def refusals(rounds: int) -> Iterator[Row]:
    """F01, F03, and the probes, while every place is taken and the queue is full."""
    call = post("/tts", SHORT, "Connection: close")
    refused, hints, probes = [], [], []
    with Server(max_concurrent_requests=PLACES, max_queued_requests=QUEUE) as server:
        with beside(crowd, server.port, PLACES + QUEUE + 2, WAITING_S):
            await until_full(server, QUEUE)
            for number in range(20 * rounds):
                await asyncio.sleep(random.uniform(0.005, 0.03))
                began = time.monotonic()
                if number % 4:
                    head = _first_bytes(server.port, call)
                    if b" 429 " in head:
                        refused.append((time.monotonic() - began) * 1e3)
                        hints.append(float(retry_after(head) or 0))
                else:
                    ask(server.port, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    probes.append((time.monotonic() - began) * 1e3)
        rows = [
            row_of("F01", "a refusal, from connecting to its status", "ms", refused, 20),
            row_of("F01", "its Retry-After", "s", hints, 30),
            row_of("F49", "a probe at full load", "ms", probes, 50),
        ]
    rows.append(await _storm())
    return iter(rows)


def _first_bytes(port: int, call: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.sendall(call)
        return sock.recv(4096)


async def _storm() -> Row:
    """200 clients that ask again at once."""
    shares = []
    with Server(max_concurrent_requests=PLACES, max_queued_requests=QUEUE) as server:
        with beside(crowd, server.port, 200, 0.0):
            await until_full(server, QUEUE)
            for _ in range(10):
                worked_s, began = server.worked_s(main_thread=True), time.monotonic()
                await asyncio.sleep(0.5)
                spent_s = time.monotonic() - began
                shares.append((server.worked_s(main_thread=True) - worked_s) / spent_s)
        total = server.metrics()["requests"]["by_outcome"].get("overloaded", 0)
    what = f"cores for refusing 200 impatient clients ({total} times)"
    return row_of("F03", what, "cores", shares, 1)


async def leaving(rounds: int) -> Iterator[Row]:
    """F20, on every transport: from leaving to the last work."""
    rows = []
    with Server() as server:
        for transport in TRANSPORTS:
            times = []
            for number in range(rounds):
                before = server.metrics()["requests"]["by_outcome"].get("cancelled", 0)
                leave = await transport.speak(server)
                leave(number % 2 == 0)
                times.append(1e3 * await server.rests_after_s())
                metrics = server.metrics()
                assert metrics["active"] == 0, transport.name
                assert metrics["requests"]["by_outcome"]["cancelled"] > before, transport.name
            rows.append(row_of("F20", f"until the work stops: {transport.name}", "ms", times, 250))
        late = "the meter of this itself came late by"
        rows.append(row_of("F20", late, "ms", server.meter_late_ms))
    return iter(rows)


async def goodput(rounds: int) -> Iterator[Row]:
    """F02: as many clients as places, ten times as many who do as Retry-After says, in turn."""
    ratios, waits, hints = [], [], []
    with Server(max_concurrent_requests=PLACES, max_queued_requests=4 * PLACES) as server:
        await _finished(server, PLACES, 3, [], [])
        for _ in range(max(2, rounds // 4)):
            once = await _finished(server, PLACES, 12, [], [])
            ratios.append(100 * await _finished(server, 10 * PLACES, 12, waits, hints) / once)
    share = "goodput at 10 × in % of that at 1 ×"
    return iter(
        (
            row_of("F02", share, "%", ratios, 90, of="p50", least=True),
            row_of("F02", "who is let in has all of it within", "s", waits, 60),
            row_of("F01", "who is sent away then is told to wait", "s", hints, 30),
        )
    )


async def _finished(
    server: Server, clients: int, seconds: float, waits: list[float], hints: list[float]
) -> float:
    """Requests finished in a second. `waits`: of those let in; `hints`: of those sent away."""
    begin = time.monotonic()
    done = 0

    async def client() -> None:
        nonlocal done
        while True:
            status, hint_s, whole_s = await held(server.port, WHOLE)
            if status == 200:
                done += 1
                waits.append(whole_s)
            else:
                hints.append(hint_s)
                await asyncio.sleep(hint_s)

    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    await asyncio.sleep(seconds)
    rate = done / (time.monotonic() - begin)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    while server.metrics()["active"]:
        await asyncio.sleep(0.05)
    return rate


async def departures(rounds: int) -> Iterator[Row]:
    """F21: the first sound after 200 clients were killed at once, and on an idle server behind the
    same pause; for who asks in that very moment, and for who asks when their work must have stopped
    (F20)."""
    idle, at_once, after = [], [], []
    with Server(max_queued_requests=300) as server:
        await first_sound_s(server, 5)
        for number in range(2 * rounds):
            await asyncio.sleep(STOPPED_S)
            idle += await first_sound_s(server, 1)
            with beside(crowd, server.port, 200, 1.0):
                await until_full(server, 150)
            if number % 2:
                await asyncio.sleep(STOPPED_S)
            (after if number % 2 else at_once).extend(await first_sound_s(server, 1))
    above = 100 * (statistics.median(after) / statistics.median(idle) - 1)
    return iter(
        (
            row_of("F21", "first sound, idle", "ms", _ms(idle)),
            row_of("F21", "asked for while 200 are being killed", "ms", _ms(at_once)),
            row_of("F21", "asked for 0.25 s later", "ms", _ms(after)),
            row_of("F21", "that above idle, by the median", "%", [above], 10),
        )
    )


def _ms(seconds: Sequence[float]) -> list[float]:
    return [1e3 * value for value in seconds]


async def neighbours(rounds: int) -> Iterator[Row]:
    """F25: speech beside some who do not read theirs; F05b: a key beside one that floods."""
    alone, beside_them = [], []
    with Server() as server:
        for _ in range(2):
            alone += [await _whole_s(server) for _ in range(rounds)]
            with beside(sleepers, server.port, SLEEPERS):
                while server.metrics()["active"] < SLEEPERS:
                    await asyncio.sleep(0.05)
                await server.rests_after_s()  # all are as far behind as they may be
                beside_them += [await _whole_s(server) for _ in range(rounds)]
            await server.rests_after_s()
    slower = 100 * (statistics.median(beside_them) / statistics.median(alone) - 1)
    mine, theirs = ("Authorization: Bearer " + key for key in ("my-key-0123", "their-key-0123"))
    with Server(api_keys="my-key-0123,their-key-0123") as server:
        idle = await first_sound_s(server, 3 * rounds, mine)
        with beside(crowd, server.port, 40, IMPATIENT_S, (theirs,)):
            await asyncio.sleep(3)
            flooded = await first_sound_s(server, 3 * rounds, mine)
    times = statistics.median(flooded) / statistics.median(idle)
    return iter(
        (
            row_of("F25", "a request alone", "ms", _ms(alone)),
            row_of("F25", f"beside {SLEEPERS} who do not read", "ms", _ms(beside_them)),
            row_of("F25", "the one above the other, by the median", "%", [slower], 10),
            row_of("F05b", "first sound for a key alone", "ms", _ms(idle)),
            row_of("F05b", "beside a key that floods", "ms", _ms(flooded)),
            row_of("F05b", "the one over the other, by the median", "times", [times], 2),
        )
    )


async def _whole_s(server: Server) -> float:
    status, _, whole_s = await held(server.port, WHOLE)
    assert status == 200, status
    return whole_s


async def hostile(rounds: int) -> Iterator[Row]:
    """F09, F57 and F61: what is refused, or passed over, at once."""
    head = "POST /tts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

    def raw(body: bytes) -> bytes:
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    ranges = b",".join(b"%d-%d" % (n, n) for n in range(5000))
    calls = {
        ("F09", "JSON, 20 000 deep", 50): raw(b'{"text":' + b"[" * 20_000),
        ("F09", "a number of 5000 digits", 50): raw(b'{"text":"a","seed":' + b"9" * 5000 + b"}"),
        ("F57", "5000 ranges", 50): b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n"
        b"Range: bytes=" + ranges + b"\r\n\r\n",
        ("F61", "half an hour in a small FLAC", 1000): _upload(_bomb()),
    }
    rows = []
    with Server() as server:
        for (row, what, bound), call in calls.items():
            times = []
            for _ in range(2 * rounds):
                began = time.monotonic()
                answer = ask(server.port, call)
                assert answer.split()[1] in (b"200", b"400", b"422", b"431"), answer[:200]
                times.append(1e3 * (time.monotonic() - began))
            rows.append(row_of(row, what, "ms", times, bound))
    return iter(rows)


def _bomb() -> bytes:
    """Half an hour of silence in 131 KiB."""
    file = io.BytesIO()
    sf.write(file, np.zeros(1800 * 24_000, np.int16), 24_000, format="FLAC")
    return file.getvalue()


def _upload(data: bytes) -> bytes:
    field = b'--x\r\nContent-Disposition: form-data; name="voice_file"; filename="a"\r\n\r\n'
    body = field + data + b"\r\n--x--\r\n"
    head = "POST /voices/register HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data;"
    return f"{head} boundary=x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def keys(rounds: int) -> Iterator[Row]:
    """F71: how long a guess is looked at, right in all but its last letter and wrong in its first,
    in random order: 10⁵ of each in this process, and some over HTTP, each address with a few."""
    near, far = (KEYS[:-1] + "X"), ("X" + KEYS[1:])
    ring, names = Keyring([KEYS]), {"near": near, "far": far, "right": KEYS}
    inside: dict[str, list[float]] = {name: [] for name in names}
    # All made beforehand and mixed: where a guess lies in memory shows in its time, and its kind
    # must not decide where.
    kinds = random.choices(list(names), k=LOOKED_UP)
    looked_up = [(name, names[name].encode()) for name in kinds]
    random.shuffle(looked_up)
    for name, guess in looked_up:
        began = time.perf_counter_ns()
        ring.find(guess)
        took_ns = time.perf_counter_ns() - began  # not in the next line: `inside[name]` comes first
        inside[name].append(took_ns / 1e3)
    rows = [
        row_of("F71", f"a key looked up, {name}", "µs", values) for name, values in inside.items()
    ]
    rows.append(told_apart("looked up: near", inside["near"], "far", inside["far"]))
    outside: dict[str, list[float]] = {"near": [], "far": []}
    with Server(api_keys=KEYS) as server:
        for number in range(10 * rounds):
            source = f"127.{1 + number // 250 % 250}.{number % 250}.1"
            guesses = [("near", near), ("far", far)] * (GUESSES // 2)
            random.shuffle(guesses)
            for name, guess in guesses:
                call = b"GET /voices HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
                began = time.monotonic()
                answer = ask(server.port, call + guess.encode() + b"\r\n\r\n", source=source)
                took_s = time.monotonic() - began
                outside[name].append(1e3 * took_s)
                assert b" 401 " in answer, answer
    rows += [row_of("F71", f"over HTTP, {name}", "ms", values) for name, values in outside.items()]
    rows.append(told_apart("over HTTP: near", outside["near"], "far", outside["far"]))
    return iter(rows)


async def attacks(rounds: int) -> Iterator[Row]:
    """F96 to F105."""
    return await under_attack(max(2.0, rounds / 2))


async def machine(rounds: int) -> Iterator[Row]:
    """What of all this is the machine's: how late a thread wakes that only sleeps."""
    found = naps(3 * rounds)
    return iter(
        (
            row_of("-", "no server: a sleep of 5 ms lasts longer by", "ms", found.late_ms),
            row_of("-", "of the cores, taken by the host", "%", [found.stolen_percent]),
        )
    )


PARTS = {
    part.__name__: part
    for part in (
        machine,
        refusals,
        leaving,
        goodput,
        departures,
        neighbours,
        hostile,
        keys,
        attacks,
    )
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--rounds", type=int, default=10, help="how often; more is more precise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the table, for programs")
    flags = parser.parse_args()
    rows: list[Row] = []
    print(HEADER, flush=True)
    for name in flags.only.split(","):
        for row in asyncio.run(PARTS[name](flags.rounds)):
            print(row, flush=True)
            rows.append(row)
    if flags.json:
        found = [{**asdict(row), "kept": row.kept} for row in rows]
        flags.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if all(row.kept is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
