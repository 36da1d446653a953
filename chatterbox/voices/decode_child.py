"""What runs in the guarded process? A loop: one untrusted file in, its samples or a refusal out.

Knows no voice and no server. Whatever a hostile file does to a decoder, it does it here, with
bounded memory and time, without files, without network.
"""

import io
import os
import resource
import sys
from typing import BinaryIO

ADDRESS_SPACE_BYTES = 1 << 30
"""Memory of the whole process: 300 s of audio needs about a tenth of it."""
CPU_S = 10
"""Processor time for one file; 300 s of Opus needs well under one second."""
SOUND_RATE_HZ = 8_000
"""Of the rehearsal's sound; unlike 24 kHz it needs the resampler too."""

os.environ["OPENBLAS_NUM_THREADS"] = "1"
"""Set before numpy is loaded: each of its threads would reserve address space for nothing."""


def guard() -> None:
    """Bound this process for good, after its imports. What is open stays open, nothing else can
    be: no descriptor can be made, so no file and no socket either."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def grant_cpu_time() -> None:
    """CPU_S more from now on: the limit counts from the start of the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + CPU_S
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the server closes its end or dies."""
    from chatterbox.errors import ChatterboxError
    from chatterbox.voices import decode_wire
    from chatterbox.voices.audio_file import decode_audio

    while True:
        try:
            data, max_seconds = decode_wire.read_request(requests)
        except decode_wire.BrokenChannel:
            return
        grant_cpu_time()
        try:
            decoded = decode_audio(data, max_seconds=max_seconds)
        except ChatterboxError as refusal:
            decode_wire.write_refusal(answers, refusal)
        else:
            decode_wire.write_decoded(answers, decoded)


def main() -> None:
    """Entry of the child: `decoder.py` starts it with this project's import path as arguments."""
    # Libraries may print: keep the answers' pipe out of their reach.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    rehearse()
    guard()
    serve(sys.stdin.buffer, answers)


def rehearse() -> None:
    """Decode one tiny file with each reader, so that what they load late is loaded by now."""
    import av
    import numpy as np
    import soundfile

    from chatterbox.voices.audio_file import decode_audio

    sound = np.zeros((1, 2 * SOUND_RATE_HZ), np.float32)
    wav, m4a = io.BytesIO(), io.BytesIO()
    soundfile.write(wav, sound[0], SOUND_RATE_HZ, format="WAV")
    with av.open(m4a, "w", format="ipod") as file:
        stream = file.add_stream("aac", rate=SOUND_RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.sample_rate = SOUND_RATE_HZ
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    for rehearsal in (wav, m4a):
        decode_audio(rehearsal.getvalue(), max_seconds=10)
