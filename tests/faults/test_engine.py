"""Section E: faults of the engine. Rows F41 to F50."""

import asyncio
import threading
import time

import numpy as np
import pytest
from faults.calls import heard_some
from faults.harness import GOLDEN, SECRET, SHORT, running
from harness import error_of
from voices.clips import babble, encoded

from chatterbox.engine.sampler import Sampler
from chatterbox.errors import EXIT_ENGINE_DEAD, EXIT_STALLED
from chatterbox.families.base import Rendered

NO_MEMORY = "bfc_arena.cc:376 AllocateRawInternal: Failed to allocate memory for requested buffer"
STICKY = "CUDA failure 700: an illegal memory access was encountered ; GPU=0"


async def other_voice(rig, name: str = "awb") -> str:
    """The key of another voice than the golden request's, so that a fault can be its own."""
    return (await asyncio.to_thread(rig.engine.voices.get, name)).key


def raising(fault: Exception, key: str):
    """A hook that raises for rows of one voice."""

    def hook(keys) -> None:
        if key in (keys if isinstance(keys, list) else [keys]):
            raise fault

    return hook


async def company(rig, **bad: object):
    """A request that goes wrong between two that must not notice."""
    good = [rig.speak(**(GOLDEN | {"seed": seed})) for seed in (21, 22)]
    return await asyncio.gather(good[0], rig.speak(**(bad | {"stream": False})), good[1])


async def alone(rig) -> list[bytes]:
    return [(await rig.speak(**(GOLDEN | {"seed": seed}))).content for seed in (21, 22)]


def nan_logits(rig, key: str) -> None:
    rig.model.poison.add(key)


def id_out_of_range(rig, key: str) -> None:
    sample = Sampler.sample

    def broken(sampler, logits, slots):
        keys = [rig.model.held[slot][1][0] for slot in slots]
        if key in keys:
            raise IndexError("index 6563 is out of bounds")
        return sample(sampler, logits, slots)

    rig.patch.setattr(Sampler, "sample", broken)


def prefill_raises(rig, key: str) -> None:
    rig.model.on_begin = raising(ValueError("no such shape"), key)


def step_raises(rig, key: str) -> None:
    rig.model.on_step = raising(ValueError("no such code"), key)


def _decoded(rig, key: str, change) -> None:
    run = rig.decoder.run

    def broken(jobs):
        return [
            change(result) if job.stream.voice.key == key else result
            for job, result in zip(jobs, run(jobs), strict=True)
        ]

    rig.decoder.run = broken


def empty_decode(rig, key: str) -> None:
    _decoded(rig, key, lambda result: Rendered(result.samples[:0], result.at))


def nan_decode(rig, key: str) -> None:
    _decoded(rig, key, lambda result: Rendered(result.samples * np.nan, result.at))


def late_decode(rig, key: str) -> None:
    """Sound that begins too late to be joined."""
    _decoded(rig, key, lambda result: Rendered(result.samples, result.at + 960))


def decoder_raises(rig, key: str) -> None:
    rig.decoder.fail_for.add(key)


def stream_cannot_open(rig, key: str) -> None:
    open_ = rig.decoder.open

    def broken(voice, seed):
        if voice.key == key:
            raise ValueError("a prompt of the wrong width")
        return open_(voice, seed)

    rig.decoder.open = broken


SLOW = pytest.mark.slow
F41 = [nan_logits, empty_decode]
F42 = [prefill_raises, late_decode]
MORE = [step_raises, id_out_of_range, nan_decode, decoder_raises, stream_cannot_open]


@pytest.mark.parametrize("fault", F41 + F42 + [pytest.param(fault, marks=SLOW) for fault in MORE])
async def test_f41_f42_a_faulty_row_fails_alone(tmp_path, fault):
    async with running(tmp_path, engine={"decoder_rows": 4}) as rig:
        right = await alone(rig)
        fault(rig, await other_voice(rig))
        async with rig.fault():
            first, bad, second = await company(rig, voice_id="awb")
            error_of(bad, 500, "generation_failed")
            assert [first.content, second.content] == right


