"""Sockets when the process is asked to stop."""

import signal

import pytest
from dialects.live import Talk
from server.process import running
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def test_what_is_spoken_is_spoken_to_its_end_and_new_text_is_told_to_go():
    with running() as server:
        url = server.url.replace("http", "ws") + "/v1/audio/speech/stream"
        async with connect(url) as busy, connect(url) as idle:
            talk = Talk(busy)
            await talk.say(type="input.text", context="a", text="This takes half a second. ")
            assert (await talk.hear())["type"] == "audio.start"
            server.process.send_signal(signal.SIGTERM)
            heard = await talk.hear_until(lambda m: m["type"] in ("audio.done", "error"))
            assert heard[-1]["type"] == "audio.done"
            with pytest.raises(ConnectionClosed):
                await idle.recv()
            assert idle.close_code == 1012
        code, log = server.ended()
        assert code == 128 + signal.SIGTERM
        assert "WS /v1/audio/speech/stream" in log
        assert "Traceback" not in log
        assert "[accepted]" not in log
