"""ElevenLabs' sockets, on a real server."""

import asyncio
import base64
import io

import pytest
import soundfile
from dialects.live import live, talking
from elevenlabs import realtime_tts
from elevenlabs.client import ElevenLabs
from harness import PIECE_SAMPLES, FakeEngine, until

SINGLE = "/v1/text-to-speech/slt/stream-input?output_format=pcm_24000"
MULTI = "/v1/text-to-speech/slt/multi-stream-input?output_format=pcm_24000"
NEVER = 3600.0


def final(message) -> bool:
    return message.get("isFinal") is True


def sound(messages) -> bytes:
    return b"".join(base64.b64decode(m["audio"]) for m in messages if m.get("audio"))


def text(messages) -> str:
    return "".join("".join(m["alignment"]["chars"]) for m in messages if m.get("alignment"))


def check_alignment(messages, *, clock: bool) -> None:
    """Check that each message's characters cover exactly its audio, timed from the message or, with
    sync_alignment, from the context."""
    at_ms = 0.0
    for message in messages:
        if not message.get("audio"):
            continue
        times = message["alignment"]
        assert message["normalizedAlignment"] == times
        starts, durations = times["charStartTimesMs"], times["charDurationsMs"]
        assert len(times["chars"]) == len(starts) == len(durations) > 0
        assert starts[0] == pytest.approx(at_ms if clock else 0, abs=1.5)
        for start, length, following in zip(starts, durations, starts[1:], strict=False):
            assert start + length == following
        length_ms = len(base64.b64decode(message["audio"])) / 48
        assert starts[-1] + durations[-1] - starts[0] == pytest.approx(length_ms, abs=2)
        at_ms += length_ms


@pytest.fixture(scope="module")
def server():
    script = [PIECE_SAMPLES * 13, PIECE_SAMPLES, PIECE_SAMPLES * 2]
    with live(FakeEngine(script=script)) as server:
        yield server


@pytest.mark.parametrize("clock", [False, True])
async def test_the_golden_transcript_of_one_stream(server, clock):
    query = "&sync_alignment=true" if clock else ""
    async with talking(server, SINGLE + query) as talk:
        await talk.say(
            text=" ",
            voice_settings={"stability": 0.5},
            generation_config={"chunk_length_schedule": [50]},
            xi_api_key="any",
        )
        for word in ("Hello ", "there, ", "my ", "friend. ", "How ", "are ", "you "):
            await talk.say(text=word, try_trigger_generation=True)
        await talk.say(text="today?", flush=True)
        await talk.say(text="And this is the rest of it.")
        await talk.say(text="")
        await talk.say(text="after the end")
        code, heard = await talk.closed()
    assert code == 1000
    assert heard[-1] == {
        "audio": None,
        "isFinal": True,
        "alignment": None,
        "normalizedAlignment": None,
    }
    assert all(m["isFinal"] is False and "message" not in m for m in heard[:-1])
    assert text(heard) == "Hello there, my friend. How are you today? And this is the rest of it."
    check_alignment(heard, clock=clock)


async def test_audio_is_sent_before_the_text_is_complete(server):
    async with talking(server, SINGLE) as talk:
        await talk.say(text=" ")
        await talk.say(text="The first sentence is whole. The second")
        assert sound([await talk.hear()])


async def test_a_schedule_delays_short_text_and_a_trigger_releases_it(server):
    async with talking(server, SINGLE) as talk:
        await talk.say(text=" ", generation_config={"chunk_length_schedule": [120, 50]})
        await talk.say(text="One short sentence. ")
        await talk.say(text="Another short one. ")
        await asyncio.sleep(0.1)
        before = len(server.engine.requests)
        await talk.say(text="And a third. ", try_trigger_generation=True)
        await talk.hear()
        assert len(server.engine.requests) == before + 1
        assert server.engine.requests[-1].text.count(".") == 3


async def test_mp3_is_the_default_and_one_file(server):
    async with talking(server, SINGLE.split("?")[0]) as talk:
        await talk.say(text=" ")
        await talk.say(text="The first of two sentences. ", flush=True)
        await talk.say(text="The second of two sentences. ")
        await talk.say(text="")
        _, heard = await talk.closed()
    samples, rate = soundfile.read(io.BytesIO(sound(heard)))
    assert rate == 44_100
    assert len(samples) / rate == pytest.approx(2 * 1.6 + 0.12, abs=0.1)


@pytest.mark.parametrize(
    ("path", "code", "word"),
    [
        ("/v1/text-to-speech/nobody/stream-input", 1008, "voice_not_found"),
        ("/v1/text-to-speech/nobody/multi-stream-input", 1008, "voice_not_found"),
        (SINGLE.replace("pcm_24000", "exe"), 1008, "invalid_value"),
        (SINGLE + "&inactivity_timeout=999", 1008, "invalid_value"),
        (SINGLE + "&inactivity_timeout=0.05", 1008, "input_timeout_exceeded"),
        (MULTI + "&inactivity_timeout=0.05", 1008, "input_timeout_exceeded"),
    ],
)
async def test_errors(server, path, code, word):
    async with talking(server, path) as talk:
        closed, heard = await talk.closed()
        assert closed == heard[-1]["code"] == code
        assert (heard[-1]["error"], bool(heard[-1]["message"])) == (word, True)


@pytest.mark.parametrize("path", [SINGLE, MULTI])
async def test_a_premade_voice_speaks(server, path):
    async with talking(server, path.replace("/slt/", "/JBFqnCBsd6RMkjVDRZzb/")) as talk:
        await talk.say(text="Hello there. ", flush=True)
        await talk.say(text="", close_socket=True)
        closed, heard = await talk.closed()
    assert closed in (1000, 1005)
    assert sound(heard)