async def test_f42_a_text_that_cannot_be_read_is_its_own_fault(rig):
    prompt = rig.engine.parts.prompts.prompt

    def broken(text: str, voice):
        if "bad" in text:
            raise KeyError("no such piece")
        return prompt(text, voice)

    rig.engine.parts.prompts.prompt = broken
    async with rig.fault():
        await rig.quiet()
        steps = rig.model.steps
        error_of(await rig.speak(f"My good {SECRET}. My bad {SECRET}."), 500, "internal_error")
        await rig.until(lambda: not rig.model.held)
        assert rig.model.steps - steps < 5, "a segment without a reader goes on"


async def test_f41_in_mid_stream_the_answer_is_cut(tmp_path):
    async with running(tmp_path, engine={"runaway_guard": False}) as rig:
        key = await other_voice(rig)
        rig.model.endless.add(key)
        async with rig.fault():
            reader, writer = await heard_some(rig, SHORT | {"voice_id": "awb"})
            rig.model.poison.add(key)
            rest = await reader.read()
            writer.close()
            assert not rest.endswith(b"0\r\n\r\n")
        assert "status=200 outcome=generation_failed" in " ".join(rig.log.outcomes)


@pytest.mark.parametrize("step", [1, 11, pytest.param(37, marks=SLOW)])
async def test_f43_every_request_is_told_of_a_dead_engine(rig, step):
    begun = rig.model.steps
    async with rig.fault(live=503, ready=503, golden=False):

        def dies(_keys) -> None:
            if rig.model.steps >= begun + step:
                raise RuntimeError(STICKY)

        begun = rig.model.steps
        rig.model.on_step = dies
        calls = [rig.speak(**(GOLDEN | {"seed": seed, "stream": False})) for seed in range(6)]
        started = time.monotonic()
        for answer in await asyncio.gather(*calls):
            error_of(answer, 503, "engine_dead")
            assert "retry-after" in answer.headers
        assert time.monotonic() - started < 10
        error_of(await rig.speak(), 503, "engine_dead")


async def test_f43_a_device_lost_in_the_decoder_or_the_encoder_ends_it_too(tmp_path):
    for where in ("decoder", "encoder"):
        async with running(tmp_path / where) as rig:

            def broken(*_arguments):
                raise RuntimeError(STICKY)

            async with rig.fault(live=503, ready=503, golden=False):
                if where == "decoder":
                    rig.decoder.run = broken
                    answer = await rig.speak()
                else:
                    rig.encoder.encode = broken
                    answer = await rig.speak(voice_id="rms")
                error_of(answer, 503, "engine_dead")


async def test_f44_half_of_the_batch_where_memory_does_not_suffice(tmp_path):
    async with running(tmp_path, engine={"decoder_rows": 4}) as rig:
        right = await alone(rig)
        most = 2

        def small(keys: list[str]) -> None:
            if len(keys) > most:
                raise RuntimeError(NO_MEMORY)

        run = rig.decoder.run

        def small_decoder(jobs):
            small([job.stream.voice.key for job in jobs])
            return run(jobs)

        rig.model.on_step, rig.decoder.run = small, small_decoder
        async with rig.fault():
            calls = [rig.speak(**(GOLDEN | {"seed": seed})) for seed in (21, 22, 21, 22)]
            answers = await asyncio.gather(*calls)
        assert [answer.content for answer in answers] == [*right, *right]
        rig.model.on_step = raising(RuntimeError(NO_MEMORY), await other_voice(rig))
        async with rig.fault():
            first, none, second = await company(rig, **(SHORT | {"voice_id": "awb"}))
            error_of(none, 503, "out_of_memory")
            assert 1 <= int(none.headers["retry-after"]) <= 30
            assert [first.content, second.content] == right
        async with rig.fault():  # the engine lives
            assert (await rig.speak()).status_code == 200


@pytest.mark.parametrize("times", [1, 2])
async def test_f44_a_prefill_without_memory_is_tried_again_once(rig, times):
    key = await other_voice(rig)
    left = times

    def full(voice_key: str) -> None:
        nonlocal left
        if voice_key == key and left:
            left -= 1
            raise RuntimeError(NO_MEMORY)

    rig.model.on_begin = full
    async with rig.fault():
        answer = await rig.speak(voice_id="awb")
        if times == 1:
            assert answer.status_code == 200
        else:
            error_of(answer, 503, "out_of_memory")


