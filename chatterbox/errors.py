"""The closed table of errors: code, HTTP status, meaning. Each dialect gives them its own shape."""

from typing import ClassVar, Literal

Kind = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "rate_limit_error",
    "server_error",
]

SHOWN_INPUT_CHARS = 64
"""No message repeats more of what the caller sent than this (FAULTS: error body)."""
REASON_CHARS = 300
"""Of a library's error that a message of ours repeats."""


def shown(value: object) -> str:
    """A caller's value as it may stand in a message: escaped, at most 64 characters."""
    cut = str(value)[: SHOWN_INPUT_CHARS + 1]  # escaping makes it no shorter
    text = cut.encode("ascii", "backslashreplace").decode("ascii")
    printable = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    if len(printable) > SHOWN_INPUT_CHARS:
        return printable[: SHOWN_INPUT_CHARS - 3] + "..."
    return printable


def first_line(fault: BaseException) -> str:
    """The first line of a library's error, for a message of ours; its class if it says nothing."""
    lines = str(fault).strip().splitlines() or [type(fault).__name__]
    return lines[0][:REASON_CHARS]


class ChatterboxError(Exception):
    """Base of every error that a caller may see.

    `message` is written for the person who made the call: no path, no traceback, at most 64
    escaped characters of their input. `param` names the field at fault. `retry_after_s` is when
    trying again makes sense, None where it never does.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    kind: ClassVar[Kind] = "server_error"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


_KINDS: dict[int, Kind] = {
    401: "authentication_error",
    403: "permission_error",
    421: "permission_error",
    429: "rate_limit_error",
}
"""Of other statuses: `server_error` from 500 on, else `invalid_request_error`."""


def _error(code: str, status: int, meaning: str, kind: Kind | None = None) -> type[ChatterboxError]:
    usual: Kind = "server_error" if status >= 500 else "invalid_request_error"
    row = {"code": code, "status": status, "kind": kind or _KINDS.get(status, usual)}
    name = "".join(word.capitalize() for word in code.split("_"))
    return type(name, (ChatterboxError,), {**row, "__doc__": meaning, "__module__": __name__})


def error_table() -> dict[str, type[ChatterboxError]]:
    """Every error a caller can meet, by its code; docs/reference/errors.md is made of it."""
    everything = (*ChatterboxError.__subclasses__(), *Cancelled.__subclasses__())
    return {cls.code: cls for cls in everything}


# What the caller sent
InvalidBody = _error("invalid_body", 400, "The body is not what its content type says.")
UnsupportedMediaType = _error(
    "unsupported_media_type", 415, "The content type or encoding is not one this route reads."
)
BodyTooLarge = _error("body_too_large", 413, "The body is larger than this route takes.")
InvalidHttp = _error(
    "invalid_http", 400, "Not a request of HTTP/1.1, or its length can be read in two ways."
)
HeadTimeout = _error("head_timeout", 408, "The request's head did not arrive in time.")
HeadersTooLarge = _error("headers_too_large", 431, "The request line and headers are too large.")
BodyTimeout = _error("body_timeout", 408, "The body stopped arriving.")
InvalidValue = _error("invalid_value", 422, "A field is missing, of a wrong type or out of bounds.")
UnknownField = _error("unknown_field", 422, "A field that this call does not have.")
InvalidText = _error("invalid_text", 422, "The text is not valid Unicode.")
EmptyText = _error("empty_text", 422, "Nothing in the text can be spoken.")
TextTooLong = _error(
    "text_too_long", 422, "The text is longer than `max_text_length`, or takes too long to read."
)

# Voices
VoiceNotFound = _error("voice_not_found", 404, "No voice has this id, name or alias.")
InvalidVoiceId = _error("invalid_voice_id", 422, "The name cannot be a voice's name.")
VoiceProtected = _error(
    "voice_protected", 403, "A built-in voice cannot be deleted.", "invalid_request_error"
)
CloningUnavailable = _error(
    "cloning_unavailable", 422, "The model speaks only in the voices it was trained with."
)
InvalidVoiceFile = _error(
    "invalid_voice_file", 422, "An exported voice file is damaged or made for another model."
)
UnsupportedAudio = _error(
    "unsupported_audio", 415, "The upload is not audio of a container that is read here."
)
UnreadableAudio = _error(
    "unreadable_audio", 422, "The upload looks like audio but cannot be decoded."
)
AudioTooShort = _error("audio_too_short", 422, "The recording is too short to take a voice from.")
AudioTooLong = _error("audio_too_long", 422, "The recording is longer than is read.")
AudioSilent = _error("audio_silent", 422, "The recording has no audible sound.")
AudioNotFinite = _error("audio_not_finite", 422, "The recording has NaN or infinite samples.")

# Models
ModelNotFound = _error("model_not_found", 404, "No model of this server has this name.")
ModelUnavailable = _error("model_unavailable", 503, "The model could not be loaded.")

# Routes and keys
RouteNotFound = _error("not_found", 404, "No such route.")
MethodNotAllowed = _error("method_not_allowed", 405, "The route exists, the method does not.")
InvalidApiKey = _error("invalid_api_key", 401, "The key is missing or wrong.")
TooManyAttempts = _error("too_many_attempts", 429, "Too many wrong keys came from this address.")
KeyLimit = _error("key_limit", 429, "This key has as much in work as one key may have.")
HostForbidden = _error("host_forbidden", 421, "The request names a host that this server is not.")
OperatorOnly = _error("operator_only", 403, "The key is none of `operator_keys`.")
OriginForbidden = _error(
    "origin_forbidden",
    403,
    "A page of another site asked for more than it may.",
    "permission_error",
)

# Load and life
IdleTimeout = _error("idle_timeout", 408, "Nothing came on a socket for too long.")
Overloaded = _error("overloaded", 429, "Every place and every queue place is taken.")
TooManyConnections = _error(
    "too_many_connections",
    503,
    "Too many connections or sockets are open (`max_connections`, `max_websockets`).",
    "server_error",
)
DeadlineExceeded = _error("deadline_exceeded", 504, "The request was not done in time.")
NotReady = _error("not_ready", 503, "The model is still loading.")
Draining = _error("draining", 503, "The server is shutting down; it takes no new work.")
EngineDead = _error("engine_dead", 503, "The engine stopped on a fault; the process exits.")
OutOfMemory = _error("out_of_memory", 503, "The device had no memory for this request.")
StorageFull = _error("storage_full", 507, "The disk is full; nothing was stored.")
StorageUnavailable = _error(
    "storage_unavailable",
    503,
    "The data directory cannot be written; nothing stored.",
    "server_error",
)
GenerationFailed = _error("generation_failed", 500, "What the model made of this is not speech.")


class Cancelled(ChatterboxError):
    """The caller left; nobody sees this but the log."""

    code = "cancelled"
    status = 499
    kind = "invalid_request_error"


class SlowClient(Cancelled):
    """The caller did not read its answer and was cut off; nobody sees this but the log."""

    code = "slow_client"


class InternalError(ChatterboxError):
    """A bug of ours."""

    code = "internal_error"


class TextFault(InternalError):
    """A bug of ours in reading this text; on a socket it costs the sentence."""


# Exit codes of the process, and what ends it: never seen over HTTP
EXIT_BAD_CONFIG = 2
EXIT_BAD_MODEL = 3
EXIT_ENGINE_DEAD = 70
EXIT_STALLED = 75


class ConfigError(Exception):
    """A setting is wrong: one line for the operator, exit code 2."""


class ModelError(Exception):
    """The model named cannot be had or is damaged: one line for the operator, exit code 3."""
