"""Simulates hostile clients: each attack once, as bytes on its own connections.

Signals and model files are not among them: no client sends those (rows F31 to F34 and F110).

For `bench_faults.py` and the soak, in a process beside the one that measures.
"""

import asyncio
import functools
import io
import json
import random
import struct
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import soundfile as sf
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

MIB = 2**20
HELD_BACK_BYTES = 40
HOLD_S = 2.0
PATIENCE_S = 60.0


@dataclass
class Target:
    """A server, the attackers' own key, and how it answered."""

    port: int
    key: str = ""
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    statuses: Counter[int] = field(default_factory=Counter)

    def head(self, start: str, *lines: str) -> bytes:
        """The head of a request."""
        key = (f"Authorization: Bearer {self.key}",) if self.key else ()
        return "\r\n".join((f"{start} HTTP/1.1", "Host: localhost", *key, *lines, "", "")).encode()

    def post(self, path: str, kind: str, body: bytes) -> bytes:
        """A whole POST."""
        lines = (f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close")
        return self.head(f"POST {path}", *lines) + body

    async def send(
        self, data: bytes, *, hold_back: int = 0, hold: Awaitable[object] | None = None
    ) -> None:
        """Send it on a connection of its own and read a little of the answer. Where bytes are held
        back, they follow once `hold` is done; without one the connection is cut."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return
        try:
            end = len(data) - hold_back
            for at in range(0, end, 65_536):
                writer.write(data[at : min(at + 65_536, end)])
                await asyncio.wait_for(writer.drain(), HOLD_S)
            if hold_back and hold is None:
                await asyncio.sleep(HOLD_S)
                return
            if hold is not None:
                await hold
            writer.write(data[end:])
            line = await asyncio.wait_for(reader.readline(), PATIENCE_S)
            if line.startswith(b"HTTP/1.1 "):
                self.statuses[int(line.split()[1])] += 1
            await asyncio.wait_for(reader.read(4096), HOLD_S)
        except (OSError, TimeoutError):
            pass
        finally:
            writer.transport.abort()

    async def all(self, calls: Iterable[bytes], **more: int) -> None:
        """All at once."""
        await asyncio.gather(*(self.send(call, **more) for call in calls))


Attack = Callable[[Target], Awaitable[None]]
FORM = "multipart/form-data; boundary=B"


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    """One part of a form."""
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--B\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + b"--B--\r\n"


async def punycode(target: Target) -> None:
    """Text in a charset that takes Python seconds; the last bytes of twelve forms come together."""
    text = ("\U00010000" + "x" * 20_000).encode("punycode") + b"a" * 104_000
    call = target.post("/tts", f"{FORM}; charset=punycode", form(part("text-", text)))
    gate = asyncio.get_running_loop().create_future()
    sending = [
        asyncio.create_task(target.send(call, hold_back=HELD_BACK_BYTES, hold=asyncio.shield(gate)))
        for _ in range(12)
    ]
    await asyncio.sleep(0.5)
    gate.set_result(None)
    await asyncio.gather(*sending)


async def files_held_back(target: Target) -> None:
    """Eight forms of 32 files that each fit into memory once."""
    body = form(*[part("voice_file", bytes(1_046_576), "a")] * 32)
    call = target.post("/voices/register", FORM, body)
    await target.all([call] * 8, hold_back=HELD_BACK_BYTES)


async def disk_held_back(target: Target) -> None:
    """Large files that do not end."""
    call = target.post("/voices/register", FORM, form(part("voice_file", bytes(24 * MIB), "a")))
    await target.all([call] * 6, hold_back=HELD_BACK_BYTES)


async def consents(target: Target) -> None:
    """Recordings that only their digest is kept of."""
    body = form(part("recording", bytes(12 * MIB), "a"), part("name", b"n"))
    await target.all([target.post("/v1/audio/voice_consents", FORM, body)] * 8)


async def imports(target: Target) -> None:
    """Files whose header names very many tensors."""
    entry = '"%06d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = ("{" + ",".join(entry % number for number in range(100_000)) + "}").encode()
    data = struct.pack("<Q", len(header)) + header
    call = target.post("/voices/import", FORM, form(part("voice_file", data, "a")))
    await target.all([call] * 2)


async def forgeries(target: Target) -> None:
    """A voice of the server's own, exported, with other numbers in its place and cut short."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    try:
        writer.write(target.head("GET /voices/slt/export", "Connection: close"))
        answer = await asyncio.wait_for(reader.read(-1), PATIENCE_S)
    except (OSError, TimeoutError):
        return
    finally:
        writer.transport.abort()
    voice = answer.partition(b"\r\n\r\n")[2]
    half = len(voice) // 2
    noise = target.rng.randbytes(half)
    forged = (voice[:half] + noise, voice[:half] + b"\xff" * half, voice[:half], voice + noise)
    calls = [form(part("voice_file", data, "a")) for data in forged]
    await target.all([target.post("/voices/import", FORM, call) for call in calls])


def deflated(mib: int) -> bytes:
    """So many MiB of blanks as one compressed, masked text frame of a socket."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(b" " * (mib * MIB)) + packer.flush(zlib.Z_SYNC_FLUSH)
    payload = packed.removesuffix(b"\0\0\xff\xff")
    return b"\xc1\xff" + struct.pack(">Q", len(payload)) + bytes(4) + payload


async def inflations(target: Target) -> None:
    """Messages of 60 MiB in 60 KiB."""
    frame = deflated(60)
    lines = ("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    lines += ("Sec-WebSocket-Extensions: permessage-deflate",)
    lines += ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",)
    paths = ("/ws", "/ws/tts", "/api/tts_streaming", "/v1/text-to-speech/slt/stream-input")
    await target.all([target.head(f"GET {path}", *lines) + frame for path in paths])


async def pings(target: Target) -> None:
    """16 MiB of pings, whose answers nobody reads."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=1)
    lines = ("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    writer.write(target.head("GET /ws", *lines, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="))
    await reader.read(1)
    frames = (b"\x89\xfd\0\0\0\0" + bytes(125)) * 500
    try:
        for _ in range(16 * MIB // len(frames)):
            writer.write(frames)
            await asyncio.wait_for(writer.drain(), HOLD_S)
    except (OSError, TimeoutError):
        pass
    writer.transport.abort()


async def texts(target: Target) -> None:
    """What patterns begin anew at every character of."""
    bodies = ("Hello" + " –" * 2400 + "x", "Hello" + "–" * 274 + "world", "((" * 2400, "1-" * 2400)
    calls = [
        target.post("/tts", "application/json", json.dumps({"text": text}).encode())
        for text in bodies * 3
    ]
    await target.all(calls)


@functools.cache
def bomb() -> bytes:
    """299 s of silence at 192 kHz on 8 channels, in 463 KiB."""
    file = io.BytesIO()
    with sf.SoundFile(file, "w", 192_000, 8, "PCM_16", format="FLAC") as sound:
        for _ in range(299):
            sound.write(np.zeros((192_000, 8), np.int16))
    return file.getvalue()


async def bombs(target: Target) -> None:
    """Uploads that would decode for long."""
    call = target.post("/voices/register", FORM, form(part("voice_file", bomb(), "a")))
    await target.all([call] * 6)


async def foreign_pages(target: Target) -> None:
    """What an `<audio>` on somebody's site asks for."""
    lines = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: audio", "Connection: close")
    paths = ("/tts_stream?text=hello+there&speaker_wav=slt&language=en", "/tts-stream?text=hello")
    await target.all([target.head(f"GET {path}", *lines) for path in paths * 20])


async def guesses(target: Target) -> None:
    """Wrong keys under addresses that a proxy is said to have seen."""
    await target.all(
        f"GET /voices HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 198.51.100.{number}\r\n"
        f"Authorization: Bearer guess-{target.rng.random()}\r\nConnection: close\r\n\r\n".encode()
        for number in range(60)
    )


async def bodies(target: Target) -> None:
    """JSON that is deep, wide or long, and forms of nothing but separators."""
    sent = (
        b'{"text":' + b"[" * 100_000,
        b'{"text": [' + b"[]," * 38_000 + b"1]}",
        b"{" + b",".join(b'"%d":1' % number for number in range(11_000)) + b"}",
        b'{"seed":' + b"9" * 100_000 + b"}",
        b'{"' + "☃".encode() * 39_000 + b'":1}',
    )
    calls = [target.post("/tts", "application/json", body) for body in sent]
    near = form(part("text", b"\r\n--" * 30_000))
    await target.all([*calls, target.post("/tts", FORM, near)] * 3)


async def heads(target: Target) -> None:
    """Requests that could be read in two ways, and many in one piece."""
    length = "Content-Length: 5, 5"
    await target.all(
        (
            target.head("POST /tts", length) + b"hello",
            target.head("POST /tts", "X: a", " b", "Content-Length: 0"),
            target.head("POST /tts", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n",
            target.head("GET /voices") * 500,
            target.head("GET /health", "X: " + "a" * 60_000),
        )
    )


async def lists(target: Target) -> None:
    """All voices, again and again."""
    paths = ("/voices", "/v1/voices", "/v2/voices", "/studio_speakers", "/v1/audio/voices")
    await target.all(target.head(f"GET {path}", "Connection: close") for path in paths * 8)


async def voices(target: Target) -> None:
    """One voice registered, deleted, exported and spoken with at once, under strange names."""
    file = io.BytesIO()
    sound = 0.3 * np.sin(np.arange(36_000) * 0.03) * np.random.default_rng(1).uniform(0, 1, 36_000)
    sf.write(file, sound, 24_000, format="WAV", subtype="PCM_16")
    strange = target.rng.choice(("slt\u200b", "\u202edefault", "null", "../x", "a" * 300, "ok"))
    body = form(part("voice_file", file.getvalue(), "a"), part("name", strange.encode()))
    register = target.post("/voices/register", FORM, body)
    calls = [register, register, target.head("DELETE /voices/ok", "Connection: close")]
    calls.append(target.head("GET /voices/ok/export", "Connection: close"))
    speech = json.dumps({"text": "Hello.", "voice_id": "ok"}).encode()
    await target.all([*calls, target.post("/tts", "application/json", speech)] * 2)


async def departures(target: Target) -> None:
    """Speech that is left in the middle, and slow or unread requests."""
    speech = json.dumps({"text": "This goes on for a while. " * 20}).encode()
    call = target.post("/tts", "application/json", speech)

    async def leave(after_s: float) -> None:
        try:
            async with asyncio.timeout(after_s):
                await target.send(call)
        except TimeoutError:
            pass

    await asyncio.gather(*(leave(target.rng.random()) for _ in range(8)))
    await target.all([call] * 4, hold_back=HELD_BACK_BYTES)


async def sockets(target: Target) -> None:
    """Messages of the wrong types on every protocol."""
    values = (None, 1e308, -1, "x" * 9000, [], {}, True, [[[]]], "\0", "\ud83d")
    keys = ("type", "text", "voice", "context_id", "seed", "flush", "close_socket", "speed")
    paths = ("/ws", "/ws/tts", "/v1/audio/speech/stream", "/api/tts_streaming")
    paths += ("/v1/text-to-speech/slt/stream-input", "/v1/text-to-speech/slt/multi-stream-input")

    async def confuse(path: str) -> None:
        key = {"Authorization": f"Bearer {target.key}"} if target.key else {}
        address = f"ws://127.0.0.1:{target.port}{path}"
        try:
            async with asyncio.timeout(5), connect(address, additional_headers=key) as socket:
                for _ in range(20):
                    message = {k: target.rng.choice(values) for k in target.rng.sample(keys, 3)}
                    await socket.send(json.dumps(message))
        except (OSError, TimeoutError, WebSocketException):
            pass

    await asyncio.gather(*(confuse(path) for path in paths * 2))


ATTACKS: dict[str, tuple[str, Attack]] = {
    "forms in punycode": ("F96", punycode),
    "JSON and forms": ("F96", bodies),
    "8 × 32 files held back": ("F97", files_held_back),
    "uploads that decode for long": ("F98", bombs),
    "144 MiB of files held back": ("F99", disk_held_back),
    "consents of 12 MiB": ("F100", consents),
    "foreign pages": ("F101", foreign_pages),
    "wrong keys": ("F103", guesses),
    "heads": ("F104", heads),
    "imports of 100 000 tensors": ("F105", imports),
    "forged imports": ("F105", forgeries),
    "messages that inflate": ("F105", inflations),
    "pings": ("F105", pings),
    "texts": ("F105", texts),
    "lists": ("F105", lists),
    "voices": ("F105", voices),
    "departures": ("F105", departures),
    "sockets": ("F105", sockets),
}
"""By name, with the row of docs/inside/faults.md that it is of."""


def attack(port: int, name: str, begun: Event) -> None:
    """In a process of its own: one of them, again and again."""
    if name == "uploads that decode for long":
        bomb()  # so that it is not made meanwhile

    async def work() -> None:
        target = Target(port)
        begun.set()
        while True:
            await ATTACKS[name][1](target)

    asyncio.run(work())


def mix(port: int, key: str, seed: int, seen: str) -> None:
    """In a process of its own: all of them, in random order, for ever. Each round's answers by
    status are a line in the file `seen`."""
    bomb()

    async def work() -> None:
        target = Target(port, key, random.Random(seed))
        while True:
            for name in target.rng.sample(list(ATTACKS), len(ATTACKS)):
                await ATTACKS[name][1](target)
                with Path(seen).open("a", encoding="utf-8") as file:
                    print(json.dumps([name, target.statuses]), file=file)
                target.statuses.clear()

    asyncio.run(work())
