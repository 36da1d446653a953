"""Sockets of a process that is told to stop."""

import signal

import pytest
from dialects.live import Talk
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def test_a_draining_server_finishes_speech_and_refuses_new_text(process, tmp_path):
    with process(tmp_path, tones="") as server:
        url = server.url.replace("http", "ws") + "/v1/audio/speech/stream"
        async with connect(url) as busy, connect(url) as idle:
            talk = Talk(busy)
            await talk.say(type="input.text", context="a", text="This takes half a second. ")
            assert (await talk.hear())["type"] == "audio.start"
            server.signal()
            heard = await talk.hear_until(lambda m: m["type"] in ("audio.done", "error"))
            assert heard[-1]["type"] == "audio.done"
            with pytest.raises(ConnectionClosed):
                await idle.recv()
            assert idle.close_code == 1012
        assert server.ended() == 128 + signal.SIGTERM
        log = server.log
        assert "WS /v1/audio/speech/stream" in log
        assert "Traceback" not in log
        assert "[accepted]" not in log
