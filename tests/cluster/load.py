"""Load on a cluster: several callers that send one request after another, and their answers."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

TEXT = "This is a long sentence that goes on for a while, and then some more of it. " * 4
CALL = {"input": TEXT, "voice": "slt", "seed": 7, "response_format": "pcm"}
WAIT_S = 60


@dataclass
class Answer:
    """The answer to a request. If the connection was cut, `fault` is the exception and `sound` the
    audio until then."""

    status: int | None = None
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    sound: bytes = b""
    fault: Exception | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def whole(self) -> bool:
        return self.status == 200 and self.fault is None

    @property
    def clean(self) -> bool:
        """Whether the caller can see the failure: it was cut, or refused with Retry-After."""
        cut = isinstance(self.fault, httpx.RemoteProtocolError)
        return cut or (self.status == 503 and "retry-after" in self.headers)


async def ask(client: httpx.AsyncClient, **more) -> Answer:
    answer = Answer()
    try:
        async with client.stream("POST", "/v1/audio/speech", json={**CALL, **more}) as got:
            answer.status, answer.headers = got.status_code, got.headers
            async for piece in got.aiter_bytes():
                answer.sound += piece
    except httpx.HTTPError as fault:
        answer.fault = fault
    return answer


def client_of(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=200)
    return httpx.AsyncClient(base_url=url, timeout=WAIT_S, limits=limits)


@asynccontextmanager
async def load(url: str, callers: int) -> AsyncIterator[list[Answer]]:
    """Run `callers` callers during the context. The list has all answers when it is left."""
    answers: list[Answer] = []
    over = False

    async def call(client: httpx.AsyncClient) -> None:
        while not over:
            answers.append(await ask(client))

    async with client_of(url) as client, asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(call(client))
        try:
            yield answers
        finally:
            over = True
