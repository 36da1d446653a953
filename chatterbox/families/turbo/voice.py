"""Turbo's voices: the tensors that the speech encoder computes from a recording, and their
checks."""

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import onnxruntime as ort

from chatterbox.arrays import F32, I64
from chatterbox.families.turbo.spec import DECODER_PROMPT_S, LM_PROMPT_S, REFERENCE_LUFS
from chatterbox.families.voices import Arrays, ReferenceRules, UnusableVoice
from chatterbox.runtime.decoder.s3gen import CODE_COUNT, CODE_RATE_HZ, MEL_FRAMES_PER_CODE
from chatterbox.runtime.sessions import require

OUTPUTS = {
    "features": ("audio_features", np.float32),
    "prompt_codes": ("audio_tokens", np.int64),
    "speaker": ("speaker_embeddings", np.float32),
    "prompt_mel": ("speaker_features", np.float32),
}
"""Field of `VoiceTensors` → output of speech_encoder, which has a batch axis, and type."""
MAX_FEATURE_ROWS = int(LM_PROMPT_S * CODE_RATE_HZ) + 1
"""One speaker row and a row for each code of the prompt."""
MAX_PROMPT_CODES = int(DECODER_PROMPT_S * CODE_RATE_HZ)


@dataclass(frozen=True, slots=True, eq=False)
class VoiceTensors:
    """Data of a voice."""

    features: F32  # [rows ≤ 376, hidden]: the language model's conditioning rows
    prompt_codes: I64  # [n ≤ 250]: the decoder's prompt
    speaker: F32  # [192]: x-vector
    prompt_mel: F32  # [2n, 80]: log-mel of the prompt

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, field.name).nbytes for field in fields(self))


def tensors_fault(tensors: VoiceTensors) -> str | None:
    """Return why the tensors cannot belong to a voice, or None if they can."""
    codes, floats = tensors.prompt_codes, (tensors.features, tensors.prompt_mel, tensors.speaker)
    if any(array.dtype != np.float32 for array in floats) or codes.dtype != np.int64:
        return "a tensor has the wrong type"
    if [array.ndim for array in (*floats, codes)] != [2, 2, 1, 1]:
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


@dataclass(frozen=True, slots=True)
class TurboVoices:
    """Implements `ClonedVoices` with the graph speech_encoder."""

    session: ort.InferenceSession
    key: str

    rules: ClassVar = ReferenceRules(max_s=LM_PROMPT_S, loudness_lufs=REFERENCE_LUFS)

    @classmethod
    def of(cls, session: ort.InferenceSession, key: str) -> "TurboVoices":
        """Create from a session. Raises ModelError if the graph is not a speech_encoder."""
        require(session, "speech_encoder", {"audio_values"}, {name for name, _ in OUTPUTS.values()})
        return cls(session, key)

    def encode(self, audio: F32, transcript: str | None) -> VoiceTensors:  # noqa: ARG002
        names = [name for name, _ in OUTPUTS.values()]
        values = self.session.run(names, {"audio_values": audio[None].astype(np.float32)})
        rows = zip(OUTPUTS.items(), values, strict=True)
        return VoiceTensors(
            **{field: np.ascontiguousarray(value[0], dtype) for (field, (_, dtype)), value in rows}
        )

    def to_arrays(self, data: VoiceTensors) -> Arrays:
        return {name: getattr(data, name) for name in OUTPUTS}

    def from_arrays(self, arrays: Arrays) -> VoiceTensors:
        if missing := sorted(OUTPUTS.keys() - arrays.keys()):
            raise UnusableVoice(f"it has no tensor {missing[0]!r}")
        if arrays.keys() != OUTPUTS.keys():
            raise UnusableVoice("it contains other tensors than a voice")
        tensors = VoiceTensors(**arrays)
        if fault := tensors_fault(tensors):
            raise UnusableVoice(fault)
        return tensors

    def is_compatible(self, data: VoiceTensors, own: VoiceTensors) -> bool:
        """Return whether conditioning rows, x-vectors and mels have the same widths."""
        ours, others = (
            (v.features.shape[1], v.speaker.shape, v.prompt_mel.shape[1]) for v in (data, own)
        )
        return ours == others
