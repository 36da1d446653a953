"""Facts about Orpheus: files, ids, tokens, sampling, tags, and the clean-up of texts.

A token is `4096 × place + code`, where `place` is its position 0 … 6 in the frame; the stop token
has the next number. Facts marked [authors] are from canopyai/Orpheus-TTS, [notebook] from copies of
its training notebook.
"""

import re

from chatterbox.families.base import Family, TokenSpec
from chatterbox.families.sampling import min_p, repetition_penalty, temperature, top_k_top_p
from chatterbox.hub.files import FamilyFiles, Graph, Precision, Repository
from chatterbox.runtime.decoder.snac import CODES, PLACES, SNAC
from chatterbox.text.segment import SegmentLimits

LANGUAGE_MODEL, DECODER, ENCODER = "model", "decoder_model", "encoder_model"
SUITABLE: dict[str, Precision | tuple[Precision, ...]] = {
    "cpu": ("fp32", "fp16"),
    "cuda": ("fp16", "fp32"),
}
EXACT: dict[str, Precision] = {"cpu": "fp32", "cuda": "fp32"}
FLOATS: tuple[Precision, ...] = ("fp32", "fp16")
SNAC_REVISION = "e0b0016bc39c9d144e51aba2f275f59b7a6874d6"
"""Revision pinned by another program that uses this decoder; not checked on the hub. No tested
revision of the language model is known, so `main` is used."""

FILES = FamilyFiles(
    family="orpheus",
    model_types=frozenset({"llama"}),
    repositories=(
        Repository(
            (Graph(LANGUAGE_MODEL, "language_model_dtype", SUITABLE),),
            ("config.json", "tokenizer.json"),
            ("generation_config.json", "tokenizer_config.json"),
        ),
        Repository(
            (
                Graph(DECODER, "conditional_decoder_dtype", EXACT, FLOATS),
                Graph(ENCODER, "speech_encoder_dtype", EXACT, FLOATS, optional=True),
            ),
            hub_id="onnx-community/snac_24khz-ONNX",
            revision=SNAC_REVISION,
            folder="snac",
        ),
    ),
    models={"orpheus": ("onnx-community/orpheus-3b-0.1-ft-ONNX", "main")},
)
"""4-bit files are never chosen automatically: in published measurements they chose other tokens
than float files in 2 to 15 of 25 steps. SNAC is usable only in fp32 and fp16: 8 bits add five times
the noise of the codec itself."""

STOPS = {r"[\u3040-\u30ff\u4e00-\u9fff]": "。", r"[\u0900-\u097f]": "।"}
"""Pattern of a script that does not use `.` → its full stop."""
_TAGS = r"(?:\s*[\[<][^\W\d][\w ]*[\]>])*"
_TRAILING = re.compile(rf"(?P<words>.*?)(?P<tags>{_TAGS})", re.DOTALL)
_ENDED = re.compile(r"[.!?…。！？।]['\"»”’)\]]*$")


def clean_up(text: str) -> str:
    """Add a missing full stop, before any tags at the end. Without a full stop the model repeats
    itself more often."""
    text = " ".join(text.split())
    match = _TRAILING.fullmatch(text)
    words, tags = (match["words"], match["tags"]) if match else (text, "")
    if not words or _ENDED.search(words):
        return text
    words = words.rstrip(" ,;:-–—，；：、")
    stop = next((stop for script, stop in STOPS.items() if re.search(script + r"\W*$", words)), ".")
    return words + stop + tags


BEGIN_OF_TEXT, END_OF_TEXT = 128000, 128009
START_OF_SPEECH, END_OF_SPEECH = 128257, 128258  # [authors]
START_OF_HUMAN, END_OF_HUMAN = 128259, 128260  # [authors]
START_OF_AI, END_OF_AI = 128261, 128262  # [authors], [notebook]
FIRST_AUDIO = 128266  # code 0 at place 0 [authors]
AUDIO_IDS = CODES * PLACES
STOP = AUDIO_IDS  # the stop token
COLUMNS = ((FIRST_AUDIO, FIRST_AUDIO + AUDIO_IDS), (END_OF_SPEECH, END_OF_SPEECH + 1))
"""Columns of the logits that belong to tokens, in the tokens' order: ranges [begin, end)."""
POSITIONS = 8192  # length of the longest sequence in training [authors]

ORPHEUS = Family(
    name="orpheus",
    title="Orpheus 3B",
    codec=SNAC,
    tokens=TokenSpec(
        vocabulary=AUDIO_IDS + 1,
        stop=frozenset({STOP}),
        starts=tuple(range(0, AUDIO_IDS, CODES)),
        width=CODES,
        processors=(repetition_penalty, temperature, top_k_top_p, min_p),
    ),
    tags=frozenset({"laugh", "chuckle", "sigh", "cough", "sniffle", "groan", "yawn", "gasp"}),
    languages=("en",),
    sampling={"temperature": 0.6, "top_k": 0, "top_p": 0.9, "repetition_penalty": 1.1},
    segments=SegmentLimits(max_chars=240),
    max_tokens=2048,
    clean_up=clean_up,
    token_text=lambda token: f"<custom_token_{token + 10}>",
)
"""The processors are in the order of vLLM, which the authors use. A repetition penalty of at least
1.1 keeps speech stable [authors]; greedy decoding loops. A segment of 240 characters takes 17 s,
far below the 45 s from which users report worse speech."""
