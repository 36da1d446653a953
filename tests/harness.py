"""A server with a fake engine, which speaks constant samples, and a fake voice library."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import httpx
import numpy as np
import uvicorn
from fakes import fake_voice

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.config import ServerConfig, TTSConfig
from chatterbox.dialects.registry import DIALECTS
from chatterbox.engine.admission import Admission
from chatterbox.engine.sampler import Sampling
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.engine.stats import EngineStats
from chatterbox.errors import ChatterboxError, EmptyText, UnsupportedAudio, VoiceNotFound
from chatterbox.families.model import ModelInfo
from chatterbox.families.turbo.spec import TURBO
from chatterbox.loading import Loading
from chatterbox.server.admission_control import Lifecycle
from chatterbox.server.app import create_app
from chatterbox.text import Segment
from chatterbox.voices.names import VoiceInfo
from chatterbox.voices.reference import ReferenceReport
from chatterbox.voices.stores import open_store

PIECE_SAMPLES = SAMPLE_RATE_HZ // 10
SPEECH = {"text": "Hello there.", "seed": 7}


def report_of(warnings: tuple[str, ...] = ()) -> ReferenceReport:
    return ReferenceReport(6.0, 0.0, 6.0, -23.0, 0.5, 0.0, 0.1, 24_000, warnings)


class FakeVoices:
    """A voice library in memory that records its calls. Data that starts with `RIFF` is audio."""

    shared = False

    def __init__(self) -> None:
        self.infos = {"slt": VoiceInfo("slt", "slt", (), 1.0, True, report_of())}
        self.skipped = (("broken", "meta.json is empty"),)
        self.default_voice = "slt"
        self.looked_up: list[str | None] = []
        self.temporaries = 0

    def info(self, wanted: str) -> VoiceInfo:
        for info in self.infos.values():
            if wanted in (info.voice_id, *info.names):
                return info
        raise VoiceNotFound("There is no such voice.", param="voice_id")

    def get(self, wanted: str | None):
        self.looked_up.append(wanted)
        return fake_voice(self.info(wanted or "slt").voice_id)

    def register(self, data: bytes, name: str | None = None, transcript: str | None = None):
        self._check(data)
        voice_id = f"v{len(data)}"
        created = voice_id not in self.infos
        if created:
            warnings = ("short_reference: under 5 s.",)
            info = VoiceInfo(voice_id, name or voice_id, (), 2.0, False, report_of(warnings))
            self.infos[voice_id] = info
        elif name and name not in self.infos[voice_id].names:
            self.set_alias(voice_id, name)
        return self.infos[voice_id], created

    def temporary_voice(self, data: bytes, transcript: str | None = None):
        self._check(data)
        self.temporaries += 1
        return fake_voice("temporary"), report_of()

    def list(self):
        return list(self.infos.values())

    def delete(self, wanted: str) -> None:
        del self.infos[self.info(wanted).voice_id]

    def export(self, wanted: str) -> bytes:
        return b"VOICE" + self.info(wanted).name.encode()

    def recording(self, wanted: str) -> bytes:
        return b"fLaC" + self.info(wanted).name.encode()

    def import_(self, data: bytes) -> VoiceInfo:
        return self.register(b"RIFF" + data)[0]

    def _change(self, info: VoiceInfo, **changes) -> VoiceInfo:
        import dataclasses

        self.infos[info.voice_id] = dataclasses.replace(info, **changes)
        return self.infos[info.voice_id]

    def describe(self, wanted: str, description: str) -> VoiceInfo:
        return self._change(self.info(wanted), description=description)

    def rename(self, wanted: str, name: str) -> VoiceInfo:
        return self._change(self.info(wanted), name=name)

    def set_alias(self, wanted: str, alias: str) -> VoiceInfo:
        info = self.info(wanted)
        return self._change(info, aliases=(*info.aliases, alias))

    def remove_alias(self, alias: str) -> VoiceInfo:
        info = self.info(alias)
        return self._change(info, aliases=tuple(a for a in info.aliases if a != alias))

    def refresh(self) -> None:
        """Do nothing: no other server changes this library."""

    def check_default(self, *, fall_back: bool = False) -> None:
        """Do nothing: the default voice exists."""

    @staticmethod
    def _check(data: bytes) -> None:
        if not data.startswith(b"RIFF"):
            raise UnsupportedAudio("This is not audio of a kind that is read here.")


class FakeStream:
    """Plays the engine's script. An entry is a number of samples to yield, a time or an event to
    wait for, an exception to raise, or a function to call."""

    def __init__(self, engine: "FakeEngine", request: SpeechRequest) -> None:
        self.report = SpeechReport(segments=1, segment_texts=(request.text,))
        self._engine = engine
        self._request = request

    async def __aenter__(self):
        self._engine.open_streams += 1
        return self

    async def __aexit__(self, *_exception) -> None:
        self._engine.open_streams -= 1
        self._engine.closed_streams += 1

    async def __aiter__(self):
        report = self.report
        report.segment_starts_s.append(0.0)
        for item in self._engine.script:
            if isinstance(item, Exception):
                raise item
            if isinstance(item, asyncio.Event):
                await item.wait()
                continue
            if isinstance(item, float):
                await asyncio.sleep(item)
                continue
            if callable(item):
                item()
                await asyncio.sleep(0.001)  # whose time has come goes first
                continue
            report.first_audio_s = report.first_audio_s or 0.01
            report.audio_s += item / SAMPLE_RATE_HZ
            self._engine.delivered += 1
            yield np.full(item, 0.25, np.float32)
        report.segment_codes.append(tuple(range(10)))
        report.segment_ends_s.append(report.audio_s)
        report.generation_s = 0.02


class FakeEngine:
    """The part of `TTSEngine` that the server uses."""

    def __init__(
        self,
        *,
        capacity: int = 2,
        queue_capacity: int = 2,
        script: Iterable[object] = (PIECE_SAMPLES, PIECE_SAMPLES),
    ) -> None:
        self.config = _engine_config().model_copy()
        self.info = ModelInfo(
            name="mini",
            precision={"language_model": "q4", "conditional_decoder": "fp32"},
            device="cpu",
            fallback="the hub cannot be reached",
            notes=("a note",),
        )
        self.state = "ready"
        self.fault = None
        self.loading = Loading("downloading", "1 of 4 MB", 0.25)
        self.on_death = None
        self.heartbeats = []
        self.admission = Admission(capacity, queue_capacity)
        self.voices = FakeVoices()
        self.pool, self.texts = ThreadPoolExecutor(1), ThreadPoolExecutor(2)
        self.script = list(script)
        self.requests: list[SpeechRequest] = []
        self.open_streams = 0
        self.closed_streams = 0
        self.delivered = 0
        self.warmed: list[str] = []
        self.code_blocks: list[str | None] = []
        self.text_error: ChatterboxError | None = None
        self.load_fault: Exception | None = None
        self.load_gate = threading.Event()
        self.load_gate.set()
        self.rehearse_gate = threading.Event()
        self.rehearse_gate.set()

    def load(self) -> None:
        self.state = "loading"
        self.load_gate.wait()
        if self.load_fault:
            raise self.load_fault
        self.state = "ready"

    def unload(self) -> None:
        self.state = "unloaded"

    def warm_up(self) -> None:
        self.rehearse_gate.wait()

    @property
    def voice_store(self):
        return open_store(self.config.voices, self.config.data_dir)

    def prepare_voices(self) -> None:
        self.warmed.append("all")

    def segments(self, text: str, code_blocks=None) -> list[Segment]:
        assert threading.current_thread() is not threading.main_thread(), "it may be long"
        self.code_blocks.append(code_blocks)
        if not any(c.isalnum() for c in text):
            raise EmptyText("Nothing in the text can be spoken.", param="text")
        if self.text_error:
            raise self.text_error
        return [Segment(text)]

    def speak(self, request: SpeechRequest, segments: Sequence[Segment]) -> FakeStream:
        assert "".join(segment.text for segment in segments) == request.text
        self.requests.append(request)
        return FakeStream(self, request)

    family = TURBO
    cloning = "unused"

    @property
    def max_tokens(self) -> int:
        return self.config.max_new_tokens or 1024

    def sampling(self, wanted=None) -> Sampling:
        return Sampling.merge(wanted or {}, self.config.sampling(), TURBO.sampling)

    def stats(self) -> EngineStats:
        return EngineStats(
            steps=4,
            stepped_rows=6,
            codes=60,
            step_s=0.5,
            running_rows=1,
            guarded_segments=2,
            retried_segments=5,
        )

    def warm(self, voice) -> None:
        self.warmed.append(voice.key)

    def close(self, timeout_s: float = 5.0) -> None:
        self.admission.close()
        for pool in (self.pool, self.texts):
            pool.shutdown(wait=False, cancel_futures=True)


def server_config(**changes) -> ServerConfig:
    return ServerConfig(_env_file=None, **changes) if changes else _server_config().model_copy()


# Reading settings takes milliseconds, and hundreds of tests want them as they are.
@functools.cache
def _server_config() -> ServerConfig:
    return ServerConfig(_env_file=None)


@functools.cache
def _engine_config() -> TTSConfig:
    return TTSConfig(model="mini", _env_file=None)


@asynccontextmanager
async def serving(engine: FakeEngine | None = None, **config) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of an application around `engine`, in this event loop and without a socket."""
    engine = engine or FakeEngine()
    lifecycle = Lifecycle(engine)
    app = create_app(engine, server_config(**config), DIALECTS, lifecycle=lifecycle)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        client.engine, client.lifecycle, client.app = engine, lifecycle, app
        yield client
    engine.close()


def error_of(response: httpx.Response, status: int, code: str, param: str | None = None) -> dict:
    """Return the error of a response. Asserts its status, code, parameter and exact shape."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    body = response.json(parse_constant=lambda text: 1 / 0)
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() == {"message", "type", "code", "param", "request_id"}
    assert (error["code"], error["param"]) == (code, param), error
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["message"]
    assert "Traceback" not in response.text
    return error


async def shut_down(server: uvicorn.Server) -> None:
    """Shut a server down without uvicorn's pauses of 0.1 s."""
    for listening in server.servers:
        listening.close()
    for connection in list(server.server_state.connections):
        connection.shutdown()
    await until(lambda: not server.server_state.tasks)


def put_forward(seconds: float) -> None:
    """Advance the clock of the running event loop, so that timers within `seconds` fire at once."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds


async def until(condition) -> None:
    """Wait until the condition is true. Raises TimeoutError after a minute."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def ended(name: str) -> bool:
    """Return whether all threads of that name end within a minute each."""
    there = [thread for thread in threading.enumerate() if thread.name == name]
    for thread in there:
        thread.join(60)
    return not any(thread.is_alive() for thread in there)