async def test_f45_no_memory_to_encode_a_voice(rig):
    encode = rig.encoder.encode

    def full(*_):
        raise RuntimeError(NO_MEMORY)

    async with rig.fault():
        rig.encoder.encode = full
        answer = await rig.client.post("/voices/register", files=_recording())
        error_of(answer, 503, "out_of_memory")
        assert "retry-after" in answer.headers
        assert all(info.built_in for info in rig.engine.voices.list())
        rig.encoder.encode = encode
        answer = await rig.client.post("/voices/register", files=_recording())
        assert answer.status_code == 201


def _recording() -> dict:
    return {"voice_file": ("me.wav", encoded(babble(6)), "audio/wav")}


@pytest.mark.parametrize(
    "where", ["step", pytest.param("prefill", marks=SLOW), pytest.param("decode", marks=SLOW)]
)
def test_f46_what_hangs_is_found_and_ended(process, tmp_path, where):
    settings = {"at": where, "notice_s": 3, "server": {"stall_timeout_s": 0.6}}
    with process(tmp_path, fault="hang", **settings) as server:
        server.arm()
        with server.raw(SHORT) as connection:
            server.until(lambda: server.status("live") == 503)
            assert server.client.get("/health").json()["status"] == "dead"  # HTTP still answers
            assert b"engine_dead" in _until_closed(connection)
        assert server.ended() == EXIT_STALLED
        assert "has hung for 0.6 s" in server.log
        assert "in hang" in server.log  # the stacks
        assert "most recent call first" in server.log


def _until_closed(connection):
    """Head and body may come in pieces."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


@SLOW
def test_f47_a_step_that_is_slow_is_none_that_hangs(process, tmp_path):
    """Each takes a quarter of what is allowed; several in a row take longer."""
    with process(tmp_path, fault="slow", server={"stall_timeout_s": 3.2}) as server:
        server.arm()
        with server.raw(SHORT):
            server.until(lambda: server.metrics()["codes"] >= 6)
            assert server.status("live") == 200
        assert "hung" not in server.log


@pytest.mark.parametrize("fault", ["sticky", pytest.param("killed", marks=SLOW)])
def test_f43_f50_a_dead_engine_ends_the_process(process, tmp_path, fault, right):
    with process(tmp_path, fault=fault, notice_s=3) as server:
        server.arm()
        started = time.monotonic()
        error = server.speak(SHORT).json()["error"]
        assert error["code"] == "engine_dead"
        assert (server.status("live"), server.status("ready")) == (503, 503)
        assert server.ended() == EXIT_ENGINE_DEAD
        assert time.monotonic() - started < 30
    (tmp_path / "armed").unlink()
    with process(tmp_path) as server:  # what a supervisor does
        assert server.speak(GOLDEN).content == right(GOLDEN)


@pytest.mark.parametrize("where", ["scheduler.Scheduler.runnable", "vocoding_loop.select_batch"])
@pytest.mark.parametrize("fault", [MemoryError, pytest.param(SystemExit, marks=SLOW)])
async def test_f50_no_thread_ends_unnoticed(rig, where, fault):
    async with rig.fault(live=503, ready=503, golden=False):

        def killed(*_):
            raise fault

        rig.patch.setattr(f"chatterbox.engine.{where}", killed)
        error_of(await rig.speak(), 503, "engine_dead")


async def test_f48_probes_cost_nothing(rig):
    async with rig.fault():
        await rig.quiet()
        steps, begun = rig.model.steps, rig.model.begun
        for _ in range(100):
            for probe in ("live", "ready"):
                assert (await rig.client.get(f"/health/{probe}")).status_code == 200
        assert (rig.model.steps, rig.model.begun) == (steps, begun)


async def test_f49_probes_answer_while_every_pool_is_blocked(tmp_path):
    async with running(tmp_path) as rig, rig.fault():
        release = threading.Event()
        stuck = [asyncio.to_thread(release.wait) for _ in range(40)]
        waiting = asyncio.gather(*stuck)
        for _ in range(rig.engine.config.voice_workers + 2):
            rig.engine.pool.submit(release.wait)
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            for probe in ("live", "ready"):
                assert (await rig.client.get(f"/health/{probe}")).status_code == 200
        release.set()
        await waiting
