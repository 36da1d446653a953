"""Files that are refused, and a decode child that executes code from a file."""

import struct

from .clips import babble, encoded

# Executes the Python code in a file that begins with BAD!; decodes other files.
HOSTILE = """
import os, signal, socket, sys, time
sys.path[:] = sys.argv[1:]
from chatterbox.voices import decode_child
decode = decode_child.decode_audio
def spy(data, *, max_seconds):
    if data[:4] == b"BAD!":
        exec(data[4:])
    return decode(data, max_seconds=max_seconds)
decode_child.decode_audio = spy
decode_child.CPU_S = 0
decode_child.main()
"""

SOUND = babble(1.2, 48_000)


def wave(
    tag: int = 1, channels: int = 1, rate_hz: int = 24_000, bits: int = 16, extra: bytes = b""
) -> bytes:
    block = channels * bits // 8
    fmt = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * block, block, bits) + extra
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", 0)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


REFUSED = {
    "nothing": b"",
    "text": b"hello there, this is not audio at all",
    "playlist": b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1/a.wav\n",
    "zip": b"PK\3\4" + bytes(60),
    "html": b"<!DOCTYPE html><html></html>",
    "aiff": encoded(SOUND, "AIFF"),
    "caf": encoded(SOUND, "CAF"),
    "au": encoded(SOUND, "AU"),
    "w64": encoded(SOUND, "W64"),
    "rf64": encoded(SOUND, "RF64"),
    "big-endian wav": b"RIFX" + encoded(SOUND)[4:],
    "ima adpcm": encoded(SOUND, "WAV", "IMA_ADPCM"),
    "ms adpcm": encoded(SOUND, "WAV", "MS_ADPCM"),
    "gsm": encoded(SOUND, "WAV", "GSM610"),
    "a-law": encoded(SOUND, "WAV", "ALAW"),
    "u-law": encoded(SOUND, "WAV", "ULAW"),
    "two headers": wave()[:36] + wave(tag=0x11)[12:],
    "extensible adpcm": wave(0xFFFE, extra=struct.pack("<HHIH", 22, 16, 4, 0x11) + wave()[:14]),
    "speex": b"OggS" + bytes(24) + b"Speex   " + bytes(60),
    "ebml of another kind": b"\x1a\x45\xdf\xa3" + bytes(60),
    "tagged text": b"ID3\4\0\0\0\0\0\4abcdhello",
    "two frames are no file": bytes(9) + b"\xff\xfb\x90\x00" + bytes(413) + b"\xff\xfb\x90\x00",
    "mp3 far behind other things": bytes(range(1, 256)) * 300 + encoded(SOUND, "MP3"),
    "layer two": b"\xff\xfd\x84\x00" + bytes(60),
}
