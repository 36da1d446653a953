"""Joins flow and vocoder into one `conditional_decoder` in the published form."""

from collections.abc import Mapping

import onnx

from tools.decoder.flow import mel_frames
from tools.decoder.graph import FLOAT, INT64, Array, Graph
from tools.decoder.vocoder import waveform


def decoder_model(
    weights: Mapping[str, Array], *, steps: int = 2, ragged: bool = True, half: bool = False
) -> onnx.ModelProto:
    """The published graph's inputs, output and draws inside. `half`: in half precision but for
    pitch, phase and the inputs and output. `ragged` adds the input
    `code_lengths` [B]: each row's own number of `speech_tokens`, prompt included, so that rows of
    different length share a call and equal what they are alone."""
    g = Graph(weights, half=half)
    codes = g.input("speech_tokens", INT64, ["batch", "codes"])
    lengths = g.input("code_lengths", INT64, ["batch"]) if ragged else None
    speaker = g.input("speaker_embeddings", FLOAT, ["batch", 192])
    prompt = g.input("speaker_features", FLOAT, ["batch", "prompt_frames", 80])
    mel = mel_frames(g, codes, lengths, speaker, prompt, steps)
    g.output(waveform(g, mel), "waveform", FLOAT, ["batch", "samples"])
    return g.model()
