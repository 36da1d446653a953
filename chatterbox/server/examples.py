"""An example for each call in `/openapi.json`: a line of curl, made of the call's own schema."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from json import dumps
from typing import Any
from urllib.parse import urlencode

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


@dataclass(frozen=True, slots=True)
class Example:
    """One call that works as it is, but for the files of a form."""

    method: str
    path: str
    query: Mapping[str, Any]
    json: Mapping[str, Any] | None
    form: Mapping[str, Any] | None
    saves: str
    """The file that the answer becomes; nothing: it is shown."""

    @property
    def curl(self) -> str:
        """As a line of curl."""
        words = ["curl --fail-with-body", ORIGIN + self.path]
        if self.json is not None:
            words.append(f"-H 'Content-Type: application/json' -d '{dumps(self.json)}'")
        words += [f'-F {name}="{value}"' for name, value in (self.form or {}).items()]
        words += ["-G"] * bool(self.query)
        words += [f'--data-urlencode {name}="{value}"' for name, value in self.query.items()]
        has_body = self.json is not None or self.form is not None
        if self.method != ("post" if has_body else "get"):
            words.append(f"-X {self.method.upper()}")
        words += [f"-o {self.saves}"] * bool(self.saves)
        return " ".join(words)


def add_examples(schema: dict[str, Any]) -> None:
    """To each call, as `x-codeSamples`; as `x-try`, where the page can make it by itself."""
    for path, methods in schema["paths"].items():
        for method, call in methods.items():
            example = _example(method, path, call)
            call["x-codeSamples"] = [{"lang": "curl", "source": example.curl}]
            harmless = method == "get" or (method == "post" and example.json is not None)
            if harmless and "CONSENT" not in example.path:
                query = "?" + urlencode(example.query) if example.query else ""
                call["x-try"] = {"path": example.path + query, "json": example.json}


def _example(method: str, path: str, call: dict[str, Any]) -> Example:
    changes = method in ("put", "delete") or path.endswith("/edit")
    values = {**VALUES, "voice_id": OWN if changes else BUILT_IN, "name": "tts-1"}
    if path.startswith("/models/"):
        values["name"] = "mini"
    parameters = {row["name"]: row for row in call.get("parameters", ()) if row["in"] == "query"}
    needed = [name for name, row in parameters.items() if row["required"]]
    content = call.get("requestBody", {}).get("content", {})
    json = form = None
    if "application/json" in content:
        schema = content["application/json"]["schema"]
        json = _sent(schema.get("properties", {}), schema.get("required", ()))
    elif "multipart/form-data" in content:
        schema = content["multipart/form-data"]["schema"]
        file = "@me.voice" if path.endswith("/import") else "@me.wav"
        files = {name: file for name, f in schema["properties"].items() if "binary" in str(f)}
        form = _sent(schema["properties"], schema["required"]) | files
    answer = call["responses"].get("200", {}).get("content", {})
    saves = "sound" if any(kind.startswith("audio/") for kind in answer) else ""
    return Example(
        method,
        path.format(**values),
        _sent(parameters, needed),
        json,
        form,
        "me.voice" if "application/octet-stream" in answer else saves,
    )


def _sent(fields: Mapping[str, Any], required: Container[str]) -> dict[str, Any]:
    names = [name for name in fields if name in required or name in VOICES]
    return {name: VALUES.get(name, BUILT_IN) for name in names}
