"""How do voice tensors and samples stand in a file? As safetensors with a checksum of all of it.

Knows no directory and no model; reads untrusted bytes, and never unpickles.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from chatterbox.families.voices import Arrays

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "I16": np.dtype("<i2"),
}
CHECKSUM = "sha256"
METADATA = "__metadata__"
MOST_ARRAYS = 16
"""In one file: a voice's and its recording."""
LENGTH_BYTES = 8  # of the safetensors header's length field
MAX_HEADER_BYTES = 64 * 1024
"""Five arrays take 500 bytes of it; a voice's names and report at most some 45 KiB. Readers are
given no larger one: they take gigabytes for a header of 46 MiB."""


class DamagedFile(Exception):
    """Not such a file, or not as it was written; the text says why."""


def pack(arrays: Arrays, metadata: Mapping[str, str]) -> bytes:
    """One file of named arrays and strings."""
    checked = {**metadata, CHECKSUM: _checksum(arrays, metadata)}
    packed: bytes = safetensors.numpy.save(arrays, metadata=checked)
    return packed


def unpack(data: bytes) -> tuple[Arrays, dict[str, str]]:
    """The inverse of `pack`. Raises DamagedFile."""
    try:
        header = _header(data)
        if len(header) > MOST_ARRAYS:
            raise DamagedFile("it holds something else than a voice")
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
        metadata: dict[str, str] = dict(header.get(METADATA, {}))
        arrays = {name: _array(entry) for name, entry in entries}
        if metadata.pop(CHECKSUM, None) != _checksum(arrays, metadata):
            raise DamagedFile("its checksum is wrong")
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as bad:
        raise DamagedFile("not a safetensors file of a voice") from bad
    return arrays, metadata


def _header(data: bytes) -> dict[str, Any]:
    """Bounded by its length field before anything of it is parsed. Raises ValueError as well."""
    size = int.from_bytes(data[:LENGTH_BYTES], "little")
    if size > MAX_HEADER_BYTES:
        raise DamagedFile("its header is too large")
    header = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + size].decode("utf-8"))
    if not isinstance(header, dict):
        raise DamagedFile("its header is no object")
    return header


def _array(entry: Mapping[str, Any]) -> NDArray[Any]:
    return np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"])


def digest_of(arrays: Arrays) -> str:
    """Equal for equal arrays, and for no others."""
    return _checksum(arrays, {})


def _checksum(arrays: Arrays, metadata: Mapping[str, str]) -> str:
    """Over all names, types, shapes, bytes and strings, in one order."""
    digest = hashlib.sha256()
    digest.update(json.dumps(sorted(metadata.items())).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
