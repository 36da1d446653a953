"""CORS: pages of other sites may call only if `cors_origins` names them."""

import pytest
from harness import SPEECH, serving

from chatterbox.config import ServerConfig, load
from chatterbox.errors import ConfigError

PAGE = "http://tavern.example:8000"
ASKING = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type,authorization",
}


async def test_no_origin_is_allowed_by_default():
    async with serving() as client:
        answer = await client.post("/tts", json=SPEECH, headers={"origin": PAGE})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert (await client.options("/tts", headers=ASKING)).status_code == 405


async def test_configured_origin_may_call_and_read():
    async with serving(cors_origins=f"https://other.example, {PAGE}") as client:
        asked = await client.options("/tts", headers=ASKING)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in asked.headers
        for path in ("/tts", "/v1/audio/speech"):
            answer = await client.post(path, json={}, headers={"origin": PAGE})
            assert answer.status_code == 422
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert "X-Seed" in answer.headers["access-control-expose-headers"]
        refused = await client.options("/tts", headers={**ASKING, "origin": "http://evil.example"})
        assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    "value", ["tavern", "http://a/b", "http://a b", "http://*.a", "ftp://a", ","]
)
def test_malformed_origin_is_a_config_error(value):
    with pytest.raises(ConfigError):
        load(ServerConfig, {"cors_origins": value})
