"""Exports a checkpoint of codec and language model to the hub's layout."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chatterbox.hub.files import Precision
from tools.model_builder.language_model import LanguageModelSize, write_language_model
from tools.model_builder.layout import BYTES, text_ids, write_layout
from tools.model_builder.made import END_ID

from . import align, codec, graphs, lm, render
from .units import PHONES, ROW, Units

Array = NDArray[Any]

NAME = "chatterbox-mini"
SAMPLING = {"temperature": 0.5, "top_k": 1000, "top_p": 0.95, "repetition_penalty": 1.0}
"""What this model speaks best with; the large one's 0.8 and 1.2 make a small one stumble."""
READ_AS = {";": ",", ":": ",", "-": " ", '"': " ", "\n": " ", "(": ",", ")": ","}
BLANK = 0  # align.LETTERS[0]


class LanguageModelWeights:
    """`tools.model_builder.language_model.Weights` from an `lm.Model`."""

    def __init__(self, model: lm.Model) -> None:
        with torch.no_grad():
            self._named = {
                "positions": model.wpe,
                "head": model.head().t(),
                "head.bias": model.head_b,
                "norm.gamma": model.ln_f,
                "norm.beta": model.ln_f_b,
            }
            for i in range(lm.LAYERS):
                qkv = torch.cat([model.q[i], model.k[i], model.v[i]], 1)
                qkv_b = torch.cat([model.q_b[i], model.k_b[i], model.v_b[i]])
                self._named |= {
                    f"{i}.norm_1.gamma": model.ln[i, 0],
                    f"{i}.norm_1.beta": model.ln_b[i, 0],
                    f"{i}.qkv": qkv,
                    f"{i}.qkv.bias": qkv_b,
                    f"{i}.out": model.o[i],
                    f"{i}.out.bias": model.o_b[i],
                    f"{i}.norm_2.gamma": model.ln[i, 1],
                    f"{i}.norm_2.beta": model.ln_b[i, 1],
                    f"{i}.up": model.fc[i],
                    f"{i}.up.bias": model.fc_b[i],
                    f"{i}.down": model.proj[i],
                    f"{i}.down.bias": model.proj_b[i],
                }

    def get(self, name: str, *shape: int) -> Array:
        """The weight `name`."""
        values: Array = self._named[name].detach().float().numpy()
        assert values.shape == shape, (name, values.shape, shape)
        return values


def _letter_of(symbol: str) -> int:
    symbol = READ_AS.get(symbol.lower(), symbol.lower())
    return align.LETTERS.index(symbol) if symbol in align.LETTERS else BLANK


def embed_tables(model: lm.Model, lasting: Array, units: Units) -> dict[str, Array]:
    """Tables of `graphs.write_embed_tokens`. Bytes that were not trained read as a blank."""
    rows = np.full(text_ids(END_ID), BLANK)
    for byte in range(128):
        rows[byte] = _letter_of(chr(byte))
    assert END_ID == BYTES
    with torch.no_grad():
        letters = model.letters.numpy()
        # Start and stop are rows of their own; the last row is nothing.
        rows_of_codes = torch.cat([model.embed_rows, model.start, torch.zeros(1, lm.WIDTH)])
    start, stop, nothing = ROW, ROW + 1, ROW + 2
    parts = units.parts() + np.array([0, PHONES, 2 * PHONES])
    parts = np.concatenate([parts, [[start, nothing, nothing], [stop, nothing, nothing]]])
    return {
        "letters": letters[rows],
        "lasting": lasting[rows].astype(np.float32),
        "expected": model.expected.detach().numpy(),
        "rows": rows_of_codes.numpy(),
        "parts": parts.astype(np.int64),
    }


def export(folder: Path, target: Path, precisions: tuple[Precision, ...] = ("fp32",)) -> None:
    """Write the model directory `target` from the checkpoints in `folder`."""
    found = codec.Codec().eval()
    found.load_state_dict(torch.load(folder / "heard.pt")["model"])
    units = Units.load(folder)
    model = lm.Model(units).eval()
    model.load_state_dict(torch.load(folder / "lm.pt")["average"])
    with np.load(folder / "align.npz") as aligned:
        lasting = aligned["letter_codes"]
    size = LanguageModelSize(
        lm.LAYERS, lm.HEADS, lm.WIDTH // lm.HEADS, 4 * lm.WIDTH, lm.POSITIONS, lm.VOCAB
    )
    write_layout(target, size, END_ID, NAME)
    settings = target / "generation_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | SAMPLING, indent=2) + "\n")

    def arrays(module: torch.nn.Module) -> dict[str, Array]:
        return {name: value.numpy() for name, value in module.state_dict().items()}

    decoder = arrays(found.decoder)
    decoder["sharp"] = decoder["sharp"] @ render.sharpening_matrix(render.EMPHASIS).numpy()
    speaker = {k: v.detach().numpy() for k, v in model.speaker.named_parameters()}
    for precision in precisions:
        onnx = target / "onnx"
        graphs.write_speech_encoder(onnx, precision, arrays(found.encoder), speaker, units)
        graphs.write_embed_tokens(
            onnx,
            precision,
            embed_tables(model, lasting, units),
            END_ID,
            lm.FIRST_CODE - 1 + lm.LEAD_CODES,
        )
        write_language_model(onnx, precision, size, LanguageModelWeights(model))
        graphs.write_conditional_decoder(onnx, precision, decoder, units, codec.Decoder.PADS)
