"""Reads and writes whole objects in object stores, with conditional writes where supported.

`obstore` is used for S3, Google Cloud Storage, Azure and compatible stores, which have conditional
writes. `fsspec` is used for all other addresses; then only one server may change voices.
"""

import errno
import hashlib
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as CallTimeout
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from chatterbox.errors import ConfigError, first_line
from chatterbox.voices.store import Outdated

T = TypeVar("T")
CONDITIONAL = re.compile(r"(s3a?|gs|az|azure|abfss?|adl)://")
CONNECT_S, CALL_S = 3.0, 10.0
"""Timeouts of a connection and of a whole call."""
RETRIES, RETRY_S = 2, 5.0
INSTALL = "pip install -r requirements-store.txt"
NEW = ""
"""Tag that stands for an object that does not exist."""


class Blobs(Protocol):
    """Interface of an object store. An object's tag changes with its contents. Methods raise
    OSError and take at most a few times CALL_S."""

    conditional: bool
    """Whether `put` compares tags atomically."""

    def get(self, key: str, unless: str = NEW) -> tuple[bytes, str] | None:
        """Return an object and its tag, or None if the tag is `unless`. Raises FileNotFoundError if
        the object does not exist."""

    def put(self, key: str, data: bytes, tag: str | None = None) -> str:
        """Write an object and return its tag. Raises Outdated if `tag` is given and differs from
        the tag of the current object."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; keys without an object are ignored."""

    def ages(self, prefix: str) -> dict[str, float]:
        """Return keys that begin with `prefix` → seconds since the objects were written."""


def without_secrets(text: str) -> str:
    """Remove user names, queries and response bodies from an address or error message, and
    durations, so that equal errors have equal messages."""
    public = re.sub(r"(?<=//)[^/@\s]*@|\?\S*|:? *<.*", "", first_line(Exception(text)))
    return re.sub(r" in [\d.]+\w+(, after .*?)? +- ", ": ", public)


def open_blobs(url: str) -> Blobs:
    """Open the store at an address without connecting to it. Raises ConfigError."""
    try:
        if not url[:1].isalpha():
            raise ValueError("not an address")
        return ObstoreBlobs(url) if CONDITIONAL.match(url) else FsspecBlobs(url)
    except ImportError as missing:
        known = missing.name in ("obstore", "fsspec")
        reason = f"run {INSTALL}" if known else without_secrets(str(missing))
    except Exception as failure:  # noqa: BLE001 - the libraries raise any class for a bad address
        reason = without_secrets(str(failure)) or type(failure).__name__
    raise ConfigError(f"CHATTERBOX_VOICES={without_secrets(url)}: {reason}")


class ObstoreBlobs:
    """Uses the Rust crate `object_store`, which takes credentials from the environment or from the
    machine's role."""

    conditional = True

    def __init__(self, url: str) -> None:
        import obstore

        self._obstore = obstore
        self._store = obstore.store.from_url(
            url,
            client_options={
                "connect_timeout": timedelta(seconds=CONNECT_S),
                "timeout": timedelta(seconds=CALL_S),
                "allow_http": True,  # if the endpoint's address begins with http
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S)},
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        known = self._obstore.exceptions
        try:
            yield
        except (known.AlreadyExistsError, known.PreconditionError):
            raise Outdated from None
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such object or bucket") from None
        except (known.BaseError, ValueError) as failure:
            raise OSError(errno.EIO, without_secrets(str(failure))) from None

    def get(self, key: str, unless: str = NEW) -> tuple[bytes, str] | None:
        with self._errors():
            try:
                options = {"if_none_match": unless.split()[0]} if unless else {}
                found = self._obstore.get(self._store, key, options=options)
                return bytes(found.bytes()), _tag(found.meta)
            except self._obstore.exceptions.NotModifiedError:
                return None

    def put(self, key: str, data: bytes, tag: str | None = None) -> str:
        mode: Any = {None: "overwrite", NEW: "create"}.get(tag)
        if tag:
            mode = dict(zip(("e_tag", "version"), tag.split(), strict=False))
        with self._errors():
            put = self._obstore.put(self._store, key, data, mode=mode, use_multipart=False)
            return _tag(put)

    def delete(self, keys: Sequence[str]) -> None:
        with self._errors():
            self._obstore.delete(self._store, list(keys))

    def ages(self, prefix: str) -> dict[str, float]:
        now = datetime.now(UTC)
        with self._errors():
            objects = [entry for page in self._obstore.list(self._store, prefix) for entry in page]
        return {entry["path"]: (now - entry["last_modified"]).total_seconds() for entry in objects}


def _tag(version: dict[str, Any]) -> str:
    """Return ETag and version. Google's conditional writes use the version, other stores the
    ETag."""
    return " ".join(part for part in (version["e_tag"], version["version"]) if part)


class FsspecBlobs:
    """Uses a file system of `fsspec`. The tag is the SHA-256 of the contents and is compared before
    writing, so of two concurrent writes the later one wins."""

    conditional = False

    def __init__(self, url: str) -> None:
        import fsspec

        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._threads = ThreadPoolExecutor(4, "voices' store")

    def _call(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call with a timeout, since most file systems have none."""
        try:
            return self._threads.submit(call, *args, **kwargs).result(CALL_S)
        except CallTimeout:
            raise OSError(errno.ETIMEDOUT, "no answer in time") from None
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such file") from None
        except Exception as failure:  # noqa: BLE001 - each file system has its own classes
            raise OSError(errno.EIO, without_secrets(str(failure))) from None

    def _path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}"

    def get(self, key: str, unless: str = NEW) -> tuple[bytes, str] | None:
        data = self._call(self._fs.cat_file, self._path(key))
        tag = hashlib.sha256(data).hexdigest()
        return None if tag == unless else (data, tag)

    def put(self, key: str, data: bytes, tag: str | None = None) -> str:
        if tag is not None:
            with suppress(FileNotFoundError):
                if self.get(key, unless=tag):
                    raise Outdated
        path, temporary = self._path(key), self._path(f"tmp-{uuid.uuid4().hex}")
        with suppress(OSError):
            self._call(self._fs.makedirs, path.rpartition("/")[0], exist_ok=True)
        self._call(self._fs.pipe_file, temporary, data)
        self._call(self._fs.mv, temporary, path)
        return hashlib.sha256(data).hexdigest()

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            with suppress(FileNotFoundError):
                self._call(self._fs.rm_file, self._path(key))

    def ages(self, prefix: str) -> dict[str, float]:
        with suppress(FileNotFoundError):
            files = self._call(self._fs.find, self._path(prefix), detail=True)
            return {path[len(self._path("")) :]: _age(info) for path, info in files.items()}
        return {}


def _age(info: dict[str, Any]) -> float:
    """Return the seconds since the file was modified, or 0 if the time is unknown."""
    for name in ("mtime", "modified", "LastModified", "last_modified", "created"):
        match info.get(name):
            case datetime() as when:
                return time.time() - when.timestamp()
            case int() | float() as when:
                return time.time() - when
    return 0.0
