"""Facts about Chatterbox Turbo: files, tokens, tags, sampling, limits of voices. Its codec is
S3Gen.

Facts marked [card] are from the model card of ResembleAI/chatterbox-turbo-ONNX, those marked
[source] from the authors' published code (chatterbox-tts 0.1.7).
"""

from typing import Literal, get_args

from chatterbox.families.base import Family, TokenSpec
from chatterbox.families.sampling import min_p, repetition_penalty, temperature, top_k_top_p
from chatterbox.hub.files import FamilyFiles, Graph, Precision, Repository
from chatterbox.runtime.decoder.s3gen import CODE_COUNT, CODEC
from chatterbox.text.lexicon import word_set

GraphName = Literal["speech_encoder", "embed_tokens", "language_model", "conditional_decoder"]
GRAPHS: tuple[GraphName, ...] = get_args(GraphName)
AUTOMATIC: dict[str, Precision] = {"cpu": "q4", "cuda": "fp16"}
AUTOMATIC_DECODER: dict[str, Precision | tuple[Precision, ...]] = {
    "cpu": "q4",
    "cuda": ("fp32", "fp16"),
}
"""On a GPU, fp32 is preferred, since a decoder in half precision can lose the phase. Its matrix
products run in TF32."""
ROOT_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
)

FILES = FamilyFiles(
    family="turbo",
    model_types=frozenset({"chatterbox"}),
    repositories=(
        Repository(
            tuple(
                Graph(
                    name,
                    f"{name}_dtype",
                    AUTOMATIC_DECODER if name == "conditional_decoder" else AUTOMATIC,
                )
                for name in GRAPHS
            ),
            ROOT_FILES,
        ),
    ),
    models={
        "turbo": ("ResembleAI/chatterbox-turbo-ONNX", "d21799bd0354adb85e348b8a0442a8405110a2cf")
    },
)

START_CODE, STOP_CODE = 6561, 6562  # [card]
VOCABULARY = STOP_CODE + 1
END_OF_TEXT_ID = 50256
"""GPT-2's `<|endoftext|>`. The tokenizer appends this token twice to every text [card]. Its id in
the embedded model's `tokenizer.json` is different."""

LM_PROMPT_S = 15.0
"""Seconds at the start of the recording that condition the language model [source]."""
DECODER_PROMPT_S = 10.0
"""Seconds at the start of the recording that prompt the decoder [source]."""
LOUDEST_SPEECH_RMS = 10 ** (-10 / 20)
"""Level that speech never exceeds for 0.2 s. Recordings are normalised to -27 LUFS, and the loudest
speech in such a voice is 9 dB below this level (measured on the embedded model)."""
REFERENCE_LUFS = -27.0
"""Loudness to which recordings are normalised before encoding [source]."""

TOKENS = TokenSpec(
    vocabulary=VOCABULARY,
    stop=frozenset({STOP_CODE}),
    starts=(0,),
    width=CODE_COUNT,
    processors=(temperature, top_k_top_p, min_p, repetition_penalty),
)
"""The processors are in the order of the authors' `T3.inference_turbo` [source], which has no
min-p."""

TAGS = word_set(
    "angry fear surprised whispering advertisement dramatic narration crying happy sarcastic "
    "sigh shush cough groan sniff gasp chuckle laugh"
) | {"clear throat"}
"""Added tokens in `tokenizer.json`. The model reads any other tag aloud."""

_REPLACED = (
    ("…", ", "),
    (":", ","),
    ("—", "-"),
    ("–", "-"),
    (" ,", ","),
    ("“", '"'),
    ("”", '"'),
    ("‘", "'"),
    ("’", "'"),
)
"""Replacements, applied in this order [source]."""
_ENDS = (".", "!", "?", "-", ",")


def clean_up(text: str) -> str:
    """Normalise a segment's text as in training: an initial capital, plain punctuation, an end
    mark.

    The result is at most one character longer, unless the text contains an ellipsis character or
    begins with a letter whose capital form has several letters.
    """
    if text[:1].islower():
        text = text[0].upper() + text[1:]
    text = " ".join(text.split())
    for old, new in _REPLACED:
        text = text.replace(old, new)
    text = text.rstrip(" ")
    return text if text.endswith(_ENDS) else text + "."


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
