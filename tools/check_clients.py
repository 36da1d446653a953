"""Runs LiveKit's and Pipecat's services against a running server, including interruptions.

    python -m venv clients && clients/bin/pip install -r requirements-clients.txt
    ./run.sh --model mini &                         (any model will do)
    clients/bin/python tools/check_clients.py http://127.0.0.1:8000

Prints a line for each check; exit code 1 when one fails. Needs nothing of this package.
"""

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable

import aiohttp
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT
from livekit.plugins import elevenlabs
from loguru import logger
from pipecat.frames.frames import (
    EndFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.elevenlabs.tts import ElevenLabsTTSService
from pipecat.workers.runner import WorkerRunner

TEXT = "Hello there my friend. This is a second sentence."
LONG = "This goes on and on, and it does not seem to come to any end. " * 10
WAIT_S = 60.0


class Server:
    """What the server says of itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.voice = ""
        self.long_s = 0.0  # that `LONG` takes to be said

    async def ask(self) -> None:
        """The voice that is spoken in where none is named, and how long it speaks."""
        url, form = self.url + "/tts", {"text": LONG, "response_format": "pcm", "stream": "false"}
        async with aiohttp.ClientSession(raise_for_status=True) as http:
            async with http.get(self.url + "/health") as answer:
                self.voice = (await answer.json())["default_voice"]
            async with http.post(url, data=form) as answer:
                self.long_s = len(await answer.read()) / 2 / 24_000
        print(f"       {self.voice} speaks {self.long_s:.1f} s where nobody interrupts")

    async def metrics(self) -> dict:
        async with aiohttp.ClientSession() as http, http.get(self.url + "/metrics") as answer:
            return await answer.json()

    async def cancelled(self) -> int:
        return (await self.metrics())["requests"]["by_outcome"].get("cancelled", 0)

    async def silent(self, cancelled: int) -> None:
        """Wait until nobody is spoken to and one more request was cancelled than before."""
        async with asyncio.timeout(WAIT_S):
            while (await self.metrics())["active"] or await self.cancelled() == cancelled:
                await asyncio.sleep(0.05)


async def livekit_speaks(server: Server) -> None:
    """Words in, sound and timed words out; then a one-shot call."""
    async with aiohttp.ClientSession() as http:
        tts = livekit_tts(server, http)
        stream = tts.stream()
        for word in TEXT.split():
            stream.push_text(word + " ")
        stream.end_input()
        sound_s, words = 0.0, []
        async for event in stream:
            sound_s += event.frame.duration
            words += event.frame.userdata.get(USERDATA_TIMED_TRANSCRIPT, [])
        assert [str(word).strip() for word in words] == TEXT.split(), words
        assert abs(words[-1].end_time - sound_s) < 0.1, (words[-1].end_time, sound_s)
        once_s = sum([event.frame.duration async for event in tts.synthesize(TEXT)])
        assert once_s > 1, once_s
        await tts.aclose()


async def livekit_is_interrupted(server: Server) -> None:
    """A stream that is closed frees its place."""
    before = await server.cancelled()
    async with aiohttp.ClientSession() as http:
        tts = livekit_tts(server, http)
        stream = tts.stream()
        stream.push_text(LONG)
        stream.flush()
        async for _ in stream:
            break
        await stream.aclose()
        await server.silent(before)
        await tts.aclose()


def livekit_tts(server: Server, http: aiohttp.ClientSession) -> elevenlabs.TTS:
    return elevenlabs.TTS(
        voice_id=server.voice,
        model="eleven_turbo_v2_5",
        encoding="pcm_24000",
        api_key="any",
        base_url=server.url + "/v1",
        http_session=http,
    )


class Ear(FrameProcessor):
    """Notes what comes out of the pipeline."""

    def __init__(self) -> None:
        super().__init__()
        self.sound_s = 0.0
        self.words: list[str] = []
        self.begun, self.stopped = asyncio.Event(), asyncio.Event()

    async def process_frame(self, frame, direction) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self.sound_s += len(frame.audio) / 2 / frame.sample_rate
            self.begun.set()
        elif isinstance(frame, TTSTextFrame):
            self.words.append(frame.text)
        elif isinstance(frame, TTSStoppedFrame):
            self.stopped.set()
        await self.push_frame(frame, direction)


async def in_pipeline(
    server: Server, script: Callable[[PipelineWorker, Ear], Awaitable[None]]
) -> None:
    ear = Ear()
    tts = ElevenLabsTTSService(
        api_key="any",
        url=server.url.replace("http", "ws", 1),
        settings=ElevenLabsTTSService.Settings(voice=server.voice),
    )
    worker = PipelineWorker(
        Pipeline([tts, ear]), params=PipelineParams(audio_out_sample_rate=24_000)
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)

    async def play() -> None:
        async with asyncio.timeout(WAIT_S):
            await script(worker, ear)
        await worker.queue_frame(EndFrame())

    await asyncio.gather(runner.run(), play())


async def pipecat_speaks(server: Server) -> None:
    """An answer in pieces; sound, words, and the end of it."""

    async def script(worker: PipelineWorker, ear: Ear) -> None:
        texts = [LLMTextFrame(word + " ") for word in TEXT.split()]
        await worker.queue_frames([LLMFullResponseStartFrame(), *texts, LLMFullResponseEndFrame()])
        await ear.stopped.wait()
        assert ear.sound_s > 1, ear.sound_s
        assert ear.words == TEXT.split(), ear.words

    await in_pipeline(server, script)


async def pipecat_is_interrupted(server: Server) -> None:
    """An interruption frame frees the place, and little more is heard."""
    before = await server.cancelled()

    async def script(worker: PipelineWorker, ear: Ear) -> None:
        await worker.queue_frames([LLMFullResponseStartFrame(), LLMTextFrame(LONG)])
        await ear.begun.wait()
        await worker.queue_frame(InterruptionFrame())
        await server.silent(before)
        assert ear.sound_s < server.long_s / 2, (ear.sound_s, server.long_s)

    await in_pipeline(server, script)


async def main(url: str) -> int:
    server, failed = Server(url.rstrip("/")), 0
    await server.ask()
    for check in (livekit_speaks, livekit_is_interrupted, pipecat_speaks, pipecat_is_interrupted):
        try:
            async with asyncio.timeout(2 * WAIT_S):
                await check(server)
        except Exception:  # noqa: BLE001 - told, and the next one is checked
            failed += 1
            print(f"FAILED {check.__name__}\n{traceback.format_exc()}")
        else:
            print(f"ok     {check.__name__}")
    return 1 if failed else 0


if __name__ == "__main__":
    logger.remove()
    sys.exit(asyncio.run(main(sys.argv[1])))
