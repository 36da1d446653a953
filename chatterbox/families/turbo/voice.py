"""A Turbo voice: what the speech encoder makes of a reference, and whether tensors can be that."""

from dataclasses import dataclass

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.families.turbo.spec import (
    CODE_COUNT,
    CODE_RATE_HZ,
    DECODER_PROMPT_S,
    LM_PROMPT_S,
    MEL_FRAMES_PER_CODE,
)

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
        return (
            self.features.nbytes
            + self.prompt_codes.nbytes
            + self.speaker.nbytes
            + self.prompt_mel.nbytes
        )


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
