"""A sentence that the text layer fails on is skipped; the socket and other contexts go on."""

import msgpack
import pytest
from dialects.live import talking
from harness import until

from chatterbox.engine import preparation
from chatterbox.text import prepare, roman

NATIVE = "/v1/audio/speech/stream"
MULTI = "/v1/text-to-speech/slt/multi-stream-input?output_format=pcm_24000"
GOOD, BAD, ALSO_GOOD = "The first is fine. ", "The broken one is not. ", "The last is fine too. "


@pytest.fixture
def server(mini):
    return mini


@pytest.fixture
def faulty(monkeypatch):
    """Make the text layer fail on `broken`, outside of any rule."""

    def fails(text, *more, **named):
        if "broken" in text:
            raise IndexError("the broken text itself")
        return prepare(text, *more, **named)

    monkeypatch.setattr(preparation, "prepare", fails)


def kind_is(kind: str):
    return lambda message: isinstance(message, dict) and message.get("type") == kind


async def said_natively(talk, name: str | None, *texts: str) -> list[str]:
    context = {"context": name} if name else {}
    for text in texts:
        await talk.say(type="input.text", text=text, **context)
    await talk.say(type="input.done", **context)
    heard = await talk.hear_until(kind_is("session.done"))
    return [m["sentence_text"] for m in heard if kind_is("audio.start")(m)]


@pytest.mark.parametrize("name", [None, "a"])
async def test_the_native_socket_skips_the_sentence(server, faulty, name):
    async with talking(server, NATIVE) as talk:
        await talk.say(type="session.config", response_format="pcm")
        await talk.hear()
        for _ in range(2):
            for text, said in ((GOOD, [GOOD.strip()]), (BAD, []), (ALSO_GOOD, [ALSO_GOOD.strip()])):
                assert await said_natively(talk, name, text) == said
    assert server.outcomes()["internal_error"] >= 2


async def test_on_elevenlabs_multi_socket_the_other_contexts_go_on(server, faulty):
    async with talking(server, MULTI) as talk:
        for name, text in (("a", BAD), ("b", GOOD), ("a", ALSO_GOOD)):
            await talk.say(text=text, context_id=name, flush=True)
        for name in ("a", "b"):
            await talk.say(context_id=name, close_context=True)
        heard: list[dict] = []
        while sum(m.get("isFinal") is True for m in heard) < 2:
            heard.append(await talk.hear())
    assert not any("error" in m for m in heard)
    for name, text in (("a", ALSO_GOOD), ("b", GOOD)):
        times = [m["alignment"] for m in heard if m["contextId"] == name and m.get("alignment")]
        assert "".join(c for t in times for c in t["chars"]).split() == text.split()


async def test_yap_messagepack_and_kyutai_go_on(server, faulty):
    async with talking(server, "/ws/tts") as talk:
        for text, sounds in ((GOOD, True), (BAD, False), (ALSO_GOOD, True)):
            await talk.say(text=text, voice="tara")
            heard = await talk.hear_until(lambda m: m == b"__END__")
            assert (len(heard) > 1) is sounds
    async with talking(server, "/ws") as talk:
        for text, sounds in ((GOOD, True), (BAD, False), (ALSO_GOOD, True)):
            await talk.socket.send(msgpack.packb({"type": "Speak", "text": text, "voice": "tara"}))
            kinds: list[str] = []
            while "EndSpeak" not in kinds:
                kinds.append(msgpack.unpackb(await talk.hear())["type"])
            assert ("Audio" in kinds) is sounds
    sent: list[str] = []
    async with talking(server, "/api/tts_streaming?format=PcmMessagePack") as talk:
        failed = server.outcomes()["internal_error"]
        for word in (BAD + ALSO_GOOD).split():
            await talk.socket.send(msgpack.packb({"type": "Text", "text": word}))
            if word == "The" and BAD.split()[-1] in sent:
                await until(lambda: server.outcomes()["internal_error"] > failed)
            sent.append(word)
        await talk.socket.send(msgpack.packb({"type": "Eos"}))
        code, heard = await talk.closed()
        spoken = [m["text"] for m in map(msgpack.unpackb, heard) if m["type"] == "Text"]
    assert code == 1000
    assert spoken == ALSO_GOOD.split()


async def test_a_rule_that_fails_is_skipped(server, monkeypatch):
    def fails(*_: object) -> str:
        raise ValueError

    monkeypatch.setattr(roman, "cardinal", fails)
    async with talking(server, NATIVE) as talk:
        await talk.say(type="session.config", response_format="pcm")
        await talk.hear()
        text = "World War II is in Chapter IV. "
        assert await said_natively(talk, None, text) == [text.strip()]
