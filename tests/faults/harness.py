"""Runs one server through one fault and checks six invariants of docs/inside/faults.md.

`Rig` is the whole server (HTTP, admission, engine thread, decode thread, voices) on fake graphs,
on a real socket, in the test's own event loop, so that a test sees both sides of it. Tests of
signals and exit codes use `process.py`.

    async def test_f99_something(rig):
        async with rig.fault():  # a golden request is in the air
            response = await rig.speak("...")
            error_of(response, 422, "invalid_value", "text")

Leaving `fault` checks: I1/I2 probes as stated; I3 the golden request and one after it, bit for bit;
I4 everything held is given back within 2 s; I5 every error the client saw has its path's shape; I6
one outcome line for each HTTP request, and neither text nor key in any line.
"""

import asyncio
import hashlib
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np
import psutil
import pytest
from fakes import VOCAB, FakeDecoder, FakeEncoder, FakeLanguageModel, FakePrompts
from harness import server_config, shut_down

from chatterbox.arrays import F32
from chatterbox.config import TTSConfig
from chatterbox.dialects.registry import DIALECTS
from chatterbox.engine.engine import TTSEngine
from chatterbox.families.model import LoadedModel, ModelInfo
from chatterbox.families.turbo.spec import TURBO
from chatterbox.families.voices import FixedVoices
from chatterbox.server.admission_control import Lifecycle
from chatterbox.server.app import create_app
from chatterbox.server.dialect import error_shapes
from chatterbox.server.request_log import native_shape
from chatterbox.server.run import Server, bind, http_config, is_worth_logging

SECRET = "zebrafish"
"""Word in every text and key of these tests, which no log line may contain."""
KEY = f"sk-{SECRET}-0123456789abcdef"
SHORT = {"text": f"A {SECRET}.", "seed": 11, "response_format": "pcm"}
LONG_TEXT = " ".join(f"My {SECRET} swims {n}." for n in ("one", "two", "three", "four", "five"))
GOLDEN = {"text": LONG_TEXT, "seed": 7, "response_format": "pcm"}
"""More segments than run at once, so that the request is half done while its reader waits."""
QUIET_LOOKS = 5
SETTINGS = {
    "first_segment_words": 3,
    "next_segment_words": 3,
    "tail_segment_words": 0,
    "top_k": 50,  # quicker to sample
}
NO_REQUEST = ("chatterbox.requests WS ", "chatterbox.requests - ")
"""Beginnings of log lines of utterances, and of requests refused while their head was read."""
SETTLE_S = 60.0  # a second or two on a machine with nothing else to do
PATIENCE_S = 3600.0
"""Of the server: the golden request rests as long as a fault takes, on a machine however slow."""
SEND_BUFFER_BYTES = RECEIVE_BUFFER_BYTES = 32_768
"""Small, so that a reader who waits is noticed by the server soon."""


_NORMAL = np.random.default_rng(0).standard_normal(2 * VOCAB, dtype=np.float32)


