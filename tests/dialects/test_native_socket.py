"""The native socket, on a real server."""

import asyncio
import io

import pytest
import soundfile
from dialects.live import Gate, kinds, live, talking
from harness import PIECE_SAMPLES, FakeEngine, put_forward, until

from chatterbox.errors import IdleTimeout
from chatterbox.server.socket_server import Socket

PATH = "/v1/audio/speech/stream"
NEVER = 3600.0


def done(message) -> bool:
    return isinstance(message, dict) and message["type"] == "session.done"


def of(kind: str):
    return lambda message: isinstance(message, dict) and message["type"] == kind


@pytest.fixture(scope="module")
def server():
    with live() as server:
        yield server


async def test_the_golden_transcript(server):
    async with talking(server, PATH) as talk:
        await talk.say(type="session.config", voice="slt", response_format="pcm", seed=3)
        for piece in ("The first", " sentence. And", " the"):
            await talk.say(type="input.text", text=piece)
        heard = await talk.hear_until(of("audio.done"))
        await talk.say(type="input.text", text=" second one without a stop")
        await talk.say(type="input.done")
        heard += await talk.hear_until(done)
        assert kinds(heard) == [
            "session.configured",
            *["audio.start", "sound", "audio.done"] * 2,
            "session.done",
        ]
        first, second = (m for m in heard if of("audio.start")(m))
        assert first == {
            "type": "audio.start",
            "sentence_index": 0,
            "sentence_text": "The first sentence.",
            "format": "pcm",
            "sample_rate": 24_000,
            "seed": 3,
        }
        assert second["sentence_text"] == "And the second one without a stop"
        sound_s = sum(len(m) for m in heard if isinstance(m, bytes)) / 48_000
        assert heard[-1]["total_sentences"] == 2
        assert heard[-1]["audio_s"] == pytest.approx(sound_s, abs=1e-3)
        # The socket can be used again, and counts anew.
        await talk.say(type="input.text", text="Once more, please.")
        await talk.say(type="input.done")
        again = await talk.hear_until(done)
        assert again[0]["sentence_index"] == 0
        assert again[-1]["total_sentences"] == 1
        await talk.say(type="session.close")
        assert await talk.closed() == (1000, [])


async def test_code_blocks_is_a_setting_of_the_context():
    with live() as server:
        async with talking(server, PATH) as talk:
            for wanted in ("skip", "speak"):
                await talk.say(type="session.config", code_blocks=wanted)
                await talk.say(type="input.text", text="A sentence.")
                await talk.say(type="input.done")
                await talk.hear_until(done)
                assert server.engine.code_blocks[-1] == wanted
            await talk.say(type="session.config", code_blocks="never")
            code, heard = await talk.closed()
        assert (code, heard[-1]["param"]) == (1008, "code_blocks")


async def test_a_sentence_is_spoken_before_the_next_is_sent(server):
    async with talking(server, PATH) as talk:
        await talk.say(type="input.text", text="The first sentence is whole. The sec")
        heard = await talk.hear_until(of("audio.done"))
        assert kinds(heard) == ["audio.start", "sound", "audio.done"]


@pytest.mark.parametrize("per", ["sentence", "turn"])
async def test_each_sentence_or_the_whole_turn_is_one_file(server, per):
    async with talking(server, PATH) as talk:
        await talk.say(type="session.config", response_format="wav", file_per=per)
        await talk.say(type="input.text", text="The first sentence. ")
        await talk.say(type="input.flush")
        await talk.say(type="input.text", text="The second sentence.")
        await talk.say(type="input.done")
        heard = await talk.hear_until(done)
        sound = b"".join(m for m in heard if isinstance(m, bytes))
        assert sound.count(b"RIFF") == (2 if per == "sentence" else 1)
        if per == "turn":
            samples, rate = soundfile.read(io.BytesIO(sound))
            assert len(samples) / rate == pytest.approx(heard[-1]["audio_s"], abs=1e-3)


async def test_words_have_times(server):
    async with talking(server, PATH) as talk:
        await talk.say(type="session.config", response_format="pcm", word_timestamps=True)
        await talk.say(type="input.text", text="One two three. Four five.")
        await talk.say(type="input.done")
        heard = await talk.hear_until(done)
        words = [w for m in heard if of("audio.words")(m) for w in m["words"]]
        assert [w["word"] for w in words] == ["One", "two", "three.", "Four", "five."]
        assert all(w["start_s"] <= w["end_s"] for w in words)
        assert [w["start_s"] for w in words] == sorted(w["start_s"] for w in words)
        assert words[-1]["end_s"] <= heard[-1]["audio_s"] + 1e-3


