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

from chatterbox.families.turbo.voice import VoiceTensors, tensors_fault

Arrays = dict[str, NDArray[Any]]

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "I16": np.dtype("<i2"),
}
CHECKSUM = "sha256"
METADATA = "__metadata__"
NAMES = frozenset({"features", "prompt_codes", "speaker", "prompt_mel", "reference_pcm"})
"""All arrays that such a file may hold."""
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
        if not header.keys() <= NAMES | {METADATA}:
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


def tensors_to_arrays(tensors: VoiceTensors) -> Arrays:
    """For `pack`."""
    return {
        "features": np.ascontiguousarray(tensors.features, np.float32),
        "prompt_codes": np.ascontiguousarray(tensors.prompt_codes, np.int64),
        "speaker": np.ascontiguousarray(tensors.speaker, np.float32),
        "prompt_mel": np.ascontiguousarray(tensors.prompt_mel, np.float32),
    }


def arrays_to_tensors(arrays: Arrays) -> VoiceTensors:
    """The inverse of `tensors_to_arrays`, checked. Raises DamagedFile."""
    try:
        tensors = VoiceTensors(
            features=arrays["features"],
            prompt_codes=arrays["prompt_codes"],
            speaker=arrays["speaker"],
            prompt_mel=arrays["prompt_mel"],
        )
    except KeyError as missing:
        raise DamagedFile(f"it has no tensor {missing}") from missing
    fault = tensors_fault(tensors)
    if fault:
        raise DamagedFile(fault)
    return tensors


def tensors_digest(tensors: VoiceTensors) -> str:
    """Equal for equal tensors, and for no others."""
    return _checksum(tensors_to_arrays(tensors), {})


def _checksum(arrays: Arrays, metadata: Mapping[str, str]) -> str:
    """Over all names, types, shapes, bytes and strings, in one order."""
    digest = hashlib.sha256()
    digest.update(json.dumps(sorted(metadata.items())).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
