"""Fault table, section A (F01 to F05): overload and deadlines; F17 and F18: lengths."""

import asyncio
import itertools
import statistics
import threading

import pytest
from faults.calls import post
from faults.harness import GOLDEN, SECRET, SHORT, running
from faults.virtual_time import run
from harness import error_of, put_forward

from chatterbox.engine.admission import Admission
from chatterbox.errors import DeadlineExceeded, Overloaded

# --- F01


async def test_f01_requests_beyond_places_and_queue_are_refused(tmp_path):
    places = {"max_concurrent_requests": 3, "max_queued_requests": 3}  # one place is the golden's
    async with running(tmp_path, engine=places) as rig:
        gate = threading.Event()
        async with rig.fault():
            await rig.quiet()
            rig.model.on_begin = lambda key: gate.wait(60)
            calls = [asyncio.create_task(rig.speak(seed=seed)) for seed in range(2 + 3 + 10)]
            await rig.until(lambda: sum(call.done() for call in calls) == 10)
            assert (rig.engine.admission.active, rig.engine.admission.queued) == (3, 3)
            assert (await rig.client.get("/health/ready")).status_code == 503  # the queue is full
            for path in ("/tts", "/voices/register"):
                unread = await rig.client.post(path, content=b"a body that nobody reads")
                error_of(unread, 429, "overloaded")
            begun = rig.model.begun
            gate.set()
            refused = [answer for call in calls if (answer := await call).status_code != 200]
            assert len(refused) == 10
            for answer in refused:
                error_of(answer, 429, "overloaded")
                assert 1 <= int(answer.headers["retry-after"]) <= 30
            assert rig.model.begun - begun <= 2 + 3 + 10  # nothing of those sent away


# --- F02, in virtual time

SERVICE_S = 1.5
PLACES, QUEUE = 8, 32
LENGTH_S = 60.0
WAIT_S = 60.0  # `first_audio_timeout_s`


