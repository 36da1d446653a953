"""The decode child: a loop that reads one untrusted file and answers with samples or a refusal; and
what it and the server say to each other, length-prefixed messages over two pipes.

Whatever a hostile file does to a decoder, it does it here, with bounded memory and time, without
files, without network.
"""

import io
import json
import os
import struct
import sys
from dataclasses import fields
from typing import IO, Any

import numpy as np

from chatterbox import errors
from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.errors import ChatterboxError
from chatterbox.hardening import deny_inspection
from chatterbox.voices.audio_file import decode_audio
from chatterbox.voices.resampler import Decoded

if sys.platform != "win32":  # where there are such children
    import resource

ADDRESS_SPACE_BYTES = 1 << 30
"""Memory of the whole process: measured at 320 MB for 300 s of audio."""
CPU_S = 10
"""Processor time for one file with the usual cap: measured at 1.3 s for 300 s of Opus."""
USUAL_CAP_S = 300.0
"""The default cap, for which the child's limits on time are made."""
REHEARSAL_RATE_HZ = 8_000
"""Unlike 24 kHz it needs the resampler too."""

REQUEST = struct.Struct("<dQ")  # the cap in seconds, bytes of audio that follow
ANSWER = struct.Struct("<IQ")  # bytes of JSON that follow, then bytes of float32 samples
MAX_JSON_BYTES = 64 * 1024
SLACK_S = 1.0
"""A resampler may give a few samples more than the cap; a second is beyond doubt."""
FACTS: dict[str, Any] = {one.name: one.type for one in fields(Decoded) if one.name != "audio"}
REFUSALS: dict[str, type[ChatterboxError]] = {
    refusal.code: refusal
    for refusal in (
        errors.UnsupportedAudio,
        errors.UnreadableAudio,
        errors.AudioTooLong,
        errors.AudioNotFinite,
    )
}
"""The only errors that may come from the child."""


class BrokenChannel(Exception):
    """The other side is gone or speaks nonsense."""


def patience(max_seconds: float) -> float:
    """How many times the usual time a file may take: one, in proportion for a larger cap."""
    return max(1.0, max_seconds / USUAL_CAP_S)


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise BrokenChannel("the other side is gone")
    return data


def write_request(stream: IO[bytes], data: bytes, max_seconds: float) -> None:
    """Server side: one file to decode."""
    stream.write(REQUEST.pack(max_seconds, len(data)))
    stream.write(data)
    stream.flush()


def write_answer(stream: IO[bytes], answer: Decoded | ChatterboxError) -> None:
    """Child side: the recording, or one of REFUSALS."""
    if isinstance(answer, Decoded):
        facts, audio = {name: getattr(answer, name) for name in FACTS}, answer.audio
    else:
        facts, audio = {"code": answer.code, "message": answer.message}, np.zeros(0, np.float32)
    head = json.dumps(facts).encode()
    stream.write(ANSWER.pack(len(head), audio.nbytes))
    stream.write(head)
    stream.write(np.ascontiguousarray(audio).data)
    stream.flush()


def read_answer(stream: IO[bytes], max_seconds: float) -> Decoded:
    """Server side: the recording, or the refusal raised. The child is not trusted: a decoder
    bug may have made it say anything. Raises BrokenChannel where it does."""
    head_bytes, audio_bytes = ANSWER.unpack(_read(stream, ANSWER.size))
    if head_bytes > MAX_JSON_BYTES or audio_bytes > 4 * SAMPLE_RATE_HZ * (max_seconds + SLACK_S):
        raise BrokenChannel("an answer beyond its bounds")
    head, samples = _read(stream, head_bytes), _read(stream, audio_bytes)
    try:
        facts = json.loads(head)
        if "code" in facts:
            raise REFUSALS[facts["code"]](str(facts["message"]), param="voice_file")
        audio: F32 = np.frombuffer(samples, np.float32)
        decoded = Decoded(audio=audio, **{name: kind(facts[name]) for name, kind in FACTS.items()})
    except (ValueError, KeyError, TypeError, RecursionError) as nonsense:
        raise BrokenChannel("an answer that is not one") from nonsense
    if not bool(np.isfinite(audio).all()):
        raise BrokenChannel("an answer that is not sound")
    return decoded


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
    import av  # slow to import: the server has no need of it here
    import soundfile

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


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until the server closes its end or dies."""
    while True:
        try:
            max_seconds, size = REQUEST.unpack(_read(requests, REQUEST.size))
            data = _read(requests, size)
        except BrokenChannel:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)  # a limit counts from the process's start
        more_s = CPU_S * patience(max_seconds)
        soft = int(used.ru_utime + used.ru_stime + more_s) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        try:
            write_answer(answers, decode_audio(data, max_seconds=max_seconds))
        except ChatterboxError as refusal:
            write_answer(answers, refusal)
