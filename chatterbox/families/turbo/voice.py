"""A Turbo voice: what the speech encoder makes of a reference, and whether tensors can be that."""

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import onnxruntime as ort

from chatterbox.arrays import F32, I64
from chatterbox.families.turbo.spec import DECODER_PROMPT_S, LM_PROMPT_S, REFERENCE_LUFS
from chatterbox.families.voices import Arrays, ReferenceRules, UnusableVoice
from chatterbox.runtime.decoder.s3gen import CODE_COUNT, CODE_RATE_HZ, MEL_FRAMES_PER_CODE
from chatterbox.runtime.published_lm import require

RANKS = (2, 2, 1, 1)
"""Of features, prompt_mel, prompt_codes and speaker."""
MAX_FEATURE_ROWS = int(LM_PROMPT_S * CODE_RATE_HZ) + 1
"""One speaker row and a row for each code of the prompt."""
MAX_PROMPT_CODES = int(DECODER_PROMPT_S * CODE_RATE_HZ)


@dataclass(frozen=True, slots=True, eq=False)
class VoiceTensors:
    """What the speech encoder makes of a reference; all a request needs of a voice."""

    features: F32  # [rows ≤ 376, hidden]: the LM's conditioning rows
    prompt_codes: I64  # [n ≤ 250]: the decoder's prompt
    speaker: F32  # [192]: x-vector
    prompt_mel: F32  # [2n, 80]: log-mel of the prompt

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))


def tensors_fault(tensors: VoiceTensors) -> str | None:
    """Why these cannot be a voice's tensors, None where they can."""
    floats = (tensors.features, tensors.speaker, tensors.prompt_mel)
    codes = tensors.prompt_codes
    if any(array.dtype != np.float32 for array in floats) or codes.dtype != np.int64:
        return "a tensor has the wrong type"
    if (tensors.features.ndim, tensors.prompt_mel.ndim, codes.ndim, tensors.speaker.ndim) != RANKS:
        return "a tensor has the wrong rank"
    if not 1 <= len(tensors.features) <= MAX_FEATURE_ROWS:
        return "the number of conditioning rows is out of bounds"
    if len(codes) > MAX_PROMPT_CODES or len(tensors.prompt_mel) != MEL_FRAMES_PER_CODE * len(codes):
        return "prompt codes and prompt mel do not belong together"
    if bool(((codes < 0) | (codes >= CODE_COUNT)).any()):
        return "a prompt code is not a speech code"
    if not all(bool(np.isfinite(array).all()) for array in floats):
        return "a tensor is not finite"
    return None


class EncoderGraph:
    """speech_encoder: a reference → voice tensors. Safe to call from several threads."""

    OUTPUTS = ("audio_features", "audio_tokens", "speaker_embeddings", "speaker_features")

    def __init__(self, session: ort.InferenceSession) -> None:
        require(session, "speech_encoder", {"audio_values"}, set(self.OUTPUTS))
        self._session = session

    def encode(self, audio: F32) -> VoiceTensors:
        """`audio` [samples] at 24 kHz → tensors without their batch axis."""
        features, codes, speaker, mel = self._session.run(
            list(self.OUTPUTS), {"audio_values": audio[None].astype(np.float32)}
        )
        return VoiceTensors(
            features=np.ascontiguousarray(features[0], np.float32),
            prompt_codes=np.ascontiguousarray(codes[0], np.int64),
            speaker=np.ascontiguousarray(speaker[0], np.float32),
            prompt_mel=np.ascontiguousarray(mel[0], np.float32),
        )


@dataclass(frozen=True, slots=True)
class TurboVoices:
    """Implements `ClonedVoices`."""

    encoder: EncoderGraph
    key: str

    rules: ClassVar = ReferenceRules(max_s=LM_PROMPT_S, loudness_lufs=REFERENCE_LUFS)

    def encode(self, audio: F32, transcript: str | None) -> VoiceTensors:  # noqa: ARG002
        """Of the recording alone."""
        return self.encoder.encode(audio)

    def to_arrays(self, data: VoiceTensors) -> Arrays:
        """By the tensors' names."""
        return {field.name: getattr(data, field.name) for field in fields(data)}

    def from_arrays(self, arrays: Arrays) -> VoiceTensors:
        """Checked as a stranger's."""
        names = {field.name for field in fields(VoiceTensors)}
        if missing := sorted(names - arrays.keys()):
            raise UnusableVoice(f"it has no tensor {missing[0]!r}")
        if arrays.keys() != names:
            raise UnusableVoice("it holds something else than a voice")
        tensors = VoiceTensors(**arrays)
        if fault := tensors_fault(tensors):
            raise UnusableVoice(fault)
        return tensors

    def alike(self, data: VoiceTensors, own: VoiceTensors) -> bool:
        """Rows, x-vector and mel are as wide."""
        return (
            data.features.shape[1] == own.features.shape[1]
            and data.speaker.shape == own.speaker.shape
            and data.prompt_mel.shape[1] == own.prompt_mel.shape[1]
        )
