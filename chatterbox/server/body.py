"""Reads request bodies (JSON, form or multipart) into fields and a file, within limits."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from chatterbox.errors import (
    BodyTimeout,
    BodyTooLarge,
    Cancelled,
    InvalidBody,
    InvalidHttp,
    InvalidValue,
    UnsupportedMediaType,
    excerpt,
)
from chatterbox.server.admission_control import AdmissionControl, Take
from chatterbox.server.multipart import (
    CHARSET_FIELD,
    MAX_PARTS,
    UTF8,
    FileField,
    MultipartForm,
    Upload,
    codec_name,
    parse_header,
)
from chatterbox.server.request_log import TINY_CHUNKS

T = TypeVar("T")
STALL_S = 30.0
"""Time that a body may fall behind MIN_BYTES_PER_S, and so the longest pause; 408 above it (FAULTS
F52)."""
MIN_BYTES_PER_S = 16 * 1024
"""Required upload speed, which any connection that can stream MP3 exceeds. Early bytes earn no
credit, so a body that stalls fails within STALL_S, whatever its size (FAULTS F99)."""
MULTIPART_SLACK_BYTES = 64 * 1024
"""Allowance beside a file for boundaries, part headers and other fields."""
ESCAPED_CHAR_BYTES = 12
"""Longest encoding of one character: a pair of JSON's `\\uXXXX` escapes."""
MAX_JSON_FIELDS = 256
"""Limit for the fields of a JSON object. Clients of other servers send dozens of unused fields."""
LENGTH_DIGITS = 18
"""A Content-Length with more digits is refused without being converted to a number."""
INLINE_BYTES = 16 * 1024
"""Longer bodies are parsed in a thread: the worst body of this size takes 2 ms."""
_PARSING = threading.Lock()

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Limit for the bytes of all fields together, and the file field that a call accepts."""

    fields_bytes: int
    file: FileField | None = None

    @classmethod
    def for_text(cls, chars: int, file: FileField | None = None) -> "BodyLimits":
        """Allow a text of `chars` characters, however it is escaped."""
        return cls(MULTIPART_SLACK_BYTES + ESCAPED_CHAR_BYTES * chars, file)


@dataclass(frozen=True, slots=True)
class Body:
    """The fields and file of a request's body."""

    fields: dict[str, Any]
    typed: bool = False  # values have JSON's types, rather than all being strings
    file: Upload | None = None
    other_files: tuple[str, ...] = ()  # names of files that the call does not accept
    repeated: tuple[str, ...] = ()  # names of file fields sent more than once


@asynccontextmanager
async def read_body(
    request: Request, limits: BodyLimits, admission: AdmissionControl
) -> AsyncIterator[Body]:
    """Read the body according to its content type. The file is deleted on leaving the context.

    Raises InvalidBody, UnsupportedMediaType, BodyTooLarge, BodyTimeout, InvalidValue, StorageFull,
    Overloaded, the errors of `limits.file.place`, and Cancelled when the client disconnects.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMediaType("Send the body uncompressed.")
    kind, options = parse_header(request.headers.get("content-type", "").encode("latin-1"))
    charset = codec_name(options.get(b"charset", b"utf-8"))
    async with AsyncExitStack() as resources:
        take = resources.enter_context(admission.memory.reservation())
        if kind == MULTIPART:
            boundary, disk = options.get(b"boundary", b""), admission.disk
            form = MultipartForm(boundary, limits.fields_bytes, limits.file, take, disk, resources)
            yield await _read_multipart(request, limits, form, charset)
        elif kind == FORM:
            data = await _read_all(request, limits.fields_bytes, take)
            yield Body(await _parse(_parse_form, data, charset))
        elif kind == JSON or (kind.startswith("application/") and kind.endswith("+json")):
            if charset != UTF8:
                raise UnsupportedMediaType("Send JSON as UTF-8.")
            data = await _read_all(request, limits.fields_bytes, take)
            yield Body(await _parse(_parse_json, data), typed=True)
        elif not kind and not await _read_all(request, limits.fields_bytes, take):
            raise InvalidBody(f"There is no body; send the fields as {JSON} or as a form.")
        else:
            raise UnsupportedMediaType(f"Send the fields as {JSON}, {FORM} or {MULTIPART}.")


def read_query(request: Request) -> Body:
    """Read fields from the URL's query instead of a body. Raises InvalidValue."""
    _check_unique(name for name, _ in request.query_params.multi_items())
    return Body(dict(request.query_params))


