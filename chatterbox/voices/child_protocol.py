"""The protocol between the server and its decode child: length-prefixed messages over two pipes."""

import json
import struct
from typing import Any, BinaryIO

import numpy as np

from chatterbox import errors
from chatterbox.errors import ChatterboxError
from chatterbox.voices.resampler import ENCODER_RATE_HZ, F32, Decoded

REQUEST = struct.Struct("<dQ")  # the cap in seconds, bytes of audio that follow
ANSWER = struct.Struct("<IQ")  # bytes of JSON that follow, then bytes of float32 samples
USUAL_CAP_S = 300.0
"""The default cap, for which the child's limits on time are made."""
MAX_JSON_BYTES = 64 * 1024
SLACK_S = 1.0
"""A resampler may give a few samples more than the cap; a second is beyond doubt."""

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


def _read(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise BrokenChannel("the other side is gone")
    return data


def write_request(stream: BinaryIO, data: bytes, max_seconds: float) -> None:
    """Server side: one file to decode."""
    stream.write(REQUEST.pack(max_seconds, len(data)))
    stream.write(data)
    stream.flush()


def read_request(stream: BinaryIO) -> tuple[bytes, float]:
    """Child side: the next file and the cap. Raises BrokenChannel at the end."""
    max_seconds, size = REQUEST.unpack(_read(stream, REQUEST.size))
    return _read(stream, size), max_seconds


def write_decoded(stream: BinaryIO, decoded: Decoded) -> None:
    """Child side: success."""
    facts = {
        "duration_s": decoded.duration_s,
        "sample_rate_hz": decoded.sample_rate_hz,
        "channels": decoded.channels,
        "peak": decoded.peak,
        "clipped_share": decoded.clipped_share,
        "cut": decoded.cut,
        "opposite_polarity": decoded.opposite_polarity,
    }
    _write_answer(stream, facts, decoded.audio)


def write_refusal(stream: BinaryIO, refusal: ChatterboxError) -> None:
    """Child side: one of REFUSALS."""
    _write_answer(
        stream, {"code": refusal.code, "message": refusal.message}, np.zeros(0, np.float32)
    )


def _write_answer(stream: BinaryIO, facts: dict[str, Any], audio: F32) -> None:
    head = json.dumps(facts).encode()
    stream.write(ANSWER.pack(len(head), audio.nbytes))
    stream.write(head)
    stream.write(np.ascontiguousarray(audio).data)
    stream.flush()


def read_answer(stream: BinaryIO, max_seconds: float) -> Decoded:
    """Server side: the recording, or the refusal raised. The child is not trusted: a decoder
    bug may have made it say anything. Raises BrokenChannel where it does."""
    head_bytes, audio_bytes = ANSWER.unpack(_read(stream, ANSWER.size))
    if head_bytes > MAX_JSON_BYTES or audio_bytes > 4 * ENCODER_RATE_HZ * (max_seconds + SLACK_S):
        raise BrokenChannel("an answer beyond its bounds")
    head, samples = _read(stream, head_bytes), _read(stream, audio_bytes)
    try:
        facts = json.loads(head)
        if "code" in facts:
            raise REFUSALS[facts["code"]](str(facts["message"]), param="voice_file")
        decoded = Decoded(
            audio=np.frombuffer(samples, np.float32),
            duration_s=float(facts["duration_s"]),
            sample_rate_hz=int(facts["sample_rate_hz"]),
            channels=int(facts["channels"]),
            peak=float(facts["peak"]),
            clipped_share=float(facts["clipped_share"]),
            cut=bool(facts["cut"]),
            opposite_polarity=bool(facts["opposite_polarity"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as nonsense:
        raise BrokenChannel("an answer that is not one") from nonsense
    if not bool(np.isfinite(decoded.audio).all()):
        raise BrokenChannel("an answer that is not sound")
    return decoded
