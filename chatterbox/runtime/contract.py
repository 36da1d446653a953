"""Names of the graphs, their constants, and the seams between the rooms (`docs/architecture.md`).

Knows no session and no file: numbers, value types and the Protocols that have a fake in the tests.
Facts marked [card] are from the model card of ResembleAI/chatterbox-turbo-ONNX, those marked
[source] from the authors' published code (chatterbox-tts 0.1.7).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

GraphName = Literal["speech_encoder", "embed_tokens", "language_model", "conditional_decoder"]
GRAPHS: tuple[GraphName, ...] = get_args(GraphName)

Precision = Literal["fp32", "fp16", "q8", "q4", "q4f16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
PRECISION_SUFFIX: dict[Precision, str] = {
    "fp32": "",
    "fp16": "_fp16",
    "q8": "_quantized",
    "q4": "_q4",
    "q4f16": "_q4f16",
}
"""File name suffix by precision [card]: `onnx/<graph><suffix>.onnx` plus `<same name>_data`."""

START_CODE = 6561  # [card]
STOP_CODE = 6562  # [card]
CODE_COUNT = 6561
"""Valid speech codes are 0..6560 [card]; START_CODE and STOP_CODE follow."""
SILENCE_CODE = 4299  # [card]
TAIL_SILENCE_CODES = 3
"""The decoder is given three silence codes after the speech [card]: its look-ahead [source]."""
END_OF_TEXT_ID = 50256
"""GPT-2's `<|endoftext|>`; the tokenizer ends every text with two of them [card]. Read from
`tokenizer.json` where it differs, as in the embedded model."""

CODE_RATE_HZ = 25  # [source]
SAMPLE_RATE_HZ = 24_000  # [source]
SAMPLES_PER_CODE = SAMPLE_RATE_HZ // CODE_RATE_HZ
MEL_FRAMES_PER_CODE = 2  # 50 Hz mel behind 25 Hz codes [source]
MEL_BANDS = 80  # [source]
SPEAKER_DIM = 192  # x-vector [source]
LM_PROMPT_S = 15.0
"""The language model is conditioned on at most the first 15 s of the reference [source]."""
DECODER_PROMPT_S = 10.0
"""The decoder is prompted with at most the first 10 s of the reference [source]."""
LOUDEST_SPEECH_RMS = 10 ** (-10 / 20)
"""No speech is louder for 0.2 s: references are brought to -27 LUFS, and speech in such a voice
stays 9 dB below this at its loudest (measured on the embedded model)."""
REFERENCE_LUFS = -27.0
"""Loudness the reference is brought to before encoding [source]."""

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


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


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """An encoded voice as the engine sees it. `key` is its identity in caches: equal key,
    equal tensors."""

    key: str
    tensors: VoiceTensors


class SpeechEncoder(Protocol):
    """Reference audio → voice tensors."""

    def encode(self, audio: F32) -> VoiceTensors:
        """`audio` is [samples] mono float32 at 24 kHz, already at REFERENCE_LUFS."""
        ...


class LanguageModel(Protocol):
    """A fixed number of slots, each holding one row's keys and values; ragged rows step together.

    Called by the engine thread alone. A call that raises has changed nothing: a slot whose `begin`
    failed is free. What an exception means for whom: `graph_faults.py`.
    """

    @property
    def slots(self) -> int:
        """How many rows can be held at once."""
        ...

    @property
    def capacity(self) -> int:
        """Positions a slot can hold: conditioning rows + text + codes."""
        ...

    @property
    def vocab(self) -> int:
        """Width of the logits: 6563 for the published model."""
        ...

    def begin(self, slot: int, voice: Voice, ids: I64) -> F32:
        """Fill `slot` with the voice's rows and the text `ids` [S ≥ 3] (the two end tokens
        included, which the embedding reads as start codes). Returns logits [vocab] for the
        first code."""
        ...

    def step(self, slots: Sequence[int], codes: I64) -> F32:
        """Append one code [B] to each of `slots`; returns logits [B, vocab] in that order."""
        ...

    def release(self, slot: int) -> None:
        """Forget what the slot holds."""
        ...

    def warm(self, voice: Voice) -> None:
        """Compute once, and keep, what `begin` will need of this voice, where memory for it is
        left; may do nothing."""
        ...