async def test_named_contexts_speak_side_by_side(server):
    async with talking(server, PATH) as talk:
        await talk.say(type="session.config", response_format="pcm")
        for name in ("a", "b"):
            await talk.say(type="input.text", context=name, text=f"This is {name} speaking.")
            await talk.say(type="input.done", context=name)
        ended = []
        while len(ended) < 2:
            message = await talk.hear()
            assert not isinstance(message, bytes)
            if done(message):
                ended.append(message["context"])
        assert sorted(ended) == ["a", "b"]


async def test_an_interruption_stops_only_its_context_at_once():
    engine = FakeEngine(script=[PIECE_SAMPLES, NEVER])
    with live(engine) as server:
        async with talking(server, PATH) as talk:
            await talk.say(type="session.config", response_format="pcm")
            for name in ("a", "b"):
                await talk.say(type="input.text", context=name, text="A sentence that never ends. ")
            await until(lambda: engine.open_streams == 2)
            await talk.say(type="input.cancel", context="a")
            heard = await talk.hear_until(of("input.cancelled"))
            assert heard[-1] == {"type": "input.cancelled", "context": "a"}
            assert (engine.open_streams, engine.admission.active) == (1, 1)
            assert server.outcomes() == {"cancelled": 1}
            engine.script = [PIECE_SAMPLES]
            await talk.say(type="input.text", context="a", text="And now this instead.")
            await talk.say(type="input.done", context="a")
            heard = await talk.hear_until(done)
            ours = [m for m in heard if m["context"] == "a"]
            assert kinds(ours) == ["audio.start", "audio.delta", "audio.done", "session.done"]
            assert ours[0]["sentence_text"] == "And now this instead."


async def test_leaving_without_a_goodbye_frees_everything():
    engine = FakeEngine(script=[PIECE_SAMPLES, NEVER])
    with live(engine) as server:
        async with talking(server, PATH) as talk:
            await talk.say(type="input.text", text="A sentence that never ends. ")
            await until(lambda: engine.delivered == 1)
            talk.socket.transport.abort()
        await until(lambda: engine.admission.active == 0)
        assert engine.open_streams == 0
        await until(lambda: server.outcomes() == {"cancelled": 1})


async def test_a_busy_server_closes_with_1013_and_retry_after():
    engine = FakeEngine(capacity=1, queue_capacity=0, script=[PIECE_SAMPLES, NEVER])
    with live(engine) as server:
        async with talking(server, PATH) as one, talking(server, PATH) as other:
            await one.say(type="input.text", text="A sentence that never ends. ")
            await until(lambda: engine.admission.active == 1)
            await other.say(type="input.text", context="x", text="Is there room for me? ")
            await other.say(type="input.flush", context="x")
            refused = await other.hear()
            assert (refused["code"], refused["close_code"]) == ("overloaded", 1013)
            assert (refused["context"], refused["retry_after_s"] >= 1) == ("x", True)
            await other.say(type="input.text", text="And without a name? ")
            code, heard = await other.closed()
            assert (code, kinds(heard)) == (1013, ["error"])


@pytest.mark.parametrize(
    ("message", "code", "word"),
    [
        (b"\x00\x01", 1003, "unsupported_media_type"),
        ("{", 1007, "invalid_body"),
        ("[" * 5000, 1007, "invalid_body"),
        ("[]", 1007, "invalid_body"),
        ('{"type": "nonsense"}', 1008, "invalid_value"),
        ('{"type": "input.text"}', 1008, "invalid_value"),
        ('{"type": "input.text", "text": "\\ud800"}', 1008, "invalid_text"),
        ('{"type": "input.text", "text": "a", "context": 7}', 1008, "invalid_value"),
        ('{"type": "session.config", "voice": "nobody"}', 1008, "voice_not_found"),
        ('{"type": "session.config", "response_format": "exe"}', 1008, "invalid_value"),
        ('{"type": "session.config", "temperature": 99}', 1008, "invalid_value"),
        ('{"type": "input.text", "text": "%s"}' % ("a" * 6000), 1008, "text_too_long"),
    ],
)
async def test_f28_unreadable_messages(server, message, code, word):
    before = len(server.engine.requests)
    async with talking(server, PATH) as talk:
        await talk.socket.send(message)
        closed, heard = await talk.closed()
        assert (closed, [m["code"] for m in heard]) == (code, [word])
        assert len(server.engine.requests) == before


