"""Tests of the log formats: readable, key=value and JSON."""

import io
import json
import logging
from types import SimpleNamespace

import pytest

from chatterbox.engine.speech_stream import SpeechReport
from chatterbox.logs import log_formatter
from chatterbox.server import request_log
from chatterbox.server.request_log import AccessRecord

NOW_S = 100.0
SPOKEN = SpeechReport(segments=2, audio_s=6.4, first_audio_s=0.059, generation_s=0.9)


@pytest.fixture(autouse=True)
def a_clock_that_stands(monkeypatch):
    monkeypatch.setattr(request_log, "time", SimpleNamespace(monotonic=lambda: NOW_S))


def logged(record: AccessRecord, form: str, *, tty: bool = False, level: int = logging.INFO) -> str:
    log, written = logging.getLogger("chatterbox.requests"), io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(log_formatter(form, tty=tty))
    before = log.level
    log.addHandler(handler)
    log.setLevel(level)
    try:
        record.log()
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
    return written.getvalue()


def spoken(**facts) -> AccessRecord:
    return AccessRecord(
        "req-1", "POST", route="/tts", status=200, report=SPOKEN, started_at=NOW_S, **facts
    )


def test_a_person_reads_a_sentence():
    line = logged(spoken(), "auto", tty=True)
    assert line[8:].startswith("  spoke 6.4 s for /tts in 0.0 s, first sound 59 ms, RTF 0.14")
    assert line.endswith("   req-1\n")
    cut = logged(spoken(outcome="slow_client"), "auto", tty=True)
    assert "cut off (slow_client) after 6.4 s for /tts" in cut
    refused = AccessRecord("req-2", "POST", route="/tts", status=422, started_at=NOW_S)
    refused.outcome = "invalid_value"
    assert "  POST /tts 422 invalid_value in 0.0" in logged(refused, "auto", tty=True)


@pytest.mark.parametrize(("form", "tty"), [("auto", False), ("kv", True)])
def test_tools_read_key_and_value(form, tty):
    line = logged(spoken(), form, tty=tty)
    assert " INFO chatterbox.requests: POST /tts status=200 outcome=ok ms=0 segments=2" in line
    assert line.endswith(" audio_s=6.40 first_ms=59 rtf=0.141 id=req-1\n")


def test_json_is_one_object_a_line():
    line = json.loads(logged(spoken(), "json", tty=True))
    assert (line["level"], line["route"], line["outcome"]) == ("info", "/tts", "ok")
    assert line["id"] == "req-1"
    try:
        raise ValueError("two\nlines")
    except ValueError as fault:
        at = (type(fault), fault, fault.__traceback__)
        entry = logging.LogRecord("x", logging.ERROR, "f", 1, "it %s", ("broke",), at)
    said = log_formatter("json", tty=False).format(entry)
    assert json.loads(said)["message"] == "it broke"
    assert "two" in json.loads(said)["exception"]
    assert "\n" not in said


@pytest.mark.parametrize("route", ["/", "/page/{name}", "/docs", "/metrics", "/health/ready"])
def test_pages_probes_and_scrapes_are_for_debugging(route):
    record = AccessRecord("req-3", "GET", route=route, status=200)
    assert logged(record, "kv") == ""
    assert f"GET {route} status=200" in logged(record, "kv", level=logging.DEBUG)
    record.outcome = "internal_error"
    assert logged(record, "kv")
