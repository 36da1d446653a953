"""Files of a voice: its reference as 16-bit FLAC at 24 kHz, and the one file of an exported voice.

Reads only what this program wrote or shipped, and an import, which is checked; uploaded recordings
go through `sandbox.py`.
"""

import io
import json
from dataclasses import dataclass

import numpy as np
from pydantic import TypeAdapter, ValidationError

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.errors import InvalidVoiceFile
from chatterbox.families.voices import Arrays
from chatterbox.voices.reference import I16, ReferenceReport
from chatterbox.voices.tensor_file import DamagedFile, pack, unpack

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
REPORT_JSON = TypeAdapter(ReferenceReport)
REFERENCE_ARRAY = "reference_pcm"


@dataclass(frozen=True, slots=True, eq=False)
class ExportedVoice:
    """The contents of one exported file."""

    name: str
    aliases: tuple[str, ...]
    report: ReferenceReport
    reference: I16  # [samples] mono 24 kHz
    model_key: str
    arrays: Arrays  # of the family that it was encoded for
    transcript: str | None = None  # of the recording


def write_voice_file(voice: ExportedVoice) -> bytes:
    """The file."""
    return pack(
        {**voice.arrays, REFERENCE_ARRAY: voice.reference},
        {
            "format": FORMAT,
            "version": VERSION,
            "names": json.dumps([voice.name, *voice.aliases], ensure_ascii=False),
            "report": REPORT_JSON.dump_json(voice.report).decode(),
            "model_key": voice.model_key,
        }
        | ({} if voice.transcript is None else {"transcript": voice.transcript}),
    )


def read_voice_file(data: bytes) -> ExportedVoice:
    """The inverse of `write_voice_file`. Raises InvalidVoiceFile."""
    try:
        if len(data) > MAX_BYTES:
            raise DamagedFile(f"it is larger than {MAX_BYTES} bytes")
        arrays, metadata = unpack(data)
        if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
            raise DamagedFile("it is not a voice exported by this program")
        reference = arrays.pop(REFERENCE_ARRAY)
        check_reference(reference)
        names = json.loads(_bounded(metadata["names"], MAX_NAMES_BYTES))
        if not (names and isinstance(names, list) and all(isinstance(n, str) for n in names)):
            raise DamagedFile("its names are damaged")
        return ExportedVoice(
            name=names[0],
            aliases=tuple(names[1:]),
            report=REPORT_JSON.validate_json(_bounded(metadata["report"], MAX_REPORT_BYTES)),
            reference=reference,
            model_key=metadata["model_key"],
            arrays=arrays,
            transcript=metadata.get("transcript"),
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
