"""Builds the hand-made model for tests: its graphs in all five precisions."""

from collections.abc import Iterable
from pathlib import Path

from chatterbox.hub.files import PRECISIONS, Precision
from tools.model_builder import made_language_model as made
from tools.model_builder.embed_tokens import write_embed_tokens
from tools.model_builder.language_model import write_language_model
from tools.model_builder.layout import BYTES, text_ids, write_layout
from tools.model_builder.made_decoder import write_conditional_decoder
from tools.model_builder.made_speech_encoder import write_speech_encoder

END_ID = BYTES
NAME = "chatterbox-made"


def write_made(directory: Path, precisions: Iterable[Precision] = PRECISIONS) -> None:
    """Write the made model."""
    write_layout(directory, made.SIZE, END_ID, NAME)
    text, speech = made.text_table(text_ids(END_ID), END_ID), made.speech_table()
    folder = directory / "onnx"
    for precision in precisions:
        write_embed_tokens(folder, precision, text, speech, END_ID)
        write_language_model(folder, precision, made.SIZE, made.MadeWeights())
        write_speech_encoder(folder, precision)
        write_conditional_decoder(folder, precision)
