"""`/openapi.json`: every example runs, every conversation is had, every error says what to do."""

import json
import re
import subprocess
from collections import defaultdict

import httpx
import msgpack
import pytest
from dialects.live import clip, talking

from chatterbox.dialects.registry import CONVERSATIONS
from chatterbox.errors import error_table
from chatterbox.server.reference import ANSWERS, ORIGIN, socket_routes
from tools.reference_tables import app

SCHEMA = app().openapi()
OURS = {"speech", "voices"}
CALLS = [
    pytest.param(
        path,
        call,
        id=f"{method} {path}",
        marks=() if OURS & {*call["tags"]} else pytest.mark.slow,
    )
    for path, methods in SCHEMA["paths"].items()
    for method, call in methods.items()
]
NEEDS_ORPHEUS = "/v1/completions"
NATIVE = "/v1/audio/speech/stream"
FURTHER = {
    NATIVE: [
        (">", {"type": "input.text", "context": "a", "text": "Hello there. "}),
        (">", {"type": "input.done", "context": "a"}),
        ("<", {"type": "audio.delta"}),
        ("<", {"type": "session.done"}),
        (">", {"type": "input.cancel", "context": "b"}),
        ("<", {"type": "input.cancelled"}),
        (">", {"type": "input.sing", "context": "b"}),
        ("<", {"type": "error"}),
    ],
    "/ws": [
        (">", {"type": "Text", "text": "Hello."}),
        (">", {"type": "Eos"}),
        ("<", {"type": "Eos"}),
        (">", {"type": "Marker"}),
        ("<", {"type": "Marker"}),
        (">", {"type": "Sing"}),
        ("<", {"type": "Error"}),
    ],
}
"""What no example has."""
ANYWHERE = {"type", "context"}
PERHAPS = {"retry_after_s", "report", "imported", "language", "description", "has_more"}
"""Not in every message or answer of its kind."""


def made_for(example: str, server, folder) -> str:
    """The example with what it changes: a voice `me`, its export, a consent."""
    example = example.replace(ORIGIN, server.http)
    if not re.search(r"\bme\b|CONSENT", example):
        return example
    with httpx.Client(base_url=server.http) as client:
        client.delete("/voices/me")
        files = {"voice_file": clip()}
        client.post("/voices/register", files=files, data={"name": "me"}).raise_for_status()
        client.put("/voices/me/aliases/emma")
        (folder / "me.voice").write_bytes(client.get("/voices/me/export").content)
        consents = "/v1/audio/voice_consents"
        consent = client.post(consents, files={"recording": clip()}, data={"name": "me"}).json()
    return example.replace("CONSENT_ID", consent["id"])


@pytest.mark.parametrize(("path", "call"), CALLS)
def test_the_example_of_a_call_runs(path, call, server, folder, request):
    (example,) = call["x-codeSamples"]
    line = made_for(example["source"], server, folder)
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=300)
    if fields := ANSWERS.get(request.node.callspec.id):
        assert {*json.loads(done.stdout)} | PERHAPS == {*fields} | PERHAPS
    if path == NEEDS_ORPHEUS:
        assert "CHATTERBOX_MODEL=orpheus" in done.stdout
    else:
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_every_socket_has_its_conversation():
    assert {route.path for route in socket_routes(app().routes)} == {*CONVERSATIONS}
    assert [said["path"] for said in SCHEMA["x-sockets"]] == [*CONVERSATIONS]


def test_every_error_says_what_to_do():
    assert all(error.remedy for error in error_table().values())


def test_fields_say_what_they_take():
    fields = SCHEMA["paths"]["/tts"]["post"]["requestBody"]["content"]["application/json"]
    properties = fields["schema"]["properties"]
    assert 24000 in properties["sample_rate"]["anyOf"][0]["enum"]
    assert "opus" in properties["response_format"]["enum"]
    assert [name for name, field in properties.items() if "description" not in str(field)] == []


@pytest.mark.parametrize("path", CONVERSATIONS)
async def test_a_conversation_is_had_as_the_reference_says(server, path):
    (said,) = (each for each in SCHEMA["x-sockets"] if each["path"] == path)
    packed, sent = "MessagePack" in said["encoding"], defaultdict(set)
    example = [(each["from"], each["message"]) for each in said["example"]]
    query = "?format=PcmMessagePack" if path == "/api/tts_streaming" else ""
    async with talking(server, path.format(voice_id="slt") + query) as talk:
        for who, message in [*example, *FURTHER.get(path, [])]:
            if who == ">" and not is_closing(message):
                await talk.socket.send((msgpack.packb if packed else json.dumps)(message))
            while who == "<":
                heard = read(await talk.socket.recv(), packed=packed)
                sent[kind_of(heard, said)] |= {*heard} if isinstance(heard, dict) else set()
                if kind_of(heard, said) == kind_of(message, said):
                    break
    tables = {each["name"]: {*each["schema"]["properties"]} for each in said["server"]}
    for kind, fields in sent.items():
        assert fields - ANYWHERE == tables[kind] - (PERHAPS - fields), kind


def is_closing(message: dict) -> bool:
    """Not sent: more is asked on the same socket."""
    return message in ({"type": "session.close"}, {"close_socket": True})


def read(frame, *, packed: bool):
    if isinstance(frame, str):
        return json.loads(frame)
    return msgpack.unpackb(frame) if packed else frame


def kind_of(message, said) -> str:
    """As the table of messages calls it."""
    if not isinstance(message, dict):
        return "__END__" if message in ("__END__", b"__END__") else "(binary)"
    names = (each["name"] for each in said["server"])
    return message.get("type") or next(name for name in names if name in message)