async def test_the_golden_transcript_of_contexts(server):
    async with talking(server, MULTI + "&auto_mode=true") as talk:
        await talk.say(text="")  # keeps awake, and opens nothing
        await talk.say(text=" ", context_id="a", voice_settings={"speed": 1})
        await talk.say(text="This is the first context.", context_id="a")
        await talk.say(text=" ", contextId="b")
        await talk.say(text="And this is the second one.", contextId="b")
        await talk.say(text="", context_id="a")  # keeps awake, and ends nothing
        await talk.say(text="It has two sentences.", context_id="a")
        for name in ("a", "b"):
            await talk.say(context_id=name, flush=True)
            await talk.say(context_id=name, close_context=True)
        heard = []
        while sum(map(final, heard)) < 2:
            heard.append(await talk.hear())
        await talk.say(close_socket=True)
        assert await talk.closed() == (1000, [])
    assert all(m["contextId"] == m["context_id"] for m in heard)
    for name, said in (
        ("a", "This is the first context. It has two sentences."),
        ("b", "And this is the second one."),
    ):
        ours = [m for m in heard if m["contextId"] == name]
        assert final(ours[-1]) and not any(map(final, ours[:-1]))
        assert text(ours) == said
        check_alignment(ours, clock=False)


@pytest.mark.parametrize("flushed", [False, True])
async def test_closing_a_context_without_a_flush_stops_it(flushed):
    engine = FakeEngine(script=[PIECE_SAMPLES, NEVER])
    with live(engine) as server:
        async with talking(server, MULTI) as talk:
            for name in ("a", "b"):
                await talk.say(text="A sentence that never ends. And more", context_id=name)
            await until(lambda: engine.open_streams == 2)
            if flushed:  # a turn that was complete, closed, and then interrupted
                await talk.say(context_id="a", flush=True)
                await talk.say(context_id="a", close_context=True)
            await talk.say(context_id="a", close_context=True)
            heard = await talk.hear_until(final)
            assert heard[-1]["contextId"] == "a"
            assert (engine.open_streams, engine.admission.active) == (1, 1)
            assert server.outcomes() == {"cancelled": 1}
            # The name is free again.
            engine.script = [PIECE_SAMPLES]
            await talk.say(text="Something else instead.", context_id="a", flush=True)
            await talk.say(context_id="a", close_context=True)
            heard = await talk.hear_until(final)
            assert text(m for m in heard if m["contextId"] == "a") == "Something else instead."
            await talk.say(close_socket=True)
            code, rest = await talk.closed()
            assert code == 1000
            assert [m["contextId"] for m in rest if final(m)] == ["b"]


async def test_a_context_above_the_limit_is_refused_alone(server):
    async with talking(server, MULTI) as talk:
        for nth in range(17):
            await talk.say(text=" ", context_id=f"c{nth}")
        refused = await talk.hear()
        assert (refused["error"], refused["context_id"]) == ("system_busy", "c16")
        await talk.say(text="The others go on.", context_id="c0", flush=True)
        assert (await talk.hear())["context_id"] == "c0"


async def test_in_auto_mode_a_flush_with_text_does_not_end_the_turn():
    engine = FakeEngine(script=[PIECE_SAMPLES, NEVER])
    with live(engine) as server:
        async with talking(server, MULTI + "&auto_mode=true") as talk:
            await talk.say(text="A sentence that never ends. ", context_id="a", flush=True)
            await until(lambda: engine.delivered == 1)
            await talk.say(context_id="a", close_context=True)
            assert (await talk.hear_until(final))[-1]["contextId"] == "a"
            assert engine.admission.active == 0


async def test_one_context_fails_alone():
    engine = FakeEngine(capacity=1, queue_capacity=0, script=[PIECE_SAMPLES, NEVER])
    with live(engine) as server:
        async with talking(server, MULTI) as talk:
            await talk.say(text="A sentence that never ends. ", context_id="a", flush=True)
            await until(lambda: engine.delivered == 1)
            await talk.say(text="No room for this one. ", context_id="b", flush=True)
            heard = await talk.hear_until(lambda m: "error" in m)
            assert heard[-1]["error"] == "system_busy"
            assert (heard[-1]["code"], heard[-1]["contextId"]) == (1013, "b")
            assert engine.admission.active == 1


@pytest.mark.filterwarnings("ignore:ConnectionClosed.code is deprecated:DeprecationWarning")
async def test_the_sdk_speaks_in_real_time(server, monkeypatch):
    # It builds wss:// whatever its base is; there is no TLS here.
    plain = realtime_tts.connect
    monkeypatch.setattr(
        realtime_tts, "connect", lambda url, **more: plain(url.replace("wss:", "ws:"), **more)
    )
    written = ["Hello there, ", "this is the first sentence. ", "And this ", "is more of it."]

    def speak() -> list[bytes]:
        client = ElevenLabs(api_key="any", base_url=server.http)
        return list(
            client.text_to_speech.convert_realtime(
                "slt", text=iter(written), model_id="eleven_flash_v2_5", output_format="pcm_24000"
            )
        )

    before = len(server.engine.requests)
    pieces = await asyncio.to_thread(speak)
    said = " ".join(request.text for request in server.engine.requests[before:])
    assert said.split() == "".join(written).split()
    assert len(b"".join(pieces)) > 48_000
