"""How does a prepared reference stand on disk? As 16-bit FLAC at 24 kHz: exact, and playable.

Reads only files that this program wrote or shipped; uploads go through `decoder.py`.
"""

import io

import numpy as np

from chatterbox.runtime.contract import LM_PROMPT_S, SAMPLE_RATE_HZ
from chatterbox.voices.reference import I16
from chatterbox.voices.tensor_file import DamagedFile

MAX_SAMPLES = int(LM_PROMPT_S * SAMPLE_RATE_HZ)


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
