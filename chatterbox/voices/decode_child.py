"""The decode child, a process that decodes untrusted files with limited memory and time and without
access to files or the network; and the messages that it exchanges with the server over two
pipes."""

import io
import json
import os
import struct
import sys
from dataclasses import fields
from typing import IO, Any

import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.errors import (
    AudioNotFinite,
    AudioTooLong,
    ChatterboxError,
    UnreadableAudio,
    UnsupportedAudio,
)
from chatterbox.hardening import deny_inspection
from chatterbox.voices.audio_file import decode_audio, read_libsndfile, read_pyav
from chatterbox.voices.recording import LengthLimit, Recording
from chatterbox.voices.sniff import WAV, Container

if sys.platform != "win32":  # on Windows there is no decode child
    import resource

ADDRESS_SPACE_BYTES = 1 << 30
"""Memory limit of the process, which takes 320 MB for 300 s of audio."""
CPU_S = 10
"""Limit of processor time for a file of up to DEFAULT_MAX_S; 300 s of Opus take 1.3 s."""
DEFAULT_MAX_S = 300.0
"""Length limit up to which the time limits apply; above it, they grow in proportion."""
REHEARSAL_RATE_HZ = 8_000
"""Sample rate of the file that `rehearse` decodes; needs the resampler, unlike 24 kHz."""

REQUEST = struct.Struct("<dQ")  # length limit in seconds, size of the file that follows
ANSWER = struct.Struct("<IQ")  # sizes of the JSON and of the float32 samples that follow
MAX_JSON_BYTES = 64 * 1024
SLACK_S = 1.0
"""Accepted excess over the length limit, since a resampler adds a few samples."""
FACTS: dict[str, Any] = {field.name: field.type for field in fields(Recording)[1:]}
REFUSALS: dict[str, type[ChatterboxError]] = {
    refusal.code: refusal
    for refusal in (UnsupportedAudio, UnreadableAudio, AudioTooLong, AudioNotFinite)
}
"""Error classes that the child may send, by code."""


class BrokenChannel(Exception):
    """The other process has exited or sent an invalid message."""


def time_factor(max_seconds: float) -> float:
    """Return the factor for time limits: 1, or in proportion above DEFAULT_MAX_S."""
    return max(1.0, max_seconds / DEFAULT_MAX_S)


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise BrokenChannel("the other process has exited")
    return data


def write_request(stream: IO[bytes], data: bytes, max_seconds: float) -> None:
    """Send a file to the child."""
    stream.write(REQUEST.pack(max_seconds, len(data)))
    stream.write(data)
    stream.flush()


def write_answer(stream: IO[bytes], answer: Recording | ChatterboxError) -> None:
    """Send a recording or one of REFUSALS to the server."""
    if isinstance(answer, Recording):
        facts, audio = {name: getattr(answer, name) for name in FACTS}, answer.audio
    else:
        facts, audio = {"code": answer.code, "message": answer.message}, np.zeros(0, np.float32)
    head = json.dumps(facts).encode()
    stream.write(ANSWER.pack(len(head), audio.nbytes))
    stream.write(head)
    stream.write(np.ascontiguousarray(audio).data)
    stream.flush()


def read_answer(stream: IO[bytes], max_seconds: float) -> Recording:
    """Receive the child's answer, a recording or an error, which is raised. Checks everything,
    since a hostile file may control the child. Raises BrokenChannel if the answer is invalid."""
    head_bytes, audio_bytes = ANSWER.unpack(_read(stream, ANSWER.size))
    if head_bytes > MAX_JSON_BYTES or audio_bytes > 4 * SAMPLE_RATE_HZ * (max_seconds + SLACK_S):
        raise BrokenChannel("an answer that is too large")
    head, samples = _read(stream, head_bytes), _read(stream, audio_bytes)
    try:
        facts = json.loads(head)
        if "code" in facts:
            raise REFUSALS[facts["code"]](str(facts["message"]))
        audio: F32 = np.frombuffer(samples, np.float32)
        recording = Recording(audio, **{name: kind(facts[name]) for name, kind in FACTS.items()})
    except (ValueError, KeyError, TypeError, RecursionError) as invalid:
        raise BrokenChannel("an answer that cannot be parsed") from invalid
    if not bool(np.isfinite(audio).all()):
        raise BrokenChannel("an answer with samples that are not finite")
    return recording


def main() -> None:
    """Run the child."""
    # Libraries may print, so answers go to a copy of stdout.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    rehearse()
    # Messages up to here are about the program and belong in the log; later ones are about a file.
    os.dup2(null, sys.stderr.fileno())
    restrict()
    serve(sys.stdin.buffer, answers)


def rehearse() -> None:
    """Decode a short file with each reader, since the libraries load modules on first use."""
    import soundfile  # slow to import, and not needed in the server

    wav = io.BytesIO()
    soundfile.write(wav, np.zeros(2 * REHEARSAL_RATE_HZ), REHEARSAL_RATE_HZ, format="WAV")
    read_libsndfile(wav.getvalue(), WAV, LengthLimit(10), None)
    by_pyav = Container("pyav", ("wav",), ("pcm_s16le",))
    read_pyav(wav.getvalue(), by_pyav, LengthLimit(10), None)


def restrict() -> None:
    """Limit this process permanently. Open descriptors stay open, but no new ones can be created,
    so neither files nor sockets can be opened."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    deny_inspection()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until the server closes its end or dies."""
    while True:
        try:
            max_seconds, size = REQUEST.unpack(_read(requests, REQUEST.size))
            data = _read(requests, size)
        except BrokenChannel:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)  # RLIMIT_CPU counts from the start
        soft = int(used.ru_utime + used.ru_stime + CPU_S * time_factor(max_seconds)) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        try:
            write_answer(answers, decode_audio(data, max_seconds=max_seconds))
        except ChatterboxError as refusal:
            write_answer(answers, refusal)
