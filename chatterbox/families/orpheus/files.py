"""How Orpheus is published: its language model, and the codec that has a repository of its own."""

from chatterbox.hub.files import FamilyFiles, Graph, Precision, Repository

LANGUAGE_MODEL, DECODER, ENCODER = "model", "decoder_model", "encoder_model"
SUITABLE: dict[str, Precision | tuple[Precision, ...]] = {
    "cpu": ("fp32", "fp16"),
    "cuda": ("fp16", "fp32"),
}
EXACT: dict[str, Precision] = {"cpu": "fp32", "cuda": "fp32"}
FLOATS: tuple[Precision, ...] = ("fp32", "fp16")
SNAC_REVISION = "e0b0016bc39c9d144e51aba2f275f59b7a6874d6"
"""As a program that ships this decoder pins it; the hub was not asked. No revision of the language
model was found pinned anywhere: it is taken from `main`."""

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
"""Four bits are never chosen unasked: measured by others, such files pick other tokens than the
float ones in 2 to 15 of 25 steps. SNAC is usable in fp32 and fp16 alone: 8 bits add five times the
noise that it makes itself."""
