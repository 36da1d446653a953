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

OUTPUTS = {
    "features": ("audio_features", np.float32),
    "prompt_codes": ("audio_tokens", np.int64),
    "speaker": ("speaker_embeddings", np.float32),
    "prompt_mel": ("speaker_features", np.float32),
}
"""Of speech_encoder, with a batch axis."""
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
        return sum(getattr(self, field.name).nbytes for field in fields(self))


def tensors_fault(tensors: VoiceTensors) -> str | None:
    """Why these cannot be a voice's tensors, None where they can."""
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
    """Implements `ClonedVoices` on the graph speech_encoder."""

    session: ort.InferenceSession
    key: str

    rules: ClassVar = ReferenceRules(max_s=LM_PROMPT_S, loudness_lufs=REFERENCE_LUFS)

    @classmethod
    def of(cls, session: ort.InferenceSession, key: str) -> "TurboVoices":
        """Raises ModelError where the graph is another one."""
        require(session, "speech_encoder", {"audio_values"}, {name for name, _ in OUTPUTS.values()})
        return cls(session, key)

    def encode(self, audio: F32, transcript: str | None) -> VoiceTensors:  # noqa: ARG002
        """Of the recording alone, [samples] at 24 kHz. Safe to call from several threads."""
        names = [name for name, _ in OUTPUTS.values()]
        made = self.session.run(names, {"audio_values": audio[None].astype(np.float32)})
        both = zip(OUTPUTS.items(), made, strict=True)
        return VoiceTensors(
            **{field: np.ascontiguousarray(one[0], kind) for (field, (_, kind)), one in both}
        )

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
        widths = [
            (one.features.shape[1], one.speaker.shape, one.prompt_mel.shape[1])
            for one in (data, own)
        ]
        return widths[0] == widths[1]
