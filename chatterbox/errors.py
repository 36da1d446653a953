"""All errors a caller can receive, built from `errors.toml`. Each dialect formats them itself."""

import tomllib
from pathlib import Path
from typing import ClassVar, Literal

Kind = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "rate_limit_error",
    "server_error",
]

MAX_QUOTED_CHARS = 64
"""Longest quotation of a caller's input in an error message (see "Error body" in faults.md)."""
MAX_REASON_CHARS = 300
"""Longest quotation of a library's error message."""


def excerpt(value: object) -> str:
    """Return a caller's value for use in a message: escaped ASCII, at most MAX_QUOTED_CHARS."""
    start = str(value)[: MAX_QUOTED_CHARS + 1]  # escaping never shortens the text
    text = start.encode("ascii", "backslashreplace").decode("ascii")
    printable = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    if len(printable) > MAX_QUOTED_CHARS:
        return printable[: MAX_QUOTED_CHARS - 3] + "..."
    return printable


def first_line(fault: BaseException) -> str:
    """Return the first line of a library's error message, or its class name if it has none."""
    lines = str(fault).strip().splitlines() or [type(fault).__name__]
    return lines[0][:MAX_REASON_CHARS]


_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
_KINDS: dict[int, Kind] = {
    401: "authentication_error",
    403: "permission_error",
    421: "permission_error",
    429: "rate_limit_error",
}
"""Kind by status. Other statuses: `server_error` from 500 on, else `invalid_request_error`."""


class ChatterboxError(Exception):
    """Base class of all errors that a caller can receive.

    `message` is written for the caller: no path, no traceback, at most 64 escaped characters of the
    caller's input. `param` names the invalid field; some classes have a default. `retry_after_s` is
    how long to wait before retrying; None if retrying cannot help.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    kind: ClassVar[Kind] = "server_error"
    remedy: ClassVar[str]
    default_param: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param or self.default_param
        self.retry_after_s = retry_after_s

    def __init_subclass__(cls) -> None:
        cls.status, _, cls.remedy, *kind = _TABLE[cls.code]
        usual: Kind = "server_error" if cls.status >= 500 else "invalid_request_error"
        cls.kind = kind[0] if kind else _KINDS.get(cls.status, usual)


def _error(code: str, default_param: str | None = None) -> type[ChatterboxError]:
    name = "".join(word.capitalize() for word in code.split("_"))
    row = {"code": code, "default_param": default_param, "__doc__": _TABLE[code][1]}
    return type(name, (ChatterboxError,), {**row, "__module__": __name__})


def error_table() -> dict[str, type[ChatterboxError]]:
    """Return every error class a caller can receive, by code, as in docs/reference/errors.md."""
    everything = (*ChatterboxError.__subclasses__(), *Cancelled.__subclasses__())
    return {cls.code: cls for cls in everything}


# Requests
InvalidBody = _error("invalid_body")
UnsupportedMediaType = _error("unsupported_media_type")
BodyTooLarge = _error("body_too_large")
InvalidHttp = _error("invalid_http")
HeadTimeout = _error("head_timeout")
HeadersTooLarge = _error("headers_too_large")
BodyTimeout = _error("body_timeout")
InvalidValue = _error("invalid_value")
UnknownField = _error("unknown_field")
InvalidText = _error("invalid_text")
EmptyText = _error("empty_text")
TextTooLong = _error("text_too_long")

# Voices
VoiceNotFound = _error("voice_not_found", "voice_id")
InvalidVoiceId = _error("invalid_voice_id", "name")
VoiceProtected = _error("voice_protected", "voice_id")
CloningUnavailable = _error("cloning_unavailable")
InvalidVoiceFile = _error("invalid_voice_file")
UnsupportedAudio = _error("unsupported_audio", "voice_file")
UnreadableAudio = _error("unreadable_audio", "voice_file")
AudioTooShort = _error("audio_too_short", "voice_file")
AudioTooLong = _error("audio_too_long", "voice_file")
AudioSilent = _error("audio_silent", "voice_file")
AudioNotFinite = _error("audio_not_finite", "voice_file")

# Models
ModelNotFound = _error("model_not_found")
ModelUnavailable = _error("model_unavailable")

# Routes and keys
RouteNotFound = _error("not_found")
MethodNotAllowed = _error("method_not_allowed")
InvalidApiKey = _error("invalid_api_key")
TooManyAttempts = _error("too_many_attempts")
KeyLimit = _error("key_limit")
HostForbidden = _error("host_forbidden")
OperatorOnly = _error("operator_only")
OriginForbidden = _error("origin_forbidden")

# Load and lifecycle
IdleTimeout = _error("idle_timeout")
Overloaded = _error("overloaded")
TooManyConnections = _error("too_many_connections")
DeadlineExceeded = _error("deadline_exceeded")
NotReady = _error("not_ready")
Draining = _error("draining")
EngineDead = _error("engine_dead")
OutOfMemory = _error("out_of_memory")
StorageFull = _error("storage_full")
StorageUnavailable = _error("storage_unavailable")
GenerationFailed = _error("generation_failed")


class Cancelled(ChatterboxError):
    """The caller disconnected. Appears only in the log."""

    code = "cancelled"


class SlowClient(Cancelled):
    """The caller did not read its response and was disconnected. Appears only in the log."""

    code = "slow_client"


class InternalError(ChatterboxError):
    """A bug in the server."""

    code = "internal_error"


class TextFault(InternalError):
    """A bug in text processing. A WebSocket skips the sentence and continues."""


# Exit codes of the process and the errors behind them; callers never receive these
EXIT_BAD_CONFIG = 2
EXIT_BAD_MODEL = 3
EXIT_ENGINE_DEAD = 70
EXIT_STALLED = 75


class ConfigError(Exception):
    """A setting is wrong: one line for the operator, exit code 2."""


class ModelError(Exception):
    """The model is unavailable or damaged: one line for the operator, exit code 3."""
