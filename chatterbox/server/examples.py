"""An example for each call in `/openapi.json`: a line of curl, made of the call's own schema."""

import json
from collections.abc import Mapping
from typing import Any

ORIGIN = "http://127.0.0.1:8000"
"""The server in examples; `/docs` writes its own address."""
BUILT_IN, OWN = "slt", "me"
"""A voice that speaks; one that was registered, and so may be changed."""
VALUES: Mapping[str, Any] = {
    "text": "Hello there.",
    "input": "Hello there.",
    "prompt": "slt: Hello there.",
    "name": OWN,
    "voice_name": OWN,
    "alias": "emma",
    "consent_id": "CONSENT_ID",
    "speaker_embedding": [float(byte) for byte in BUILT_IN.encode()],
}
"""Field → what examples send in it; in others a voice's name."""
VOICES = ("voice_id", "voice", "speaker_wav", "predefined_voice_id")
"""Sent although they need not be."""


def add_examples(schema: dict[str, Any]) -> None:
    """To each call, as `x-codeSamples`."""
    for path, methods in schema["paths"].items():
        for method, call in methods.items():
            call["x-codeSamples"] = [{"lang": "curl", "source": curl(method, path, call)}]


def curl(method: str, path: str, call: dict[str, Any]) -> str:
    """The line that makes the call."""
    changes = method in ("put", "delete") or path.endswith("/edit")
    values = {**VALUES, "voice_id": OWN if changes else BUILT_IN, "name": "tts-1"}
    address = path.format(**values)
    query = _sent(
        {row["name"]: row for row in call.get("parameters", ()) if row["in"] == "query"},
        [row["name"] for row in call.get("parameters", ()) if row["required"]],
    )
    content = call.get("requestBody", {}).get("content", {})
    words = ["curl --fail-with-body", ORIGIN + address, *_body(path, content)]
    if query:
        words.append("-G " + _form("--data-urlencode", query))
    if method not in ("get", "post") or (method == "post" and not content):
        words.append(f"-X {method.upper()}")
    answer = call["responses"].get("200", {}).get("content", {})
    if any(kind.startswith("audio/") for kind in answer):
        words.append("-o sound")
    if "application/octet-stream" in answer:
        words.append("-o me.voice")
    return " ".join(words)


def _body(path: str, content: dict[str, Any]) -> list[str]:
    """JSON where the call reads it; a form where a file is needed."""
    kind = "application/json" if "application/json" in content else "multipart/form-data"
    if kind not in content:
        return []
    schema = content[kind]["schema"]
    sent = _sent(schema.get("properties", {}), schema.get("required", ()))
    if kind == "application/json":
        return [f"-H 'Content-Type: {kind}' -d '{json.dumps(sent)}'"]
    file = "@me.voice" if path.endswith("/import") else "@me.wav"
    files = {name for name, field in schema["properties"].items() if "binary" in str(field)}
    return [_form("-F", {name: file if name in files else sent[name] for name in sent})]


def _sent(fields: Mapping[str, Any], required: Any) -> dict[str, Any]:
    names = [name for name in fields if name in required or name in VOICES]
    return {name: VALUES.get(name, BUILT_IN) for name in names}


def _form(flag: str, values: Mapping[str, Any]) -> str:
    return " ".join(f'{flag} {name}="{value}"' for name, value in values.items())
