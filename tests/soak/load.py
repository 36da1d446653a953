"""A server with the embedded model, and the people who use it all at once for a long time."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
from voices.clips import babble, encoded
from websockets.asyncio.client import connect

ROOT = Path(__file__).resolve().parents[2]
SHORT = "Hello there."
LONG = " ".join(f"This is sentence number {n}, and it goes on for a while." for n in range(6))
VOICES = ("slt", "rms", "awb")
PROBES_PER_S = 20
SAMPLE_S = 0.5


@dataclass
class Seen:
    """What was measured."""

    began: float = field(default_factory=time.monotonic)
    statuses: Counter[int] = field(default_factory=Counter)
    first_audio: list[tuple[float, float]] = field(default_factory=list)  # (when, seconds)
    samples: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    probes: int = 0
    voices: int = 0
    left: int = 0
    sockets: int = 0

    def now(self) -> float:
        return time.monotonic() - self.began

    def sample(self, name: str, value: float) -> None:
        self.samples.setdefault(name, []).append((self.now(), value))


class Server:
    """`python -m chatterbox serve --model mini`."""

    def __init__(self, directory: Path, **settings: object) -> None:
        flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        self.log = (directory / "log").open("w+")
        command = [sys.executable, "-m", "chatterbox", "serve", "--model", "mini", "--port", "0"]
        self.popen = subprocess.Popen(
            [*command, "--data-dir", str(directory), *flags],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        line = self.popen.stdout.readline()
        self.url = line.partition("loading at ")[2].split()[0]
        self.process = psutil.Process(self.popen.pid)

    async def ready(self, client: httpx.AsyncClient) -> None:
        while (await client.get("/health/ready")).status_code != 200:
            await asyncio.sleep(0.1)

    def stop(self) -> int:
        self.popen.terminate()
        code = self.popen.wait(60)
        self.popen.stdout.close()
        self.log.close()
        return code


@contextlib.asynccontextmanager
async def serving(directory: Path, **settings: object) -> AsyncIterator[tuple[Server, Seen]]:
    server = Server(directory, **settings)
    try:
        async with httpx.AsyncClient(base_url=server.url) as client:
            await server.ready(client)
        yield server, Seen()
    finally:
        code = server.stop()
    assert code == 143, code


class Users:
    """Several people; each does one thing after another, chosen by chance."""

    def __init__(self, server: Server, seen: Seen, seed: int) -> None:
        self.server, self.seen = server, seen
        self.rng = random.Random(seed)

    async def run(self, people: int, seconds: float) -> None:
        limits = httpx.Limits(max_connections=people + 4)
        async with httpx.AsyncClient(
            base_url=self.server.url, timeout=150, limits=limits
        ) as client:
            until = time.monotonic() + seconds
            work = [self._person(client, until, number) for number in range(people)]
            await asyncio.gather(*work, self._watch(client, until), self._probe(client, until))

    async def _person(self, client: httpx.AsyncClient, until: float, number: int) -> None:
        await asyncio.sleep(self.rng.random())
        while time.monotonic() < until:
            acts = (self._speak, self._leave, self._voice, self._talk)
            act = self.rng.choices(acts, (12, 3, 1, 2))[0]
            with contextlib.suppress(httpx.RemoteProtocolError):
                await act(client)

    def _body(self) -> dict:
        return {
            "text": self.rng.choice((SHORT, SHORT, LONG)),
            "voice_id": self.rng.choice(VOICES),
            "stream": self.rng.random() < 0.7,
            "seed": self.rng.randrange(1000),
            "response_format": self.rng.choice(("wav", "mp3", "pcm", "opus", "flac")),
        }

    async def _speak(self, client: httpx.AsyncClient) -> None:
        body = self._body()
        began = time.monotonic()
        async with client.stream("POST", "/tts", json=body) as answer:
            self.seen.statuses[answer.status_code] += 1
            first = True
            async for _ in answer.aiter_raw():
                if first and answer.status_code == 200 and body["stream"]:
                    self.seen.first_audio.append((self.seen.now(), time.monotonic() - began))
                first = False
            if answer.status_code == 429:
                await asyncio.sleep(float(answer.headers["retry-after"]))

    async def _leave(self, client: httpx.AsyncClient) -> None:
        self.seen.left += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.rng.random() / 2):
                async with client.stream("POST", "/tts", json=self._body()) as answer:
                    async for _ in answer.aiter_raw():
                        if self.rng.random() < 0.3:
                            return

    async def _voice(self, client: httpx.AsyncClient) -> None:
        """Somebody registers a voice, speaks once with it and deletes it."""
        seed = self.rng.randrange(2**31)
        clip = babble(3, rate_hz=16_000, seed=seed % 7)
        clip[100] = np.float32(seed / 2**32)  # a new voice every time
        files = {"voice_file": ("me.wav", encoded(clip, rate_hz=16_000))}
        answer = await client.post("/voices/register", files=files)
        self.seen.statuses[answer.status_code] += 1
        if answer.status_code == 201:
            self.seen.voices += 1
            voice = answer.json()["voice_id"]
            await client.post("/tts", json={"text": SHORT, "voice_id": voice})
            await client.delete(f"/voices/{voice}")

    async def _talk(self, _client: httpx.AsyncClient) -> None:
        """Somebody on a socket, who may hang up in the middle."""
        address = self.server.url.replace("http", "ws", 1) + "/v1/audio/speech/stream"
        form = self.rng.choice(("pcm", "opus", "flac"))
        patience = self.rng.choice((3, 10_000))
        async with connect(address, max_size=None) as socket:
            await socket.send(json.dumps({"type": "session.config", "response_format": form}))
            await socket.send(json.dumps({"type": "input.text", "text": LONG}))
            await socket.send(json.dumps({"type": "input.done"}))
            for _ in range(patience):
                message = await socket.recv()
                if isinstance(message, str) and json.loads(message)["type"] == "session.done":
                    break
                assert not (isinstance(message, str) and "overloaded" in message), message
            self.seen.sockets += 1

    async def _watch(self, client: httpx.AsyncClient, until: float) -> None:
        process = self.server.process
        while time.monotonic() < until:
            self.seen.sample("RSS", process.memory_info().rss / 2**20)
            self.seen.sample("threads", process.num_threads())
            text = (await client.get("/metrics", headers={"accept": "text/plain"})).text
            figures = dict(x.rsplit(" ", 1) for x in text.splitlines() if not x.startswith("#"))
            self.seen.sample("tasks", float(figures["chatterbox_tasks"]))
            # As the server counts them: nobody else of its user may look.
            self.seen.sample("descriptors", float(figures["process_open_fds"]))
            await asyncio.sleep(SAMPLE_S)

    async def _probe(self, client: httpx.AsyncClient, until: float) -> None:
        while time.monotonic() < until:
            for probe in ("live", "ready"):
                answer = await client.get(f"/health/{probe}")
                assert answer.status_code == 200 or probe == "ready", answer.text
                self.seen.probes += 1
            await asyncio.sleep(2 / PROBES_PER_S)


class Listener:
    """Somebody who plays what they ask for while it comes, with a key of their own."""

    def __init__(self, server: Server, key: str) -> None:
        self._server = server
        self._headers = {"Authorization": f"Bearer {key}"}
        self.statuses: Counter[int] = Counter()
        self.heard_s = self.waited_s = 0.0
        self.late_s = 0.0  # how long a player without a buffer stood still at most

    async def listen(self, seconds: float) -> None:
        """One long text after the other."""
        until = time.monotonic() + seconds
        body = {"text": LONG, "response_format": "pcm", "seed": 1}
        async with httpx.AsyncClient(base_url=self._server.url, timeout=300) as client:
            while time.monotonic() < until:
                call = client.stream("POST", "/tts", json=body, headers=self._headers)
                async with call as answer:
                    self.statuses[answer.status_code] += 1
                    if answer.status_code == 200:
                        await self._play(answer)
                    else:
                        await asyncio.sleep(1)

    async def _play(self, answer: httpx.Response) -> None:
        began: float | None = None
        heard_s = 0.0
        async for chunk in answer.aiter_raw():
            began = began or time.monotonic()
            self.late_s = max(self.late_s, time.monotonic() - began - heard_s)
            heard_s += len(chunk) / 2 / 24_000
        self.heard_s += heard_s
        self.waited_s += time.monotonic() - (began or 0.0)
