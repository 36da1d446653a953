"""Files of a voice: arrays as safetensors with a checksum, the reference as 16-bit FLAC at 24 kHz,
and the single file of an exported voice.

Reads files of this program, and imported files, which are checked and never unpickled. Uploaded
recordings are read by `sandbox.py` instead.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

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
NO_METADATA: Mapping[str, str] = MappingProxyType({})
MAX_ARRAYS = 16
"""Most arrays in one file, counting the recording and the metadata."""
LENGTH_BYTES = 8  # size of the field with the length of the safetensors header
MAX_HEADER_BYTES = 64 * 1024
"""Largest header. Five arrays take 500 bytes, a voice's names and report at most 45 KiB. Parsers
need gigabytes for a header of 46 MiB."""
MAX_SAMPLES = 60 * SAMPLE_RATE_HZ
"""Longest reference; no family uses more of a recording."""
FORMAT, VERSION = "chatterbox-voice", "1"
MAX_BYTES = 8 * 1024 * 1024
"""Largest exported file. A full-size voice takes a third of this: 1.5 MB of conditioning rows, 0.7
MB of recording and 0.2 MB of mel. A voice of a language model four times as wide fits too."""
MAX_REPORT_BYTES = 16 * 1024
MAX_NAMES_BYTES = 32 * 1024
"""A voice has at most 33 names of 100 characters."""
NAMES_JSON, REPORT_JSON = TypeAdapter(list[str]), TypeAdapter(ReferenceReport)
REFERENCE_ARRAY = "reference_pcm"


class DamagedFile(Exception):
    """The file is not of the expected kind or was changed. The text gives the reason."""


def pack(arrays: Arrays, metadata: Mapping[str, str] = NO_METADATA) -> bytes:
    """Write named arrays and strings to one file."""
    checked = {**metadata, CHECKSUM: digest_of(arrays, metadata)}
    packed: bytes = safetensors.numpy.save(arrays, metadata=checked)
    return packed


def unpack(data: bytes) -> tuple[Arrays, dict[str, str]]:
    """Return the arrays and strings written by `pack`. Raises DamagedFile."""
    try:
        size = int.from_bytes(data[:LENGTH_BYTES], "little")
        if size > MAX_HEADER_BYTES:
            raise DamagedFile("its header is too large")
        header = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + size].decode("utf-8"))
        if not isinstance(header, dict) or len(header) > MAX_ARRAYS:
            raise DamagedFile("it contains something other than a voice")
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


def digest_of(arrays: Arrays, metadata: Mapping[str, str] = NO_METADATA) -> str:
    """Hash all names, types, shapes, bytes and strings, in a fixed order."""
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def reference_to_flac(pcm: I16) -> bytes:
    """Encode a reference as a FLAC file."""
    import soundfile  # slow to import: only where a voice is stored or encoded again

    buffer = io.BytesIO()
    soundfile.write(
        buffer, pcm, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16", compression_level=1.0
    )
    return buffer.getvalue()


def flac_to_reference(data: bytes) -> I16:
    """Decode the result of `reference_to_flac`. Raises DamagedFile."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if (file.format, file.samplerate, file.channels) != ("FLAC", SAMPLE_RATE_HZ, 1):
                raise DamagedFile("the reference is not mono FLAC at 24 kHz")
            pcm: I16 = file.read(MAX_SAMPLES, dtype="int16")
    except (soundfile.SoundFileError, RuntimeError, ValueError) as failure:
        raise DamagedFile("the reference cannot be decoded") from failure
    return _checked(pcm)


def _checked(pcm: I16) -> I16:
    if pcm.ndim != 1 or pcm.dtype != np.int16 or not 0 < len(pcm) <= MAX_SAMPLES:
        raise DamagedFile("the reference has the wrong type or length")
    return pcm


@dataclass(frozen=True, slots=True, eq=False)
class ExportedVoice:
    """The contents of an exported file."""

    name: str
    aliases: tuple[str, ...]
    reference: Reference
    model_key: str  # identifies the encoder of `arrays`
    arrays: Arrays


def write_voice_file(voice: ExportedVoice) -> bytes:
    """Export a voice as one file."""
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "names": NAMES_JSON.dump_json([voice.name, *voice.aliases]).decode(),
        "report": REPORT_JSON.dump_json(voice.reference.report).decode(),
        "model_key": voice.model_key,
    }
    if voice.reference.transcript is not None:
        metadata["transcript"] = voice.reference.transcript
    return pack({**voice.arrays, REFERENCE_ARRAY: voice.reference.pcm}, metadata)


def read_voice_file(data: bytes) -> ExportedVoice:
    """Parse the result of `write_voice_file`. Raises InvalidVoiceFile."""
    try:
        if len(data) > MAX_BYTES:
            raise DamagedFile(f"it is larger than {MAX_BYTES} bytes")
        arrays, metadata = unpack(data)
        if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
            raise DamagedFile("it is not a voice exported by this program")
        audio = pcm_to_float(_checked(arrays.pop(REFERENCE_ARRAY)))
        names, report = metadata["names"].encode(), metadata["report"].encode()
        if len(names) > MAX_NAMES_BYTES or len(report) > MAX_REPORT_BYTES:
            raise DamagedFile("its names or its report are too large")
        name, *aliases = NAMES_JSON.validate_json(names)
        reference = Reference(audio, REPORT_JSON.validate_json(report), metadata.get("transcript"))
        return ExportedVoice(name, tuple(aliases), reference, metadata["model_key"], arrays)
    except DamagedFile as damage:
        raise InvalidVoiceFile(f"This is not a usable voice file: {damage}.") from damage
    except (KeyError, ValidationError, ValueError, RecursionError) as damage:
        raise InvalidVoiceFile("This voice file is damaged.") from damage
