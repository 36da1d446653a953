"""Files of a voice: arrays as safetensors with a checksum of all of it, its reference as 16-bit
FLAC at 24 kHz, and the one file of an exported voice.

Reads only what this program wrote or shipped, and an import, which is checked and never unpickled;
uploaded recordings go through `sandbox.py`.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from pydantic import TypeAdapter, ValidationError

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.errors import InvalidVoiceFile
from chatterbox.families.voices import Arrays
from chatterbox.voices.reference import I16, Reference, ReferenceReport, pcm_to_float

DTYPES = {"F32": "<f4", "I64": "<i8", "I16": "<i2"}
CHECKSUM = "sha256"
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
    checked = {**metadata, CHECKSUM: digest_of(arrays, metadata)}
    packed: bytes = safetensors.numpy.save(arrays, metadata=checked)
    return packed


def unpack(data: bytes) -> tuple[Arrays, dict[str, str]]:
    """The inverse of `pack`. Raises DamagedFile."""
    try:
        header = _header(data)
        if len(header) > MOST_ARRAYS:
            raise DamagedFile("it holds something else than a voice")
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
        metadata: dict[str, str] = dict(header.get("__metadata__", {}))
        arrays: Arrays = {
            name: np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in entries
        }
        if metadata.pop(CHECKSUM, None) != digest_of(arrays, metadata):
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


def digest_of(arrays: Arrays, metadata: Mapping[str, str] = MappingProxyType({})) -> str:
    """Over all names, types, shapes, bytes and strings, in one order: equal for equal ones, and for
    no others."""
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


MAX_SAMPLES = 60 * SAMPLE_RATE_HZ
"""More than any family hears of a recording."""


def reference_to_flac(pcm: I16) -> bytes:
    """One file."""
    import soundfile  # slow to import: only where a voice is stored or encoded again

    buffer = io.BytesIO()
    soundfile.write(
        buffer, pcm, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16", compression_level=1.0
    )
    return buffer.getvalue()


def flac_to_reference(data: bytes) -> I16:
    """The inverse of `reference_to_flac`. Raises DamagedFile."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if (file.format, file.samplerate, file.channels) != ("FLAC", SAMPLE_RATE_HZ, 1):
                raise DamagedFile("the reference is not mono FLAC at 24 kHz")
            pcm: I16 = file.read(MAX_SAMPLES, dtype="int16")
    except (soundfile.SoundFileError, RuntimeError, ValueError) as failure:
        raise DamagedFile("the reference cannot be decoded") from failure
    check_reference(pcm)
    return pcm


def check_reference(pcm: I16) -> None:
    """Raises DamagedFile where these cannot be a reference's samples."""
    if pcm.ndim != 1 or pcm.dtype != np.int16 or not 0 < len(pcm) <= MAX_SAMPLES:
        raise DamagedFile("the reference has the wrong type or length")


FORMAT = "chatterbox-voice"
VERSION = "1"
MAX_BYTES = 8 * 1024 * 1024
"""Of the whole file: three times what a full-size voice takes (1.5 MB of conditioning rows, 0.7 MB
of recording, 0.2 MB of mel), and enough for a language model four times as wide."""
MAX_REPORT_BYTES = 16 * 1024
MAX_NAMES_BYTES = 32 * 1024
"""A voice has at most 33 names of 100 characters."""
NAMES_JSON, REPORT_JSON = TypeAdapter(list[str]), TypeAdapter(ReferenceReport)
REFERENCE_ARRAY = "reference_pcm"


@dataclass(frozen=True, slots=True, eq=False)
class ExportedVoice:
    """The contents of one exported file."""

    name: str
    aliases: tuple[str, ...]
    reference: Reference
    model_key: str
    arrays: Arrays  # of the family that it was encoded for


def write_voice_file(voice: ExportedVoice) -> bytes:
    """The file."""
    said = voice.reference.transcript
    return pack(
        {**voice.arrays, REFERENCE_ARRAY: voice.reference.pcm},
        {
            "format": FORMAT,
            "version": VERSION,
            "names": NAMES_JSON.dump_json([voice.name, *voice.aliases]).decode(),
            "report": REPORT_JSON.dump_json(voice.reference.report).decode(),
            "model_key": voice.model_key,
        }
        | ({} if said is None else {"transcript": said}),
    )


def read_voice_file(data: bytes) -> ExportedVoice:
    """The inverse of `write_voice_file`. Raises InvalidVoiceFile."""
    try:
        if len(data) > MAX_BYTES:
            raise DamagedFile(f"it is larger than {MAX_BYTES} bytes")
        arrays, metadata = unpack(data)
        if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
            raise DamagedFile("it is not a voice exported by this program")
        pcm = arrays.pop(REFERENCE_ARRAY)
        check_reference(pcm)
        report = REPORT_JSON.validate_json(_bounded(metadata["report"], MAX_REPORT_BYTES))
        name, *aliases = NAMES_JSON.validate_json(_bounded(metadata["names"], MAX_NAMES_BYTES))
        return ExportedVoice(
            name,
            tuple(aliases),
            Reference(pcm_to_float(pcm), report, metadata.get("transcript")),
            metadata["model_key"],
            arrays,
        )
    except DamagedFile as damage:
        raise InvalidVoiceFile(f"This is not a usable voice file: {damage}.") from damage
    except (KeyError, ValidationError, ValueError, RecursionError) as damage:
        raise InvalidVoiceFile("This voice file is damaged.") from damage


def _bounded(text: str, most_bytes: int) -> bytes:
    data = text.encode()
    if len(data) > most_bytes:
        raise DamagedFile("its names or its report are too large")
    return data
