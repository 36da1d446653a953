"""The fields of the native calls' JSON answers, for `/docs`. A test calls and compares."""

from collections.abc import Mapping
from typing import Any

from chatterbox.server.reference import field_schema

VOICE: Mapping[str, str] = {
    "voice_id": "Made of the recording: the same recording, the same id",
    "name": "What it is called",
    "aliases": "Further names",
    "created_at": "Unix seconds",
    "built_in": "Came with the server or the model",
    "report": "Of the recording: length, loudness, clipping, silence, warnings; if there is one",
    "imported": "true: came by `/voices/import`",
    "language": "ISO 639-1, where it has one of its own",
    "description": "Where there is one",
}
CHANGE: Mapping[str, str] = {
    **VOICE,
    "message": "What was done",
    "warnings": "What could be better in the recording",
}
ANSWERS: Mapping[str, Mapping[str, str]] = {
    "post /tts/json": {
        "request_id": "As in the log",
        "audio_duration": "Seconds of sound",
        "generation_time": "Seconds that it took",
        "rtf": "The second over the first: below 1 is faster than real time",
        "tokens_generated": "Speech tokens",
        "segments": "Pieces that the text was spoken in",
        "first_audio": "Seconds until the first sound",
        "finish_reason": "`stop`; `length`: a segment met its bound",
        "sample_rate": "Hz",
        "seed": "Gives the same speech again",
    },
    "get /voices": {
        "voices": "Each as `GET /voices/{voice_id}` answers",
        "default_voice": "Speaks where a call names none",
        "has_more": "With `limit`: whether there are more",
    },
    "get /voices/{voice_id}": VOICE,
    **dict.fromkeys(
        (
            "post /voices/register",
            "post /voices/import",
            "delete /voices/{voice_id}",
            "put /voices/{voice_id}/name",
            "put /voices/{voice_id}/description",
            "put /voices/{voice_id}/description",
            "put /voices/{voice_id}/aliases/{alias}",
            "delete /voices/{voice_id}/aliases/{alias}",
        ),
        CHANGE,
    ),
    "get /health": {
        "status": "`ok`, `loading`, `warming`, `draining` or `dead`",
        "ready": "Whether new work is taken",
        "loading": "What a start is busy with; null once it is over",
        "version": "Of the server",
        "model": "What is loaded",
        "family": "Its kind",
        "languages": "ISO 639-1",
        "precision": "In short",
        "graphs": "Precision of each graph",
        "device": "`cpu` or `cuda`",
        "machine": "Processor or card",
        "fallback": "Why another model runs than was asked for; null: none does",
        "notice": "What users should know of it",
        "expected_rtf": "Measured at the start, where the machine may be too slow",
        "notes": "What a start found out about the model, for experts",
        "default_voice": "Speaks where a call names none",
        "cloning": "Whether recordings can become voices",
        "skipped_voices": "Damaged ones on disk, and why",
        "sample_rate_hz": "Of the model",
        "active": "Requests in work",
        "places": "Requests that may be in work at once",
        "queued": "Requests that wait",
    },
}
"""Method and path → field → meaning."""


def add_answers(schema: dict[str, Any]) -> None:
    """To the calls in `/openapi.json`."""
    for call, fields in ANSWERS.items():
        method, path = call.split(" ")
        answer = schema["paths"][path][method]["responses"]["200"]
        answer["content"]["application/json"]["schema"] = field_schema(fields)