async def test_f28_a_frame_that_is_too_large_or_not_text(server):
    async with talking(server, PATH) as talk:
        await talk.socket.send("x" * (64 * 1024 + 1))
        assert (await talk.closed())[0] == 1009
    async with talking(server, PATH) as talk:
        await talk.socket.send(b"\xff\xfe", text=True)
        assert (await talk.closed())[0] == 1007


async def test_f28_many_tiny_frames(server):
    async with talking(server, PATH) as talk:
        await talk.say(type="session.config", response_format="pcm")
        for letter in "Many tiny pieces make one sentence. " * 20:
            await talk.say(type="input.text", text=letter)
        await talk.say(type="input.done")
        heard = await talk.hear_until(done)
        said = " ".join(m["sentence_text"] for m in heard if of("audio.start")(m))
        assert said == ("Many tiny pieces make one sentence. " * 20).strip()


async def test_ignored_fields_are_named(server):
    async with talking(server, PATH) as talk:
        await talk.say(type="session.config", speed=1.5, instructions="shout", model="tts-1")
        assert (await talk.hear())["ignored"] == ["instructions"]


async def test_an_idle_socket_is_closed_but_not_during_speech():
    gate = Gate()
    engine = FakeEngine(script=[PIECE_SAMPLES, gate, PIECE_SAMPLES])
    with live(engine, websocket_idle_timeout_s=10) as server:
        async with talking(server, PATH) as talk:
            await talk.say(type="input.text", text="This takes its time. ")
            await talk.hear_until(lambda message: isinstance(message, bytes))
            server.put_forward(11)
            await (await talk.socket.ping())  # it is still there
            gate.opened.set()
            await talk.hear_until(of("audio.done"))
            server.put_forward(11)
            code, heard = await talk.closed()
            assert kinds(heard) == ["error"]
            assert (code, heard[-1]["code"]) == (1008, "idle_timeout")


async def test_contexts_above_the_limit_are_refused(server):
    async with talking(server, PATH) as talk:
        for nth in range(17):
            await talk.say(type="input.text", context=f"c{nth}", text="unfinished")
        code, heard = await talk.closed()
        assert (code, heard[-1]["code"]) == (1013, "overloaded")


async def test_a_deadline_in_mid_speech_is_an_error(server):
    engine = FakeEngine(script=[PIECE_SAMPLES, NEVER])
    with live(engine, request_timeout_s=0.1) as slow:
        async with talking(slow, PATH) as talk:
            await talk.say(type="input.text", text="A sentence that never ends. ")
            code, heard = await talk.closed()
            assert (code, heard[-1]["code"]) == (1011, "deadline_exceeded")
            assert engine.admission.active == 0


async def test_a_slow_reader_waits_for_itself_only():
    engine = FakeEngine(script=[PIECE_SAMPLES * 100] * 200)
    with live(engine) as server:
        async with server.connect(PATH, max_queue=1) as slow, talking(server, PATH) as quick:
            await slow.send('{"type": "session.config", "response_format": "pcm"}')
            await slow.send('{"type": "input.text", "text": "I do not read what I get. "}')
            await until(lambda: engine.delivered >= 1)
            await asyncio.sleep(0.2)
            stuck_at = engine.delivered
            assert stuck_at < 200
            engine.script = [PIECE_SAMPLES]
            await quick.say(type="input.text", text="But I do, as it comes.")
            await quick.say(type="input.done")
            assert done((await quick.hear_until(done))[-1])
            assert engine.admission.active == 1
            slow.transport.abort()


class Unheard:
    """A client that sends nothing, and receives a message after 0.6 of the idle time."""

    def __init__(self) -> None:
        self.query_params = self.path_params = {}
        self.socket = Socket(self, idle_s=10)
        self.told_at = 0.0

    async def receive(self) -> dict:
        if not self.told_at:
            put_forward(0.6 * self.socket.idle_s)
            self.told_at = asyncio.get_running_loop().time()
            await self.socket.send("news")
            put_forward(0.99 * self.socket.idle_s)
        await asyncio.sleep(60)
        return {}

    async def send_text(self, data: str) -> None:
        pass


async def test_idle_time_counts_from_the_last_message_in_either_direction():
    client = Unheard()
    with pytest.raises(IdleTimeout):
        await client.socket.receive()
    assert asyncio.get_running_loop().time() - client.told_at >= client.socket.idle_s
