"""Object stores as voices need them: whole objects, replaced only in place of what was read.

`obstore` where the store writes conditionally: S3, Google's, Azure's and what speaks as they do;
else any file system of `fsspec`, for one server that changes voices.
"""

import errno
import hashlib
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from chatterbox.errors import ConfigError, first_line
from chatterbox.voices.records import Outdated

T = TypeVar("T")
CONDITIONAL = re.compile(r"(s3a?|gs|az|azure|abfss?|adl)://")
CONNECT_S, CALL_S = 3.0, 10.0
RETRIES, RETRY_S = 2, 5.0
INSTALL = "pip install -r requirements-store.txt"
NEW = ""
"""In place of a tag: only where there is no such object yet."""


class Blobs(Protocol):
    """Objects by key, each with a tag that is another one for other bytes. Methods raise OSError;
    none takes longer than a few times CALL_S."""

    conditional: bool
    """Whether `put` keeps to its tag also while others write."""

    def get(self, key: str, unless: str = NEW) -> tuple[bytes, str] | None:
        """An object and its tag; None where it has the tag `unless`."""

    def put(self, key: str, data: bytes, tag: str | None = None) -> str:
        """Write an object, and give its tag. `tag`: only in place of the object with that one, or
        Outdated is raised."""

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; fine where they are gone."""

    def ages(self, prefix: str) -> dict[str, float]:
        """The keys that begin so, with the seconds since they were written."""


def without_secrets(text: str) -> str:
    """What may be logged of an address or a library's message: no user, no query, no body. And
    nothing of how long was tried."""
    said = re.sub(r"(?<=//)[^/@\s]*@|\?\S*|:? *<.*", "", first_line(Exception(text)))
    return re.sub(r" in [\d.]+\w+(, after .*?)? +- ", ": ", said)


def open_blobs(url: str) -> Blobs:
    """The store at an address; asks it nothing. Raises ConfigError."""
    try:
        if not url[:1].isalpha():
            raise ValueError("it is no address")
        return ObstoreBlobs(url) if CONDITIONAL.match(url) else FsspecBlobs(url)
    except ImportError as missing:
        ours = missing.name in ("obstore", "fsspec")
        reason = f"run {INSTALL}" if ours else without_secrets(str(missing))
    except Exception as wrong:  # noqa: BLE001 - of either library, for whatever was typed
        reason = without_secrets(str(wrong)) or type(wrong).__name__
    raise ConfigError(f"CHATTERBOX_VOICES={without_secrets(url)}: {reason}")


class ObstoreBlobs:
    """By the Rust crate `object_store`. Credentials are found as its documentation says: in the
    environment, else by the machine's role."""

    conditional = True

    def __init__(self, url: str) -> None:
        import obstore

        self._obstore = obstore
        self._store = obstore.store.from_url(
            url,
            client_options={
                "connect_timeout": timedelta(seconds=CONNECT_S),
                "timeout": timedelta(seconds=CALL_S),
                "allow_http": True,  # the endpoint says which it is
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
            listed = [one for part in self._obstore.list(self._store, prefix) for one in part]
        return {one["path"]: (now - one["last_modified"]).total_seconds() for one in listed}


def _tag(version: dict[str, Any]) -> str:
    """Google's goes by the generation, the others by the ETag."""
    return " ".join(part for part in (version["e_tag"], version["version"]) if part)


class FsspecBlobs:
    """Any file system of `fsspec`: tags are made of the bytes and looked at before writing, so
    that of two who write at once the later one wins."""

    conditional = False

    def __init__(self, url: str) -> None:
        import fsspec

        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._threads = ThreadPoolExecutor(4, "voices' store")

    def _call(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """With a time-out, which few of them have."""
        try:
            return self._threads.submit(call, *args, **kwargs).result(CALL_S)
        except TookTooLong:
            raise OSError(errno.ETIMEDOUT, "no answer in time") from None
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such file") from None
        except Exception as failure:  # noqa: BLE001 - of any library
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
            found = self._call(self._fs.find, self._path(prefix), detail=True)
            return {path[len(self._path("")) :]: _age(info) for path, info in found.items()}
        return {}


def _age(info: dict[str, Any]) -> float:
    """As far as the file system says."""
    names = ("mtime", "modified", "LastModified", "last_modified", "created")
    said = (info.get(name) for name in names)
    when = next((one for one in said if isinstance(one, datetime | int | float)), time.time())
    return time.time() - (when.timestamp() if isinstance(when, datetime) else when)