class Model(FakeLanguageModel):
    """A quick fake language model with a hook before each prefill and step. The hook runs on the
    engine thread, and may block or raise."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.on_begin: Callable[[str], None] = lambda key: None
        self.on_step: Callable[[list[str]], None] = lambda keys: None

    def prefill(self, slot, prompt):
        self.on_begin(prompt.prefix_key)
        return super().prefill(slot, prompt)

    def decode(self, slots: Sequence[int], tokens):
        self.on_step([str(self.held[slot][1][0]) for slot in slots])
        return super().decode(slots, tokens)

    def _noise(self, history: list[object]) -> F32:
        start = int.from_bytes(hashlib.sha256(repr(history).encode()).digest()[:4], "little")
        return _NORMAL[start % VOCAB :][:VOCAB].copy()


def fake_engine(
    directory: Path,
    *,
    slots: int = 4,
    decoder_rows: int = 1,
    fixed: FixedVoices | None = None,
    **settings,
) -> TTSEngine:
    """Return a loaded engine on fakes, with its parts in `engine.parts`. `fixed` voices replace
    cloning."""
    config = TTSConfig(data_dir=directory, _env_file=None, **(SETTINGS | settings))
    engine = TTSEngine(config)
    engine.parts = LoadedModel(
        ModelInfo("fake", {}, "cpu", None, ()),
        TURBO,
        FakePrompts(),
        Model(slots),
        FakeDecoder(decoder_rows),
        cloned=None if fixed else FakeEncoder(),
        fixed=fixed,
    )
    engine.load(engine.parts)
    return engine


@dataclass(frozen=True)
class Held:
    """The resources that a server holds (I4)."""

    active: int
    queued: int
    slots: int
    waiting_rows: int
    open_tracks: int
    temporary_files: int
    children: int
    descriptors: int
    threads: int
    tasks: int

    def beyond(self, before: "Held") -> dict[str, tuple[int, int]]:
        """Return the resources that have increased."""
        pairs = {f.name: (getattr(before, f.name), getattr(self, f.name)) for f in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[1] > pair[0]}


def decode_children(children: Iterable[psutil.Process] | None = None) -> list[int]:
    """Return the process ids of the children that decode recordings. `children`: this process's, if
    known; to find them, psutil reads a file of every process of the machine."""
    found = []
    for child in psutil.Process().children() if children is None else children:
        with suppress(psutil.NoSuchProcess):
            if "decode_child" in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


class Log(logging.Handler):
    """Collects all log lines."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    @property
    def outcomes(self) -> list[str]:
        """Return the lines about ended requests."""
        return [line for line in self.lines if _is_outcome(line)]


def _is_outcome(line: str) -> bool:
    return line.startswith("chatterbox.requests ") and " outcome=" in line


