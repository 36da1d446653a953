"""What did the client send? JSON, form or multipart → named fields and files, within bounds.

Knows content types and sizes; knows no field by name. Nothing else in the server reads a body.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from chatterbox.errors import (
    BodyTimeout,
    BodyTooLarge,
    Cancelled,
    InvalidBody,
    InvalidHttp,
    InvalidValue,
    StorageFull,
    UnsupportedMediaType,
    shown,
)
from chatterbox.server.request_scope import TOO_FINE

STALL_S = 30.0
"""A body may take its time, but not pause for longer than this (FAULTS F52)."""
LEAST_BYTES_PER_S = 1024
"""Slower than any line that speech could be heard over; else every connection there may be could
be kept busy with a byte now and then."""
MAX_PARTS = 32
"""Fields, and files, of one form: twice the fields of any call here."""
MULTIPART_SLACK_BYTES = 64 * 1024
"""Boundaries, part headers and the other fields beside an upload."""
ESCAPED_CHAR_BYTES = 12
"""The longest way to send one character: a pair of JSON's `\\uXXXX` escapes."""
LENGTH_DIGITS = 18
"""A Content-Length of more digits is too large whatever it says."""

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Most bytes of a body. `upload_bytes` 0: this call takes no files."""

    fields_bytes: int
    upload_bytes: int = 0

    @classmethod
    def for_text(cls, chars: int, upload_bytes: int = 0) -> "BodyLimits":
        """Room for a text of `chars` characters however it is escaped."""
        return cls(MULTIPART_SLACK_BYTES + ESCAPED_CHAR_BYTES * chars, upload_bytes)


@dataclass(frozen=True, slots=True)
class Body:
    """What was sent. `typed`: the values have JSON's types; else every value is a string.
    `repeated`: names that were sent again, where that is allowed; the first one counts."""

    fields: dict[str, Any]
    files: dict[str, UploadFile] = field(default_factory=dict)
    typed: bool = False
    repeated: tuple[str, ...] = ()


@asynccontextmanager
async def read_body(
    request: Request, limits: BodyLimits, *, repeatable: Collection[str] = ()
) -> AsyncIterator[Body]:
    """The body by its content type; its files live as long as the context. Of `repeatable` names
    a form may have several.

    Raises InvalidBody, UnsupportedMediaType, BodyTooLarge, BodyTimeout, InvalidValue,
    StorageFull, and Cancelled when the client leaves.
    """
    _refuse_encoding(request)
    kind = parse_options_header(request.headers.get("content-type"))[0].decode("latin-1").lower()
    if kind == MULTIPART:
        form = await _multipart(request, limits)
        try:
            yield _from_multipart(form, repeatable)
        finally:
            await form.close()
    elif kind == FORM:
        yield Body(_from_form(await _whole(request, limits.fields_bytes)))
    elif kind == JSON or (kind.startswith("application/") and kind.endswith("+json")):
        yield Body(_from_json(await _whole(request, limits.fields_bytes)), typed=True)
    elif not kind and not await _whole(request, limits.fields_bytes):
        raise InvalidBody("There is no body; send the fields as JSON, as a form or as multipart.")
    else:
        raise UnsupportedMediaType(f"Send the fields as {JSON}, {FORM} or {MULTIPART}.")


def read_query(request: Request) -> Body:
    """A call that has its fields in the address. Raises InvalidValue."""
    return Body(_once(request.query_params.multi_items()))


async def read_upload(upload: UploadFile, param: str, limit_bytes: int) -> bytes:
    """A file's bytes, now wanted in memory. Raises BodyTooLarge and InvalidValue (no bytes)."""
    if upload.size is not None and upload.size > limit_bytes:
        raise BodyTooLarge(f"'{param}' is larger than {limit_bytes} bytes.", param=param)
    data = await upload.read()
    if not data:
        raise InvalidValue(f"'{param}' is empty.", param=param)
    return data


async def _chunks(request: Request, limit_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes, within its size, without a pause longer than STALL_S, and in all not
    much slower than LEAST_BYTES_PER_S."""
    too_large = BodyTooLarge(f"The body is larger than {limit_bytes} bytes.")
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and (len(stated) > LENGTH_DIGITS or int(stated) > limit_bytes):
        raise too_large
    received = 0
    now = asyncio.get_running_loop().time
    began_at = now()
    async with aclosing(request.stream()) as stream:
        while True:
            try:
                slow_at = began_at + STALL_S + received / LEAST_BYTES_PER_S
                async with asyncio.timeout_at(min(now() + STALL_S, slow_at)):
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
            if request.scope.get(TOO_FINE):
                raise InvalidHttp("The body's chunks are too small.")
            yield chunk


async def _whole(request: Request, limit_bytes: int) -> bytes:
    async with aclosing(_chunks(request, limit_bytes)) as chunks:
        return b"".join([chunk async for chunk in chunks])


def _refuse_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMediaType("Compressed bodies are not read here.")


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
    return value


def _from_form(data: bytes) -> dict[str, Any]:
    """Read here rather than by Starlette, which takes raw UTF-8 (`curl -d`) for Latin-1."""
    try:
        pairs = parse_qsl(
            data.decode("utf-8"),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=MAX_PARTS,
        )
    except UnicodeDecodeError:
        raise InvalidBody("The form is not UTF-8.") from None
    except ValueError:
        raise InvalidBody(f"The form has more than {MAX_PARTS} fields.") from None
    return _once(pairs)


async def _multipart(request: Request, limits: BodyLimits) -> FormData:
    limit_bytes = limits.fields_bytes
    if limits.upload_bytes:
        limit_bytes = limits.upload_bytes + max(MULTIPART_SLACK_BYTES, limits.fields_bytes)
    chunks = _chunks(request, limit_bytes)
    parser = MultiPartParser(
        request.headers,
        chunks,
        max_files=MAX_PARTS if limits.upload_bytes else 0,
        max_fields=MAX_PARTS,
        max_part_size=limits.fields_bytes,
    )
    try:
        async with aclosing(chunks):
            form = await parser.parse()
    except MultiPartException as fault:
        if fault.message.startswith("Part exceeded"):
            raise BodyTooLarge(f"A field is larger than {limits.fields_bytes} bytes.") from None
        raise InvalidBody(f"The multipart body cannot be read: {fault.message}") from None
    except OSError:
        raise StorageFull("There is no room to take in the upload.") from None
    except UnicodeError:  # a charset that Python knows and text cannot have
        raise InvalidBody("The multipart body cannot be read as text.") from None
    begun = parser._files_to_close_on_error
    if len(begun) > sum(isinstance(value, UploadFile) for _, value in form.multi_items()):
        for file in begun:  # the parser forgets one that the body's end has cut
            file.close()
        raise InvalidBody("The multipart body ends in the middle of a file.")
    return form


def _from_multipart(form: FormData, repeatable: Collection[str]) -> Body:
    sent = form.multi_items()
    names = [name for name, _ in sent]
    again = tuple(n for n in dict.fromkeys(names) if n in repeatable and names.count(n) > 1)
    values = _once(sent, repeatable)
    files = {name: value for name, value in values.items() if isinstance(value, UploadFile)}
    fields = {name: value for name, value in values.items() if name not in files}
    return Body(fields, files, repeated=again)


def _once(pairs: list[tuple[str, Any]], repeatable: Collection[str] = ()) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            if name in repeatable:
                continue
            param = shown(name)
            raise InvalidValue(f"'{param}' is given more than once.", param=param)
        values[name] = value
    return values
