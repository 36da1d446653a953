"""The access record of one request (id, route, outcome), for the log and the metrics."""

import random
import re
import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from chatterbox.engine.speech_stream import SpeechReport
from chatterbox.errors import ChatterboxError

ID_BITS = 64
OTHER_ROUTE = "other"
"""Routes that do not exist share one label: labels come from closed sets."""
OK = "ok"
_CLIENT_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_KEY = "chatterbox.record"


@dataclass(slots=True)
class AccessRecord:
    """Filled in while the request is answered, read once at its end."""

    id: str
    method: str = ""
    route: str = OTHER_ROUTE
    status: int | None = None  # None: no header was sent
    outcome: str = OK  # or an error's code
    speech: bool = False  # whether this call asked for speech
    report: SpeechReport | None = None  # what came of it
    started: float = field(default_factory=time.monotonic)

    def failed(self, error: ChatterboxError) -> None:
        """The first failure is the outcome."""
        if self.outcome == OK:
            self.outcome = error.code

    @property
    def duration_s(self) -> float:
        """Since the request came in."""
        return time.monotonic() - self.started

    def line(self) -> str:
        """The one log line: no text, no audio, no key, nothing the client chose but its id."""
        parts = [
            f"{self.method} {self.route}",
            f"status={self.status or '-'}",
            f"outcome={self.outcome}",
            f"ms={self.duration_s * 1000:.0f}",
        ]
        if (report := self.report) is not None:
            first = report.first_audio_s
            parts += [
                f"segments={report.segments}",
                f"codes={report.codes}",
                f"audio_s={report.audio_s:.2f}",
                f"first_ms={first * 1000:.0f}" if first is not None else "first_ms=-",
                f"rtf={report.rtf:.3f}",
            ]
        return " ".join([*parts, f"id={self.id}"])


def request_id(offered: str | None) -> str:
    """The client's id where it is a plain word, else one of ours."""
    if offered is not None and _CLIENT_ID.fullmatch(offered):
        return offered
    return new_request_id()


def new_request_id() -> str:
    """For a request that brings none. Not of the system's generator: asking it gives the
    interpreter's lock away, and the event loop gets that back behind every thread that computes."""
    return f"req-{random.getrandbits(ID_BITS):0{ID_BITS // 4}x}"


def attach(scope: MutableMapping[str, Any], record: AccessRecord) -> None:
    """Put the record where `record_of` finds it."""
    scope[_KEY] = record


def record_of(scope: MutableMapping[str, Any]) -> AccessRecord:
    """The record of the request that `scope` belongs to."""
    record: AccessRecord = scope[_KEY]
    return record
