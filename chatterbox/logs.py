"""Forms of the log's lines: readable on a terminal, key=value, or JSON."""

import json
import logging
from collections.abc import Mapping

KEY_VALUE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_formatter(form: str, *, tty: bool) -> logging.Formatter:
    """What the setting `log_format` asks for; `auto` depends on whether a person reads along."""
    if form == "json":
        return _Json()
    return _Readable(datefmt="%H:%M:%S") if form == "auto" and tty else logging.Formatter(KEY_VALUE)


class _Json(logging.Formatter):
    """One object a line; a request's fields are members of it."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **(_request(record) or {"message": record.getMessage()}),
        }
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return json.dumps(facts)


class _Readable(logging.Formatter):
    """The time of day, what happened, and what to find it by."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        request = _request(record)
        said = _sentence(request) if request else record.message
        level = "" if record.levelno in (logging.INFO, logging.DEBUG) else f"{record.levelname}: "
        return f"{self.formatTime(record, self.datefmt)}  {level}{said}"


def _request(record: logging.LogRecord) -> Mapping[str, str] | None:
    found: Mapping[str, str] | None = getattr(record, "request", None)
    return found


def _sentence(request: Mapping[str, str]) -> str:
    failed = "" if request["outcome"] == "ok" else f" {request['outcome']}"
    took_s = float(request["ms"]) / 1000
    if "audio_s" not in request:
        said = f"{request['method']} {request['route']} {request['status']}{failed}"
        return f"{said} in {took_s:.3f} s   {request['id']}"
    verb = f"cut off ({failed.strip()}) after" if failed else "spoke"
    said = f"{verb} {float(request['audio_s']):.1f} s for {request['route']} in {took_s:.1f} s"
    if request["first_ms"] != "-":
        said += f", first sound {request['first_ms']} ms, RTF {float(request['rtf']):.2f}"
    return f"{said}   {request['id']}"
