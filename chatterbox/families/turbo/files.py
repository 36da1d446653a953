"""How Chatterbox Turbo is published: its graphs, the other files, the names of its models."""

from typing import Literal, get_args

from chatterbox.hub.files import FamilyFiles, Graph, Precision, Repository

GraphName = Literal["speech_encoder", "embed_tokens", "language_model", "conditional_decoder"]
GRAPHS: tuple[GraphName, ...] = get_args(GraphName)
AUTOMATIC: dict[str, Precision] = {"cpu": "q4", "cuda": "fp16"}
AUTOMATIC_DECODER: dict[str, Precision | tuple[Precision, ...]] = {
    "cpu": "q4",
    "cuda": ("fp32", "fp16"),
}
"""In half precision a decoder may lose its phase; in fp32 its products run in TF32 on a GPU."""
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
        "turbo": (
            "ResembleAI/chatterbox-turbo-ONNX",
            "d21799bd0354adb85e348b8a0442a8405110a2cf",
        )
    },
)
