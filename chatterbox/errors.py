"""What can go wrong: one closed table of error class → code, HTTP status, kind, retry.

Knows nothing of HTTP frameworks, engines or files; each dialect turns these into its own shape.
"""

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
    """What a library's error says, for a message of ours: its first line, or else its class."""
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


class _InvalidRequest(ChatterboxError):
    kind = "invalid_request_error"
    status = 422


# --- what the caller sent -----------------------------------------------------------------------


class InvalidBody(_InvalidRequest):
    """The body is not what its content type says (JSON, form or multipart)."""

    code = "invalid_body"
    status = 400


class UnsupportedMediaType(_InvalidRequest):
    """The content type or content encoding is not one this route reads."""

    code = "unsupported_media_type"
    status = 415


class BodyTooLarge(_InvalidRequest):
    """The body is larger than this route takes."""

    code = "body_too_large"
    status = 413


class InvalidHttp(_InvalidRequest):
    """What came is not a request of HTTP/1.1, or its length can be read in two ways."""

    code = "invalid_http"
    status = 400


class HeadTimeout(_InvalidRequest):
    """The request line and headers did not arrive in time."""

    code = "head_timeout"
    status = 408


class HeadersTooLarge(_InvalidRequest):
    """The request line and headers together are too large."""

    code = "headers_too_large"
    status = 431


class BodyTimeout(_InvalidRequest):
    """The body stopped arriving."""

    code = "body_timeout"
    status = 408


class InvalidValue(_InvalidRequest):
    """A field is missing, of the wrong type or out of bounds."""

    code = "invalid_value"


class UnknownField(_InvalidRequest):
    """A field that this call does not have."""

    code = "unknown_field"


class InvalidText(_InvalidRequest):
    """The text is not valid Unicode."""

    code = "invalid_text"


class EmptyText(_InvalidRequest):
    """Nothing in the text can be spoken."""

    code = "empty_text"


class TextTooLong(_InvalidRequest):
    """The text is longer than `max_text_length`, or takes too long to read."""

    code = "text_too_long"


# --- voices -------------------------------------------------------------------------------------


class VoiceNotFound(_InvalidRequest):
    """No voice has this id, name or alias."""

    code = "voice_not_found"
    status = 404


class InvalidVoiceId(_InvalidRequest):
    """The name cannot be a voice's name."""

    code = "invalid_voice_id"


class VoiceProtected(_InvalidRequest):
    """A built-in voice cannot be deleted."""

    code = "voice_protected"
    status = 403


class CloningUnavailable(_InvalidRequest):
    """The model speaks only in the voices it was trained with."""

    code = "cloning_unavailable"


class InvalidVoiceFile(_InvalidRequest):
    """An exported voice file is damaged or made for another model."""

    code = "invalid_voice_file"


class UnsupportedAudio(_InvalidRequest):
    """The upload is not audio of a container that is read here."""

    code = "unsupported_audio"
    status = 415


class UnreadableAudio(_InvalidRequest):
    """The upload looks like audio but cannot be decoded."""

    code = "unreadable_audio"


class AudioTooShort(_InvalidRequest):
    """The reference is shorter than a voice can be taken from."""

    code = "audio_too_short"


class AudioTooLong(_InvalidRequest):
    """The reference is longer than is read."""

    code = "audio_too_long"


class AudioSilent(_InvalidRequest):
    """The reference has no audible sound."""

    code = "audio_silent"


class AudioNotFinite(_InvalidRequest):
    """The reference contains NaN or infinite samples."""

    code = "audio_not_finite"


# --- routes -------------------------------------------------------------------------------------


class RouteNotFound(_InvalidRequest):
    """No such route."""

    code = "not_found"
    status = 404


class MethodNotAllowed(_InvalidRequest):
    """The route exists, the method does not."""

    code = "method_not_allowed"
    status = 405


class InvalidApiKey(ChatterboxError):
    """The key is missing or wrong."""

    code = "invalid_api_key"
    status = 401
    kind = "authentication_error"


class TooManyAttempts(ChatterboxError):
    """Too many wrong keys came from this address."""

    code = "too_many_attempts"
    status = 429
    kind = "rate_limit_error"


class KeyLimit(ChatterboxError):
    """This key has as many requests in work as one key may have."""

    code = "key_limit"
    status = 429
    kind = "rate_limit_error"


class HostForbidden(ChatterboxError):
    """The request names a host that this server is not."""

    code = "host_forbidden"
    status = 421
    kind = "permission_error"


class OriginForbidden(ChatterboxError):
    """A page of another site tried to change something or to open a socket."""

    code = "origin_forbidden"
    status = 403
    kind = "permission_error"


# --- load and life ------------------------------------------------------------------------------


class Overloaded(ChatterboxError):
    """Every place and every queue place is taken."""

    code = "overloaded"
    status = 429
    kind = "rate_limit_error"


class TooManyConnections(ChatterboxError):
    """As many connections or sockets are open as this server keeps."""

    code = "too_many_connections"
    status = 503


class IdleTimeout(_InvalidRequest):
    """Nothing came on a socket for too long."""

    code = "idle_timeout"
    status = 408


class DeadlineExceeded(ChatterboxError):
    """The request was not done within its time."""

    code = "deadline_exceeded"
    status = 504


class NotReady(ChatterboxError):
    """The model is still loading."""

    code = "not_ready"
    status = 503


class Draining(ChatterboxError):
    """The server is shutting down and takes no new work."""

    code = "draining"
    status = 503


class EngineDead(ChatterboxError):
    """The engine stopped on a fault; the process is about to exit."""

    code = "engine_dead"
    status = 503


class OutOfMemory(ChatterboxError):
    """The device had no memory left for this request."""

    code = "out_of_memory"
    status = 503


class StorageFull(ChatterboxError):
    """The disk is full; nothing was stored."""

    code = "storage_full"
    status = 507


class StorageUnavailable(ChatterboxError):
    """The data directory cannot be written; nothing was stored."""

    code = "storage_unavailable"
    status = 503


class GenerationFailed(ChatterboxError):
    """The model gave something that is not speech for this request."""

    code = "generation_failed"


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


def error_table() -> dict[str, type[ChatterboxError]]:
    """Every error a caller can meet, by its code; docs/reference/errors.md is made of it."""

    def below(cls: type[ChatterboxError]) -> list[type[ChatterboxError]]:
        return [kind for sub in cls.__subclasses__() for kind in (sub, *below(sub))]

    return {cls.code: cls for cls in below(ChatterboxError) if "code" in vars(cls)}


# --- process exits: never seen over HTTP --------------------------------------------------------

EXIT_BAD_CONFIG = 2
EXIT_BAD_MODEL = 3
EXIT_ENGINE_DEAD = 70
EXIT_STALLED = 75


class ConfigError(Exception):
    """A setting is wrong: one line for the operator, exit code 2."""


class ModelError(Exception):
    """The model named cannot be had or is damaged: one line for the operator, exit code 3."""