class Rig:
    """A server under test; see the top of this file. Made by `running`."""

    _golden: ClassVar[dict[tuple[object, ...], bytes]] = {}  # what is right, by request

    def __init__(self, engine: TTSEngine, directory: Path, **server: Any) -> None:
        self.directory = directory
        self.engine = engine
        self.model: Model = engine.parts.language_model
        self.decoder: FakeDecoder = engine.parts.decoder
        self.encoder: FakeEncoder = engine.parts.cloned
        self.lifecycle = Lifecycle(engine)
        self._config = server_config(**{"request_timeout_s": PATIENCE_S} | server)
        self.app = create_app(engine, self._config, DIALECTS, lifecycle=self.lifecycle)
        self.log = Log()
        self.headers: dict[str, str] = {}  # of every call, a key for instance
        self.begun = 0  # HTTP requests that reached the app
        self.connections: list[asyncio.StreamWriter] = []  # bare connections
        self.patch = pytest.MonkeyPatch()  # of what is broken until it is closed

    # --- life

    async def open(self) -> None:
        """Listen on a free port."""
        self.patch.setattr("chatterbox.server.request_log.STALL_S", PATIENCE_S)
        sock = self._sock = bind("127.0.0.1", 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.port: int = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        root = logging.getLogger()
        self._level = root.level
        root.addHandler(self.log)
        root.setLevel(logging.INFO)
        logging.getLogger("chatterbox.requests").setLevel(logging.DEBUG)  # probes too
        logging.getLogger("httpx").setLevel(logging.WARNING)
        logging.getLogger("uvicorn.error").addFilter(is_worth_logging)  # as `serve` does
        self._server = Server(http_config(self._counted, self.app.limiter))
        self._serving = asyncio.create_task(self._server.serve(sockets=[sock]))
        while not self._server.started:
            await asyncio.sleep(0)
        self.client = self.new_client()

    async def close(self) -> None:
        """Stop, even if something hangs, so that a failed test does not affect the next one."""
        self.patch.undo()
        for writer in self.connections:
            if not writer.is_closing():
                writer.transport.abort()
        await self.client.aclose()
        self.engine.close(1.0)
        self._serving.cancel()  # it would look for its end every 0.1 s only
        with suppress(asyncio.CancelledError):
            await self._serving
        await shut_down(self._server)
        self._sock.close()
        logging.getLogger().removeHandler(self.log)
        logging.getLogger().setLevel(self._level)

    def new_client(self, *, narrow: bool = False) -> httpx.AsyncClient:
        """Return a client that checks I5 on every response; `narrow` gives it a small buffer."""
        options = [(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)] if narrow else []
        return httpx.AsyncClient(
            base_url=self.url,
            transport=httpx.AsyncHTTPTransport(verify=False, socket_options=options),
            headers=self.headers,
            timeout=60,
            event_hooks={"response": [_check_error_shape]},
        )

    async def _counted(self, scope, receive, send) -> None:
        self.begun += scope["type"] == "http"
        await self.app(scope, receive, send)

    def set(self, **server: Any) -> None:
        """Change settings for later requests."""
        self._config.__dict__.update(server)  # it is frozen

    # --- calls

    async def speak(self, text: str | None = None, **body: object) -> httpx.Response:
        """Send one POST /tts."""
        call = SHORT | body | ({} if text is None else {"text": text})
        return await self.client.post("/tts", json=call, headers=self.headers)

    async def raw(self, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a raw connection and send `data`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.connections.append(writer)
        writer.write(data)
        await writer.drain()
        return reader, writer

    async def until(self, true: Callable[[], object], timeout_s: float = 60.0) -> None:
        """Wait until the condition is true."""
        give_up = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < give_up, f"it did not happen; holding {self.held()}"
            await asyncio.sleep(0.002)

    async def quiet(self) -> None:
        """Wait until the engine has nothing to do because its clients do not read."""
        steps, looks = -1, 0
        while looks < QUIET_LOOKS:  # an outbox that is full for a moment will be read in between
            looks = looks + 1 if steps == self.model.steps and self._all_wait() else 0
            steps = self.model.steps
            await asyncio.sleep(0.02)

    def _all_wait(self) -> bool:
        """Return whether every row waits for its reader. On a busy machine the engine's thread may
        also be idle because it got no processor time."""
        outboxes = [sequence.outbox for sequence in self.engine.generation.sequences()]
        return all(outbox.full or outbox.closed for outbox in outboxes)

    # --- the row

    @asynccontextmanager
    async def fault(
        self, *, live: int = 200, ready: int = 200, golden: bool = True
    ) -> AsyncIterator[None]:
        """Check the invariants around a fault that happens inside the context. `live` and `ready`
        are the probes' statuses right after it; `golden` tells whether the running request
        survives and a later one is spoken."""
        for call in (GOLDEN, SHORT):
            await self.right(call)
        await self.settled()
        before, lines, begun = self.held(), len(self.log.lines), self.begun
        half, go_on = asyncio.Event(), asyncio.Event()
        flying = asyncio.create_task(self.listen(GOLDEN, half, go_on))
        await asyncio.wait(
            {flying, asyncio.create_task(half.wait())}, return_when="FIRST_COMPLETED"
        )
        assert half.is_set(), flying.result()
        try:
            yield
        finally:
            go_on.set()
            heard = (await asyncio.gather(flying, return_exceptions=True))[0]
        await self._probe(live, ready)
        if golden:
            assert heard == await self.right(GOLDEN), "I3: the golden request is damaged"
            after = await self.listen(SHORT)
            assert after == await self.right(SHORT), "I3: the request after it is damaged"
        await self.client.aclose()
        self.client = self.new_client()
        await self.settled(before)
        self._check_log(self.log.lines[lines:], self.begun - begun)

    async def settled(self, before: Held | None = None) -> None:
        """Check I4: no more is held than `before`, or without it, no work is running."""
        give_up = time.monotonic() + SETTLE_S
        while True:
            now = self.held()
            beyond = now.beyond(before) if before else {}
            if not (beyond or now.active or now.queued or now.slots or now.waiting_rows):
                return
            assert time.monotonic() < give_up, f"I4: still held (before, now): {beyond or now}"
            await asyncio.sleep(0.005)

    def held(self) -> Held:
        """Return everything that a request may hold."""
        engine, voices = self.engine, self.directory / "voices"
        dead = engine.state == "dead"
        here = psutil.Process()
        children = here.children(recursive=True)
        decoders = len(decode_children(children))  # one is kept warm
        # Bounded, and kept once started:
        pools = ("asyncio_", "AnyIO", "ThreadPoolExecutor", "texts", "recordings")
        return Held(
            active=engine.admission.active,
            queued=engine.admission.queued,
            slots=0 if dead else len(self.model.held),
            waiting_rows=engine.generation.waiting,
            open_tracks=0 if dead else len(engine.vocoding.open_sequences),
            temporary_files=sum(
                path.name.startswith((".tmp", ".del")) for path in voices.iterdir()
            ),
            children=len(children) - decoders,
            descriptors=here.num_fds() - 2 * decoders,
            threads=sum(not t.name.startswith(pools) for t in threading.enumerate()),
            tasks=len(asyncio.all_tasks()),
        )

    async def right(self, call: dict[str, Any]) -> bytes:
        key = (*call.items(), self.engine.config.default_voice)
        if key not in self._golden:
            self._golden[key] = await self.listen(call)
        return self._golden[key]

    async def listen(
        self,
        call: dict[str, Any],
        half: asyncio.Event | None = None,
        go_on: asyncio.Event | None = None,
    ) -> bytes:
        """Return the audio of `call`, read by a separate client. If `half` is given, the client
        reads a little, sets it, and waits for `go_on`."""
        heard = bytearray()
        async with (
            self.new_client(narrow=half is not None) as client,
            client.stream("POST", "/tts", json=call, headers=self.headers) as response,
        ):
            if response.status_code != 200:
                return await response.aread()
            async for chunk in response.aiter_raw():
                heard += chunk
                if half is not None and go_on is not None and not half.is_set():
                    half.set()
                    await go_on.wait()
                    stream = response.extensions["network_stream"].get_extra_info("socket")
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        return bytes(heard)

    async def _probe(self, live: int, ready: int) -> None:
        async with self.new_client() as client:
            probes = [
                (await client.get(f"/health/{name}")).status_code for name in ("live", "ready")
            ]
        assert probes == [live, ready], "I2: live, ready"

    def _check_log(self, lines: list[str], begun: int) -> None:
        outcomes = [line for line in lines if _is_outcome(line)]
        ids = [line.rsplit("id=", 1)[1] for line in outcomes]
        requests = [line for line in outcomes if not line.startswith(NO_REQUEST)]
        assert len(set(ids)) == len(ids), f"I6: a request has two outcomes: {outcomes}"
        assert len(requests) == begun, f"I6: {begun} requests, outcomes: {outcomes}"
        said = [line for line in lines if SECRET in line.lower()]
        assert not said, f"I6: text or a key is in the log: {said}"


async def _check_error_shape(response: httpx.Response) -> None:
    """Check I5 for the native error shape; other dialects have their own tests."""
    path = response.request.url.path
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    await response.aread()
    assert "Traceback" not in response.text, "I5: a traceback left"
    if error_shapes(DIALECTS)(path) is not native_shape:
        return
    assert response.headers["content-type"] == "application/json", "I5: content type"
    error = response.json(parse_constant=lambda text: 1 / 0)["error"]
    assert error.keys() == {"message", "type", "code", "param", "request_id"}, "I5: shape"
    assert error["request_id"] == response.headers["x-request-id"], "I5: request id"


@asynccontextmanager
async def running(
    directory: Path,
    *,
    engine: dict[str, Any] | None = None,
    **server: Any,
) -> AsyncIterator[Rig]:
    """Run a rig with these settings of the engine (and `slots`, `decoder_rows`) and the server."""
    rig = Rig(fake_engine(directory, **(engine or {})), directory, **server)
    await rig.open()
    try:
        yield rig
    finally:
        await rig.close()
