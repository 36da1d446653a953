"""The benchmark's requests, and the native calls as a client sees them, each measured by itself."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from chatterbox.bench.listener import BadAudio, Listener
from chatterbox.bench.report import Outcome

CONNECT_TIMEOUT_S = 5.0
POLL_S = 0.2
KEEPALIVE_S = 2.0
"""Below the 5 s after which uvicorn closes an idle connection: no request meets a closing one."""
CONTENT_SHOWN_CHARS = 200

EXIT_FAILED = 1
EXIT_USAGE = 2
SEEDS = 2**32
"""Seeds are 0 ≤ seed < 2**32."""


@dataclass(frozen=True, slots=True)
class Workload:
    """The requests of every level: number n is the same in all, so that levels can be compared."""

    texts: Sequence[str]
    voice_id: str | None  # None: the server's default voice
    seed: int
    stream: bool

    def form(self, number: int) -> dict[str, str]:
        """The form fields of request `number`."""
        fields = {
            "text": self.texts[number % len(self.texts)],
            "seed": str((self.seed + number) % SEEDS),
            "response_format": "wav",
            "stream": "true" if self.stream else "false",
        }
        return fields if self.voice_id is None else fields | {"voice_id": self.voice_id}


class BenchmarkError(Exception):
    """The benchmark cannot go on: one line for the person who started it, and the exit code."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Server(httpx.AsyncClient):
    """One server under test."""

    def __init__(self, url: str, *, api_key: str | None, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise BenchmarkError(
                f"--url {self.url}: must begin with http:// or https://", EXIT_USAGE
            )
        try:
            super().__init__(
                base_url=self.url,
                headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
                timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
                limits=httpx.Limits(keepalive_expiry=KEEPALIVE_S),  # as many as the level asks
                trust_env=False,  # no proxy between the clock and the server
            )
        except (httpx.InvalidURL, ValueError) as failure:
            raise BenchmarkError(f"--url {url}: {failure}", EXIT_USAGE) from None

    async def ready(self, wait_s: float) -> dict[str, Any]:
        """What /health says once the server is ready; BenchmarkError if that takes too long."""
        give_up_s = time.perf_counter() + wait_s
        while True:
            try:
                return await self._health()
            except BenchmarkError as failure:
                if failure.exit_code == EXIT_USAGE or time.perf_counter() >= give_up_s:
                    raise
            await asyncio.sleep(POLL_S)

    async def _health(self) -> dict[str, Any]:
        response = await self._call("GET", "/health")
        health = _json_object(response)
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise BenchmarkError(f"{self.url} wants a key: use --api-key.", EXIT_USAGE)
        if "ready" not in health and "status" not in health:
            raise BenchmarkError(
                f"{self.url} answers, but /health is not that of a speech server "
                f"(HTTP {response.status_code})."
            )
        if not health.get("ready", response.is_success):
            status = health.get("status", f"HTTP {response.status_code}")
            raise BenchmarkError(f"The server at {self.url} is not ready yet: {status}.")
        return health

    async def register(self, path: Path) -> str:
        """Upload a reference recording; returns the voice's id."""
        try:
            recording = path.read_bytes()
        except OSError as failure:
            raise BenchmarkError(
                f"Cannot read the voice file {path}: {failure.strerror}.", EXIT_USAGE
            ) from None
        upload = {"voice_file": (path.name, recording)}  # no name: the id is enough
        response = await self._call("POST", "/voices/register", files=upload)
        voice_id = _json_object(response).get("voice_id")
        if not response.is_success or not isinstance(voice_id, str):
            raise BenchmarkError(f"The server refused the voice file {path}: {_refusal(response)}")
        return voice_id

    async def _call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return await self.request(method, path, **arguments)
        except httpx.ConnectError:
            raise BenchmarkError(
                f"No server answers at {self.url}. Start one with ./run.sh, or name it with --url."
            ) from None
        except httpx.TimeoutException:
            raise BenchmarkError(f"{self.url}{path} does not answer in time.") from None
        except httpx.HTTPError as failure:
            raise BenchmarkError(f"{self.url}{path}: {failure}") from None

    async def speak(self, workload: Workload, number: int, due_s: float) -> Outcome:
        """Send request `number` and listen to the whole reply. Faults are outcomes too."""
        listener = Listener()
        error: str | None = None
        server_rtf: float | None = None
        try:
            async with self.stream("POST", "/tts", data=workload.form(number)) as response:
                if response.status_code != HTTPStatus.OK:
                    await response.aread()
                    error = _error(response, "code") or f"http_{response.status_code}"
                else:
                    if rtf := response.headers.get("X-RTF"):
                        server_rtf = float(rtf)
                    async for data in response.aiter_raw():
                        listener.feed(data, time.perf_counter())
                    listener.finish()
        except BadAudio as failure:
            error = str(failure)
        except httpx.TimeoutException:
            error = "timeout"
        except httpx.ConnectError:
            error = "connection_refused"
        except httpx.HTTPError:
            error = "broken_reply"
        audible_s = listener.first_audible_s
        return Outcome(
            started_s=due_s,
            ended_s=time.perf_counter(),
            error=error,
            audio_s=listener.audio_s,
            first_audible_s=None if audible_s is None else audible_s - due_s,
            silences_s=tuple(listener.silences_s),
            server_rtf=server_rtf,
        )


def _json_object(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _error(response: httpx.Response, fact: str) -> str | None:
    """The `code` or the `message` of an error of this server's shape."""
    error = _json_object(response).get("error")
    value = error.get(fact) if isinstance(error, dict) else None
    return value if isinstance(value, str) and value else None


def _refusal(response: httpx.Response) -> str:
    said = _error(response, "message") or response.text[:CONTENT_SHOWN_CHARS]
    return f"HTTP {response.status_code} {' '.join(said.split())}"
