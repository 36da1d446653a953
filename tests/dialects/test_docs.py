"""docs/reference/dialects.md matches the code; the example in new-dialect.md works."""

import re
from pathlib import Path

import httpx
from harness import FakeEngine, server_config, serving

from chatterbox.audio.encode import FORMATS
from chatterbox.dialects.elevenlabs.http import OUTPUT_FORMATS
from chatterbox.dialects.shared.voice_names import OPENAI_VOICES
from chatterbox.server.app import create_app

PAGES = Path(__file__).resolve().parents[2] / "docs"
DOCS = (PAGES / "reference" / "dialects.md").read_text(encoding="utf-8")
NEW = (PAGES / "inside" / "new-dialect.md").read_text(encoding="utf-8")
TAGS = {"openai", "elevenlabs", "models", "chatterbox-tts-server", "xtts"}


async def test_every_call_is_named():
    async with serving() as client:
        paths = client.app.openapi()["paths"].items()
    for path, methods in paths:
        if TAGS & {tag for call in methods.values() for tag in call["tags"]}:
            last = path.rstrip("/").split("/")[-1]
            assert last.startswith("{") or last in DOCS, path


def test_the_table_of_voice_names_matches_the_code():
    section = DOCS.split("## OpenAI\n")[1].split("## ElevenLabs")[0]
    rows = re.findall(r"\| ([a-z, ]+) \| `(\w+)` \|", section)
    assert {name: voice for names, voice in rows for name in names.split(", ")} == OPENAI_VOICES


def test_every_format_is_named():
    for name, row in FORMATS.items():
        assert f"`{name}`" in DOCS
        assert row.media_type in DOCS
    shown = re.sub(
        r"([\w{},]+)_\{([\d,]+)\}",
        lambda m: " ".join(f"{m[1]}_{rate}" for rate in m[2].split(",")),
        DOCS,
    )
    shown = re.sub(r"\{pcm,wav\}_(\d+)", r"pcm_\1 wav_\1", shown)
    assert [name for name in OUTPUT_FORMATS if name not in shown] == []


async def test_the_complete_example_of_a_dialect_works():
    example: dict = {"__name__": "acme"}
    exec(NEW.split("```python\n")[1].split("```")[0], example)
    engine = FakeEngine()
    app = create_app(engine, server_config(), [example["DIALECT"]])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost"
    ) as client:
        sound = await client.post("/acme/speak", json={"text": "Hello.", "pitch": 2})
        assert sound.content[:4] == b"RIFF"
        assert sound.headers["x-ignored-params"] == "pitch"
        refused = await client.post("/acme/speak", json={"text": ""})
        assert (refused.status_code, refused.json()) == (422, {"fault": "The text is empty."})
    engine.close()
