"""Client of the benchmark: sends the native calls and measures each request."""

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
"""Below the 5 s after which the server closes an idle connection, so that no request meets a
closing connection."""
MAX_QUOTED_CHARS = 200  # of an error response that is not JSON

EXIT_FAILED = 1
EXIT_USAGE = 2
SEEDS = 2**32  # seeds are below this


@dataclass(frozen=True, slots=True)
class Workload:
    """The requests of every level. Request n is the same in all levels, so that they are
    comparable."""

    texts: Sequence[str]
    voice_id: str | None  # None for the server's default voice
    seed: int
    stream: bool

    def form(self, number: int) -> dict[str, str]:
        """Return the form fields of request `number`."""
        fields = {
            "text": self.texts[number % len(self.texts)],
            "seed": str((self.seed + number) % SEEDS),
            "response_format": "wav",
            "stream": "true" if self.stream else "false",
        }
        return fields if self.voice_id is None else fields | {"voice_id": self.voice_id}


class BenchmarkError(Exception):
    """Raised when the benchmark cannot continue. Has one line for the user and the exit code."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Server(httpx.AsyncClient):
    """HTTP client of the server under test."""

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
                limits=httpx.Limits(keepalive_expiry=KEEPALIVE_S),  # any number of connections
                trust_env=False,  # no proxy
            )
        except (httpx.InvalidURL, ValueError) as failure:
            raise BenchmarkError(f"--url {url}: {failure}", EXIT_USAGE) from None

    async def ready(self, wait_s: float) -> dict[str, Any]:
        """Wait until the server is ready and return the answer of /health.

        Raises BenchmarkError if the server is not ready after `wait_s`.
        """
        deadline_s = time.perf_counter() + wait_s
        while True:
            try:
                return await self._health()
            except BenchmarkError as failure:
                if failure.exit_code == EXIT_USAGE or time.perf_counter() >= deadline_s:
                    raise
            await asyncio.sleep(POLL_S)

    async def _health(self) -> dict[str, Any]:
        response = await self._call("GET", "/health")
        health = _json_object(response)
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise BenchmarkError(f"{self.url} requires a key: use --api-key.", EXIT_USAGE)
        if "ready" not in health and "status" not in health:
            raise BenchmarkError(
                f"{self.url} is not a speech server: /health answers HTTP {response.status_code}."
            )
        if not health.get("ready", response.is_success):
            status = health.get("status", f"HTTP {response.status_code}")
            raise BenchmarkError(f"The server at {self.url} is not ready yet: {status}.")
        return health

    async def register(self, path: Path) -> str:
        """Upload a reference recording and return the voice's id."""
        try:
            recording = path.read_bytes()
        except OSError as failure:
            raise BenchmarkError(
                f"Cannot read the voice file {path}: {failure.strerror}.", EXIT_USAGE
            ) from None
        upload = {"voice_file": (path.name, recording)}
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
            raise BenchmarkError(f"{self.url}{path} did not answer in time.") from None
        except httpx.HTTPError as failure:
            raise BenchmarkError(f"{self.url}{path}: {failure}") from None

    async def speak(self, workload: Workload, number: int, due_s: float) -> Outcome:
        """Send request `number`, due at `due_s`, and read its whole response. Never raises: errors
        are part of the outcome."""
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


def _error(response: httpx.Response, field: str) -> str | None:
    """Return a field of the server's error object, or None."""
    error = _json_object(response).get("error")
    value = error.get(field) if isinstance(error, dict) else None
    return value if isinstance(value, str) and value else None


def _refusal(response: httpx.Response) -> str:
    message = _error(response, "message") or response.text[:MAX_QUOTED_CHARS]
    return f"HTTP {response.status_code} {' '.join(message.split())}"
