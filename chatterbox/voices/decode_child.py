"""The decode child: a loop that reads one untrusted file and answers with samples or a refusal.

Whatever a hostile file does to a decoder, it does it here, with bounded memory and time, without
files, without network. Imported by the child alone.
"""

import io
import os
import resource
import sys
from typing import BinaryIO

import av
import numpy as np
import soundfile

from chatterbox.errors import ChatterboxError
from chatterbox.hardening import deny_inspection
from chatterbox.voices import child_protocol
from chatterbox.voices.audio_file import decode_audio

ADDRESS_SPACE_BYTES = 1 << 30
"""Memory of the whole process: measured at 320 MB for 300 s of audio."""
CPU_S = 10
"""Processor time for one file with the usual cap: measured at 1.3 s for 300 s of Opus."""
REHEARSAL_RATE_HZ = 8_000
"""Unlike 24 kHz it needs the resampler too."""


def main() -> None:
    """Entry of the child."""
    # Libraries may print: the answers' pipe is kept out of their reach.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    rehearse()
    # So far a failure is ours and shows in the server's log; from now on it is a file's.
    os.dup2(nowhere, sys.stderr.fileno())
    guard()
    serve(sys.stdin.buffer, answers)


def rehearse() -> None:
    """Decode one tiny file with each reader, so that what they load late is loaded by now."""
    sound = np.zeros((1, 2 * REHEARSAL_RATE_HZ), np.float32)
    wav, m4a = io.BytesIO(), io.BytesIO()
    soundfile.write(wav, sound[0], REHEARSAL_RATE_HZ, format="WAV")
    with av.open(m4a, "w", format="ipod") as file:
        stream = file.add_stream("aac", rate=REHEARSAL_RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.sample_rate = REHEARSAL_RATE_HZ
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    for rehearsal in (wav, m4a):
        decode_audio(rehearsal.getvalue(), max_seconds=10)


def guard() -> None:
    """Bound this process for good. What is open stays open, but no descriptor can be made any
    more, so no file and no socket either."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    deny_inspection()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the server closes its end or dies."""
    while True:
        try:
            data, max_seconds = child_protocol.read_request(requests)
        except child_protocol.BrokenChannel:
            return
        grant_cpu_time(CPU_S * child_protocol.patience(max_seconds))
        try:
            decoded = decode_audio(data, max_seconds=max_seconds)
        except ChatterboxError as refusal:
            child_protocol.write_refusal(answers, refusal)
        else:
            child_protocol.write_decoded(answers, decoded)


def grant_cpu_time(seconds: float) -> None:
    """So much more from now on: the limit counts from the start of the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
