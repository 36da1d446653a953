"""Reads a request's body: JSON, form or multipart become named fields and files, within bounds."""

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
    Files,
    Form,
    Upload,
    charset_of,
    header_options,
)
from chatterbox.server.request_log import TINY_CHUNKS

T = TypeVar("T")
STALL_S = 30.0
"""How far a body may fall behind LEAST_BYTES_PER_S, and so how long it may pause (FAULTS F52)."""
LEAST_BYTES_PER_S = 16 * 1024
"""As slow as a line that speech in MP3 could be heard over. What came sooner does not count later:
a body that is held back ends within STALL_S, however much of it has come (FAULTS F99)."""
MULTIPART_SLACK_BYTES = 64 * 1024
"""Boundaries, part headers and the other fields beside an upload."""
ESCAPED_CHAR_BYTES = 12
"""The longest way to send one character: a pair of JSON's `\\uXXXX` escapes."""
MAX_JSON_FIELDS = 256
"""Clients of other servers send some dozens that mean nothing here."""
LENGTH_DIGITS = 18
"""A Content-Length of more digits is too large whatever it says."""
INLINE_BYTES = 16 * 1024
"""What is longer is parsed in a thread: the worst body of this size takes 2 ms."""
_PARSING = threading.Lock()

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Most bytes of all fields together, and the file that comes with them."""

    fields_bytes: int
    files: Files | None = None

    @classmethod
    def for_text(cls, chars: int, files: Files | None = None) -> "BodyLimits":
        """Room for a text of `chars` characters however it is escaped."""
        return cls(MULTIPART_SLACK_BYTES + ESCAPED_CHAR_BYTES * chars, files)


@dataclass(frozen=True, slots=True)
class Body:
    """What was sent. `typed`: the values have JSON's types; else every value is a string.
    `other_files`: names of files that the call does not take; their bytes are not kept.
    `repeated`: names that were sent again, where that is allowed; the first one counts."""

    fields: dict[str, Any]
    typed: bool = False
    file: Upload | None = None
    other_files: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()


@asynccontextmanager
async def read_body(
    request: Request, limits: BodyLimits, admission: AdmissionControl
) -> AsyncIterator[Body]:
    """The body by its content type; its files live as long as the context.

    Raises InvalidBody, UnsupportedMediaType, BodyTooLarge, BodyTimeout, InvalidValue, StorageFull,
    Overloaded, what `limits.files.place` raises, and Cancelled when the client leaves.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMediaType("Compressed bodies are not read here.")
    kind, options = header_options(request.headers.get("content-type", "").encode("latin-1"))
    charset = charset_of(options.get(b"charset", b"utf-8"))
    async with AsyncExitStack() as held:
        take = held.enter_context(admission.memory.held())
        if kind == MULTIPART:
            boundary, disk = options.get(b"boundary", b""), admission.disk
            form = Form(boundary, limits.fields_bytes, limits.files, take, disk, held)
            yield await _from_multipart(request, limits, form, charset)
        elif kind == FORM:
            data = await _whole(request, limits.fields_bytes, take)
            yield Body(await _parsed(_from_form, data, charset))
        elif kind == JSON or (kind.startswith("application/") and kind.endswith("+json")):
            if charset != UTF8:
                raise UnsupportedMediaType("JSON is read as UTF-8.")
            data = await _whole(request, limits.fields_bytes, take)
            yield Body(await _parsed(_from_json, data), typed=True)
        elif not kind and not await _whole(request, limits.fields_bytes, take):
            raise InvalidBody(f"There is no body; send the fields as {JSON} or as a form.")
        else:
            raise UnsupportedMediaType(f"Send the fields as {JSON}, {FORM} or {MULTIPART}.")


