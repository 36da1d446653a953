"""Log formatters: readable text for a terminal, key=value, and JSON."""

import json
import logging
from collections.abc import Mapping

KEY_VALUE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_formatter(log_format: str, *, tty: bool) -> logging.Formatter:
    """Return the formatter for the setting `log_format`; `auto` is readable text on a terminal."""
    if log_format == "json":
        return _Json()
    if log_format == "auto" and tty:
        return _Readable(datefmt="%H:%M:%S")
    return logging.Formatter(KEY_VALUE)


class _Json(logging.Formatter):
    """Formats each record as one JSON object, with the fields of a request as members."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **(_request(record) or {"message": record.getMessage()}),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class _Readable(logging.Formatter):
    """Formats each record as the time of day and a sentence; a request ends with its id."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        request = _request(record)
        message = _sentence(request) if request else record.message
        level = "" if record.levelno in (logging.INFO, logging.DEBUG) else f"{record.levelname}: "
        return f"{self.formatTime(record, self.datefmt)}  {level}{message}"


def _request(record: logging.LogRecord) -> Mapping[str, str] | None:
    """Return the fields of a request's log record; None for other records."""
    fields: Mapping[str, str] | None = getattr(record, "request", None)
    return fields


def _sentence(request: Mapping[str, str]) -> str:
    failed = "" if request["outcome"] == "ok" else f" {request['outcome']}"
    elapsed_s = float(request["ms"]) / 1000
    if "audio_s" not in request:
        text = f"{request['method']} {request['route']} {request['status']}{failed}"
        return f"{text} in {elapsed_s:.3f} s   {request['id']}"
    verb = f"cut off ({failed.strip()}) after" if failed else "spoke"
    text = f"{verb} {float(request['audio_s']):.1f} s for {request['route']} in {elapsed_s:.1f} s"
    if request["first_ms"] != "-":
        text += f", first sound {request['first_ms']} ms, RTF {float(request['rtf']):.2f}"
    return f"{text}   {request['id']}"