class Crowd:
    """Clients that retry after a refusal, as the server's Retry-After says."""

    def __init__(self, monkeypatch, clients: int) -> None:
        self.admission = Admission(PLACES, QUEUE)
        self.clients = clients
        self.done = 0
        self.waits_s: list[float] = []
        self.order: list[tuple[int, int]] = []  # (asked, served), both counted
        self._asked = itertools.count()
        self._served = itertools.count()
        self._monkeypatch = monkeypatch

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        clock = type("Clock", (), {"monotonic": staticmethod(loop.time)})
        self._monkeypatch.setattr("chatterbox.engine.admission.time", clock)
        clients = [asyncio.create_task(self._client()) for _ in range(self.clients)]
        await asyncio.sleep(LENGTH_S)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        assert (self.admission.active, self.admission.queued) == (0, 0)

    async def _client(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked, number = loop.time(), next(self._asked)
            try:
                async with self.admission.permit(timeout_s=WAIT_S):
                    self.waits_s.append(loop.time() - asked)
                    self.order.append((number, next(self._served)))
                    await asyncio.sleep(SERVICE_S)
                    self.done += 1
            except Overloaded as refused:
                await asyncio.sleep(refused.retry_after_s)
            except DeadlineExceeded:
                continue


def test_f02_goodput_at_ten_times_the_capacity(monkeypatch):
    alone = Crowd(monkeypatch, PLACES)
    run(alone.run())
    crowd = Crowd(monkeypatch, 10 * PLACES)
    run(crowd.run())
    assert crowd.done >= 0.9 * alone.done
    p99 = statistics.quantiles(crowd.waits_s, n=100)[98]
    assert p99 <= WAIT_S
    # First come, first served: nobody who was let in was overtaken by more than the places.
    accepted = sorted(crowd.order)
    served = [turn for _, turn in accepted]
    assert all(abs(turn - place) < PLACES for place, turn in enumerate(served))


def test_f02_clients_that_ignore_retry_after_gain_nothing(monkeypatch):
    """They are only refused more often."""
    crowd = Crowd(monkeypatch, 10 * PLACES)
    monkeypatch.setattr(Admission, "retry_after_s", lambda self: 0.05)
    run(crowd.run())
    assert crowd.done >= 0.9 * PLACES * LENGTH_S / SERVICE_S


# --- F03


async def test_f03_retry_storm(tmp_path):
    places = {"max_concurrent_requests": 2, "max_queued_requests": 2}
    async with running(tmp_path, engine=places) as rig:
        gate = threading.Event()
        async with rig.fault():
            await rig.quiet()
            rig.model.on_begin = lambda key: gate.wait(60)
            held = [asyncio.create_task(rig.speak(seed=seed)) for seed in range(3)]
            await rig.until(lambda: rig.engine.admission.queued == 2)

            async def stubborn() -> set[int]:
                return {(await rig.speak()).status_code for _ in range(2)}

            statuses = await asyncio.gather(*(stubborn() for _ in range(40)))
            assert set().union(*statuses) == {429}
            assert (await rig.client.get("/health/live")).status_code == 200
            gate.set()
            assert [(await call).status_code for call in held] == [200] * 3


# --- F04, F05


async def test_f04_request_that_waits_too_long_never_reaches_the_model(tmp_path):
    async with running(tmp_path, engine={"max_concurrent_requests": 1}) as rig, rig.fault():
        await rig.quiet()
        begun = []
        rig.model.on_begin = begun.append
        rig.set(first_audio_timeout_s=0.2)
        answer = await rig.speak(voice_id="awb")
        rig.set(first_audio_timeout_s=60)
        error_of(answer, 504, "deadline_exceeded")
        assert not any(key.startswith("awb") for key in begun)


async def test_f05_total_deadline_cuts_off_slow_synthesis(tmp_path):
    """Synthesis slower than speech extends the deadline, but not enough."""
    async with running(tmp_path) as rig:
        body = {"text": GOLDEN["text"], "voice_id": "awb", "seed": 3, "response_format": "pcm"}
        whole = (await rig.speak(**body)).content
        key = (await asyncio.to_thread(rig.engine.voices.get, "awb")).key

        steps, loop = itertools.count(), asyncio.get_running_loop()

        async def a_second_passes() -> None:
            put_forward(1)

        def slow(keys: list[str]) -> None:
            if key in keys and next(steps) > 15:  # it makes a small part of a second
                asyncio.run_coroutine_threadsafe(a_second_passes(), loop).result()

        rig.model.on_step = slow
        async with rig.fault():
            rig.set(request_timeout_s=10)
            reader, writer = await rig.raw(post(body))
            answer = await reader.readuntil(b"\r\n\r\n")
            rig.set(request_timeout_s=120)
            answer += await reader.read(-1)
            writer.close()
            await rig.until(lambda: not rig.model.held)
            assert not answer.endswith(b"0\r\n\r\n")
            assert whole.startswith(_unchunked(answer))
        assert "status=200 outcome=deadline_exceeded" in "\n".join(rig.log.outcomes)


def _unchunked(answer: bytes) -> bytes:
    """Return the body of a chunked response, whose last chunk may be cut."""
    rest = answer.partition(b"\r\n\r\n")[2]
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    assert len(body) > 1000
    return body


# --- F17, F18


@pytest.mark.slow
async def test_f17_one_word_beside_three_hundred_words(tmp_path):
    async with running(tmp_path, request_timeout_s=600) as rig:
        long = " ".join(f"The {SECRET} says number {n} now." for n in range(60))
        calls = [SHORT | {"text": f"{SECRET}."}, GOLDEN | {"text": long, "voice_id": "awb"}]
        alone = [(await rig.speak(**call)).content for call in calls]
        async with rig.fault():
            for _ in range(2):
                together = await asyncio.gather(*(rig.speak(**call) for call in calls))
                assert [answer.content for answer in together] == alone


async def test_f18_model_that_never_stops(tmp_path):
    async with running(tmp_path, engine={"runaway_guard": False}) as rig:
        key = (await asyncio.to_thread(rig.engine.voices.get, "awb")).key
        rig.model.endless.add(key)
        async with rig.fault():
            body = {"text": f"A {SECRET}.", "voice_id": "awb", "max_new_tokens": 50}
            answer = await rig.client.post("/tts/json", json=body)
            assert answer.json()["finish_reason"] == "length"
            assert answer.json()["tokens_generated"] == 50
        assert rig.engine.stats().capped_segments == 1