async def until_disconnect(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`; if the client leaves first, `work` is cancelled, has ended, and
    Cancelled is raised. The request's body must have been read."""

    async def departure() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        raise Cancelled("The client left.")

    task = asyncio.ensure_future(work)
    await first_of(task, departure())
    return task.result()


async def first_of(*work: Awaitable[Any]) -> None:
    """Run all until the first returns or raises; the others are cancelled and have ended."""
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


def read_query(request: Request) -> Body:
    """A call that has its fields in the address. Raises InvalidValue."""
    _refuse_repeated(name for name, _ in request.query_params.multi_items())
    return Body(dict(request.query_params))


async def _chunks(request: Request, limit_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes, within its size, and never further behind than STALL_S."""
    too_large = BodyTooLarge(f"The body is larger than {limit_bytes} bytes.")
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and (len(stated) > LENGTH_DIGITS or int(stated) > limit_bytes):
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
                raise BodyTimeout("The body comes too slowly, or not at all.") from None
            except ClientDisconnect:
                raise Cancelled("The client left while sending.") from None
            received += len(chunk)
            if received > limit_bytes:
                raise too_large
            if request.scope.get(TINY_CHUNKS):
                raise InvalidHttp("The body's chunks are too small.")
            came_at = now()
            yield chunk
            kept_s = now() - came_at  # waiting for a place or the disk is not the client's fault
            late_at = min(late_at + len(chunk) / LEAST_BYTES_PER_S, came_at + STALL_S) + kept_s


async def _whole(request: Request, limit_bytes: int, take: Take) -> bytes:
    data = bytearray()
    async with aclosing(_chunks(request, limit_bytes)) as chunks:
        async for chunk in chunks:
            take(len(chunk))
            data += chunk
    return bytes(data)


async def _parsed(parse: Callable[..., dict[str, Any]], data: bytes, *more: str) -> dict[str, Any]:
    if len(data) <= INLINE_BYTES:
        return parse(data, *more)

    def alone() -> dict[str, Any]:
        """One large body at a time: each thread that parses takes the interpreter's lock from the
        event loop in its turn."""
        with _PARSING:
            return parse(data, *more)

    return await asyncio.to_thread(alone)


def _from_json(data: bytes) -> dict[str, Any]:
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
    except ValueError:  # Python's own bound on the digits of a number
        raise InvalidBody("The JSON body holds a number with too many digits.") from None
    if not isinstance(value, dict):
        raise InvalidBody("The JSON body must be an object.")
    if len(value) > MAX_JSON_FIELDS:
        raise InvalidBody(f"The JSON body has more than {MAX_JSON_FIELDS} fields.")
    return value


def _from_form(data: bytes, charset: str) -> dict[str, Any]:
    """Read here rather than by Starlette, which takes raw UTF-8 (`curl -d`) for Latin-1."""
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
    _refuse_repeated(name for name, _ in pairs)
    fields = dict(pairs)
    stated = charset_of(str(fields.pop(CHARSET_FIELD, charset)).encode("utf-8"))
    return fields if stated == charset else _from_form(data, stated)


async def _from_multipart(request: Request, limits: BodyLimits, form: Form, charset: str) -> Body:
    limit_bytes, files = limits.fields_bytes, limits.files
    if files is not None:
        limit_bytes = files.limit_bytes + max(MULTIPART_SLACK_BYTES, limit_bytes)
    async with aclosing(_chunks(request, limit_bytes)) as chunks:
        async for chunk in chunks:
            await form.feed(chunk)
    fields = form.fields(charset)
    names = [*(name for name, _ in fields), *form.files]
    again = files is not None and files.deterministic and names.count(files.name) > 1
    repeated = (files.name,) if files is not None and again else ()
    _refuse_repeated(name for name in names if name not in repeated)
    others = tuple(name for name in form.files if files is None or name != files.name)
    return Body(dict(fields), file=form.upload, other_files=others, repeated=repeated)


def _refuse_repeated(names: Iterable[str]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            param = excerpt(name)
            raise InvalidValue(f"'{param}' is given more than once.", param=param)
        seen.add(name)
