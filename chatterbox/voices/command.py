"""The command `chatterbox voices`: lists and manages voices."""

import sys
from argparse import Namespace

from chatterbox.voices.library import VoiceLibrary
from chatterbox.voices.names import VoiceInfo


def run(library: VoiceLibrary, flags: Namespace) -> None:
    """Run `flags.action`: add, delete, export, import, or list by default."""
    match flags.action:
        case "add":
            info, created = library.register(flags.file.read_bytes(), flags.name, flags.transcript)
            print(f"{'Registered' if created else 'Already registered'}: {_voice_line(info)}")
            for warning in info.report.warnings if info.report else ():
                print(f"  {warning}")
        case "delete":
            print(f"Deleted: {_voice_line(library.delete(flags.voice))}")
        case "export":
            flags.file.write_bytes(library.export(flags.voice))
            print(f"{flags.file}: {_voice_line(library.info(flags.voice))}")
        case "import":
            print(f"Imported: {_voice_line(library.import_(flags.file.read_bytes()))}")
        case _:
            for info in library.list():
                print(_voice_line(info))
            for voice_id, reason in library.skipped:
                print(f"{voice_id}: skipped, {reason}", file=sys.stderr)


def _voice_line(info: VoiceInfo) -> str:
    names = ", ".join(info.names)
    if info.report is None:
        return f"{info.voice_id}  {names}  (the model's own)"
    kind = ", built in" if info.built_in else ""
    return f"{info.voice_id}  {names}  ({info.report.used_duration_s:.1f} s{kind})"
