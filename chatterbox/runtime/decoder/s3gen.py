"""Facts of the S3Gen codec, which Chatterbox models share: rates, context, tokens, sizes.

Facts marked [card] are from the model card of ResembleAI/chatterbox-turbo-ONNX, those marked
[source] from the authors' published code (chatterbox-tts 0.1.7).
"""

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.families.base import CodecSpec

CODE_COUNT = 6561
"""Valid speech codes are 0..6560 [card]."""
SILENCE_CODE = 4299  # [card]
TAIL_SILENCE_CODES = 3
"""Silence codes that the decoder gets after the speech [card]: as many as it looks ahead
[source]."""
CODE_RATE_HZ = 25  # [source]
SAMPLES_PER_CODE = SAMPLE_RATE_HZ // CODE_RATE_HZ
MEL_FRAMES_PER_CODE = 2  # 50 Hz mel from 25 Hz codes [source]
MEL_BANDS = 80  # [source]
SPEAKER_DIM = 192  # x-vector [source]

CODEC = CodecSpec(
    sample_rate_hz=SAMPLE_RATE_HZ,
    tokens_per_frame=1,
    samples_per_frame=SAMPLES_PER_CODE,
    look_ahead_frames=5,
    left_context_frames=8,
    tail_frames=TAIL_SILENCE_CODES,
    fade_in_frames=1,
    silence_tokens=frozenset({SILENCE_CODE}),
)
"""Look-ahead: the flow's encoder sees 3 codes ahead [source]. With 2 more, the vocoder, whose
filters reach about 5 mel frames ahead, gets only final mel frames (33 dB SNR against the one-shot
decode instead of 9). Left context: a third of a second (docs/inside/decoder.md). Fade-in: the
decoder mutes the first 20 ms of every call and fades in over the next 20 ms [card]."""
