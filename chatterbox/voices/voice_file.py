"""What is in an exported voice? One file: its reference, its record, its tensors for one model.

Knows no directory; whose tensors may be used is for the library to decide.
"""

import json
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from chatterbox.errors import InvalidVoiceFile
from chatterbox.model.contract import VoiceTensors
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
MAX_REPORT_CHARS = 16 * 1024
MAX_NAMES_CHARS = 16 * 1024
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
            "names": json.dumps([voice.name, *voice.aliases]),
            "report": REPORT_JSON.dump_json(voice.report).decode(),
            "model_key": voice.model_key,
        },
    )


def read_voice_file(data: bytes) -> ExportedVoice:
    """The inverse of `write_voice_file`. Raises InvalidVoiceFile."""
    try:
        arrays, metadata = unpack(data)
        if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
            raise DamagedFile("it is not a voice exported by this program")
        reference = arrays.pop(REFERENCE_ARRAY)
        check_reference(reference)
        names = json.loads(metadata["names"][:MAX_NAMES_CHARS])
        if not (names and isinstance(names, list) and all(isinstance(n, str) for n in names)):
            raise DamagedFile("its names are damaged")
        return ExportedVoice(
            name=names[0],
            aliases=tuple(names[1:]),
            report=REPORT_JSON.validate_json(metadata["report"][:MAX_REPORT_CHARS]),
            reference=reference,
            model_key=metadata["model_key"],
            tensors=arrays_to_tensors(arrays),
        )
    except DamagedFile as damage:
        raise InvalidVoiceFile(f"This is not a usable voice file: {damage}.") from damage
    except (KeyError, ValidationError, ValueError, RecursionError) as damage:
        raise InvalidVoiceFile("This voice file is damaged.") from damage
