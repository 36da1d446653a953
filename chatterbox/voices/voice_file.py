"""What is in an exported voice? One file: its reference, its record, its tensors for one model.

Knows no directory; whose tensors may be used is for the library to decide.
"""

import json
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from chatterbox.errors import InvalidVoiceFile
from chatterbox.runtime.contract import VoiceTensors
from chatterbox.voices.reference import I16, ReferenceReport
from chatterbox.voices.reference_file import check_reference
from chatterbox.voices.tensor_file import (
    DamagedFile,
    arrays_to_tensors,
    pack,
    tensors_to_arrays,
    unpack,
)

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
    tensors: VoiceTensors


def write_voice_file(voice: ExportedVoice) -> bytes:
    """The file."""
    return pack(
        {**tensors_to_arrays(voice.tensors), REFERENCE_ARRAY: voice.reference},
        {
            "format": FORMAT,
            "version": VERSION,
            "names": json.dumps([voice.name, *voice.aliases], ensure_ascii=False),
            "report": REPORT_JSON.dump_json(voice.report).decode(),
            "model_key": voice.model_key,
        },
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
            tensors=arrays_to_tensors(arrays),
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
