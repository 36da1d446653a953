"""Chatterbox Turbo's constants: tokens, codec and rules for voices.

Facts marked [card] are from the model card of ResembleAI/chatterbox-turbo-ONNX, those marked
[source] from the authors' published code (chatterbox-tts 0.1.7).
"""

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.families.base import CodecSpec, Family, TokenSpec
from chatterbox.families.sampling import min_p, repetition_penalty, temperature, top_k_top_p
from chatterbox.families.turbo.cleanup import clean_up
from chatterbox.text.lexicon import listed

START_CODE = 6561  # [card]
STOP_CODE = 6562  # [card]
CODE_COUNT = 6561
"""Valid speech codes are 0..6560 [card]; START_CODE and STOP_CODE follow."""
VOCABULARY = CODE_COUNT + 2
SILENCE_CODE = 4299  # [card]
TAIL_SILENCE_CODES = 3
"""The decoder is given three silence codes after the speech [card]: its look-ahead [source]."""
END_OF_TEXT_ID = 50256
"""GPT-2's `<|endoftext|>`; the tokenizer ends every text with two of them [card]. Read from
`tokenizer.json` where it differs, as in the embedded model."""

CODE_RATE_HZ = 25  # [source]
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
"""Look-ahead: the flow's encoder sees 3 codes ahead [source]; 2 more let the vocoder, whose filters
reach about 5 mel frames ahead, see only mel that is final (33 dB from the one-shot decode instead
of 9). Context: a third of a second (docs/decoder.md). Fade-in: the decoder mutes the first 20 ms of
every call and fades in over the next 20 ms [card]."""

TOKENS = TokenSpec(
    vocabulary=VOCABULARY,
    stop=frozenset({STOP_CODE}),
    starts=(0,),
    width=CODE_COUNT,
    processors=(temperature, top_k_top_p, min_p, repetition_penalty),
)
"""The processors' order is that of the authors' `T3.inference_turbo` [source]; theirs have no
min-p."""

TAGS = listed(
    "angry fear surprised whispering advertisement dramatic narration crying happy sarcastic "
    "sigh shush cough groan sniff gasp chuckle laugh"
) | {"clear throat"}
"""Added tokens of its `tokenizer.json`; the model spells out any other."""

TURBO = Family(
    name="turbo",
    title="Chatterbox Turbo",
    codec=CODEC,
    tokens=TOKENS,
    tags=TAGS,
    languages=("en",),
    clean_up=clean_up,
    sampling={"temperature": 0.8, "top_k": 1000, "top_p": 0.95, "repetition_penalty": 1.2},
)
"""Sampling as in `T3.inference_turbo` [source]."""