async def until_disconnect(receive: Receive, work: Awaitable[T]) -> T:
    """Return the result of `work`. If the client disconnects first, cancel `work`, wait for its end
    and raise Cancelled. The request's body must have been read."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        raise Cancelled("The client left.")

    task = asyncio.ensure_future(work)
    await until_first(task, watch())
    return task.result()


async def until_first(*work: Awaitable[Any]) -> None:
    """Run awaitables until the first returns or raises. The others are cancelled and awaited."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _chunks(request: Request, limit_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield the body as it arrives, within its size limit and at the required speed."""
    too_large = BodyTooLarge(f"The body is larger than {limit_bytes} bytes.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > LENGTH_DIGITS or int(length) > limit_bytes):
        raise too_large
    received = 0
    now = asyncio.get_running_loop().time
    late_at = now() + STALL_S
    async with aclosing(request.stream()) as stream:
        while True:
            try:
                async with asyncio.timeout_at(late_at):
                    chunk = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise BodyTimeout("The body arrives too slowly.") from None
            except ClientDisconnect:
                raise Cancelled("The client left while sending.") from None
            received += len(chunk)
            if received > limit_bytes:
                raise too_large
            if request.scope.get(TINY_CHUNKS):
                raise InvalidHttp("The body's chunks are too small.")
            came_at = now()
            yield chunk
            our_s = now() - came_at  # waits for a place or the disk do not count against the client
            late_at = min(late_at + len(chunk) / MIN_BYTES_PER_S, came_at + STALL_S) + our_s


async def _read_all(request: Request, limit_bytes: int, take: Take) -> bytes:
    data = bytearray()
    async with aclosing(_chunks(request, limit_bytes)) as chunks:
        async for chunk in chunks:
            take(len(chunk))
            data += chunk
    return bytes(data)


async def _parse(parse: Callable[..., dict[str, Any]], data: bytes, *args: str) -> dict[str, Any]:
    """Run `parse`, in a thread if the data is large. Only one thread parses at a time: several
    would delay the event loop, which shares the interpreter's lock with them."""
    if len(data) <= INLINE_BYTES:
        return parse(data, *args)

    def parse_alone() -> dict[str, Any]:
        with _PARSING:
            return parse(data, *args)

    return await asyncio.to_thread(parse_alone)


def _parse_json(data: bytes) -> dict[str, Any]:
    if not data:
        raise InvalidBody("The JSON body is empty.")
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InvalidBody("The JSON body is not UTF-8.") from None
    except json.JSONDecodeError as fault:
        raise InvalidBody(f"The body is not JSON: {fault.msg} at {fault.pos}.") from None
    except RecursionError:
        raise InvalidBody("The JSON body is nested too deeply.") from None
    except ValueError:  # Python's limit on the digits of an integer
        raise InvalidBody("The JSON body holds a number with too many digits.") from None
    if not isinstance(value, dict):
        raise InvalidBody("The JSON body must be an object.")
    if len(value) > MAX_JSON_FIELDS:
        raise InvalidBody(f"The JSON body has more than {MAX_JSON_FIELDS} fields.")
    return value


def _parse_form(data: bytes, charset: str) -> dict[str, Any]:
    """Parse a form. Starlette's parser would read raw UTF-8, as sent by `curl -d`, as Latin-1."""
    try:
        pairs = parse_qsl(
            data.decode(charset),
            keep_blank_values=True,
            encoding=charset,
            errors="strict",
            max_num_fields=MAX_PARTS,
        )
    except UnicodeDecodeError:
        raise InvalidBody("The form is not UTF-8.") from None
    except ValueError:
        raise InvalidBody(f"The form has more than {MAX_PARTS} fields.") from None
    _check_unique(name for name, _ in pairs)
    fields = dict(pairs)
    declared = codec_name(str(fields.pop(CHARSET_FIELD, charset)).encode("utf-8"))
    return fields if declared == charset else _parse_form(data, declared)


async def _read_multipart(
    request: Request, limits: BodyLimits, form: MultipartForm, charset: str
) -> Body:
    limit_bytes, file = limits.fields_bytes, limits.file
    if file is not None:
        limit_bytes = file.max_bytes + max(MULTIPART_SLACK_BYTES, limit_bytes)
    async with aclosing(_chunks(request, limit_bytes)) as chunks:
        async for chunk in chunks:
            await form.feed(chunk)
    fields = form.fields(charset)
    names = [*(name for name, _ in fields), *form.file_names]
    repeated: tuple[str, ...] = ()
    if file is not None and file.allow_repeated and names.count(file.name) > 1:
        repeated = (file.name,)
    _check_unique(name for name in names if name not in repeated)
    others = tuple(name for name in form.file_names if file is None or name != file.name)
    return Body(dict(fields), file=form.upload, other_files=others, repeated=repeated)


def _check_unique(names: Iterable[str]) -> None:
    """Raises InvalidValue for a repeated name."""
    seen = set()
    for name in names:
        if name in seen:
            param = excerpt(name)
            raise InvalidValue(f"'{param}' is given more than once.", param=param)
        seen.add(name)
