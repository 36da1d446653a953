"""Against the authors' own package: what exporters make of it, and what is stored of it for others.

Needs PyTorch and `snac`, which only the environment of requirements-torch.txt has.
"""

import os
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is in requirements-torch.txt")
snac = pytest.importorskip("snac", reason="the authors' package is in requirements-torch.txt")

from families.orpheus.test_snac import (  # noqa: E402
    AUTHORS,
    FRAMES,
    NOISE_SEED,
    WEIGHTS_SEED,
    opened,
    reference_audio,
    some_tokens,
    spoken,
)

from chatterbox.runtime.decoder.snac import (  # noqa: E402
    BLOCKS,
    CODEBOOK_PLACES,
    addressed_noise,
)
from tools.model_builder.snac import (  # noqa: E402
    RATES,
    SMALL,
    STRIDES,
    SnacSize,
    random_weights,
    write_snac,
)

NAMES = [f"audio_codes.{i}" for i in range(3)]


def authors(size: SnacSize, seed: int) -> "snac.SNAC":
    made = snac.SNAC(
        sampling_rate=24000,
        encoder_dim=size.encoder,
        encoder_rates=list(RATES[::-1]),
        decoder_dim=size.decoder,
        decoder_rates=list(RATES),
        attn_window_size=None,
        vq_strides=list(STRIDES),
    ).eval()
    for module in made.modules():
        if torch.nn.utils.parametrize.is_parametrized(module, "weight"):
            torch.nn.utils.parametrize.remove_parametrizations(module, "weight")
    weights = random_weights(size, seed)
    made.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return made


class Decoding(torch.nn.Module):
    """Their decoder behind the published inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.theirs = authors(SMALL, WEIGHTS_SEED)

    def forward(self, *codes: "torch.Tensor") -> "torch.Tensor":
        return self.theirs.decode(list(codes))


def exported(path: Path, codes: tuple["torch.Tensor", ...]) -> None:
    frames = torch.export.Dim("frames", min=2, max=4096)
    sizes = ({1: frames}, {1: 2 * frames}, {1: 4 * frames})
    how = {"input_names": NAMES, "output_names": ["audio_values"]}
    how |= {"dynamic_shapes": (sizes,), "dynamo": True, "external_data": False, "verbose": False}
    torch.onnx.export(Decoding().eval(), codes, str(path), **how)


def scripted(path: Path, codes: tuple["torch.Tensor", ...]) -> None:
    """As TorchScript's exporter can only, with what freezes lengths written plainly."""

    def snake(x: "torch.Tensor", alpha: "torch.Tensor") -> "torch.Tensor":
        return x + (alpha + 1e-9).reciprocal() * torch.sin(alpha * x).pow(2)

    def repeated(x: "torch.Tensor", times: int, dim: int) -> "torch.Tensor":
        return x.unsqueeze(-1).expand(*x.shape, times).reshape(x.shape[0], x.shape[1], -1)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(snac.layers, "snake", snake)
        patched.setattr(torch.Tensor, "repeat_interleave", repeated)
        axes = {name: {0: "batch", 1: name} for name in NAMES}
        how = {"input_names": NAMES, "output_names": ["audio_values"]}
        how |= {"dynamic_axes": axes, "dynamo": False, "opset_version": 17}
        torch.onnx.export(Decoding().eval(), codes, str(path), **how)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("export", "rows"), [(exported, False), (scripted, True)])
def test_what_exporters_make_of_their_decoder_is_compiled(
    tmp_path: Path, export: Callable[..., None], rows: bool
):
    path = tmp_path / "decoder_model.onnx"
    export(path, tuple(torch.randint(0, 4096, (1, 5 * n)) for n in (1, 2, 4)))
    codec = opened(path, tmp_path)
    assert "noise by seed" in codec.note
    assert ("rows share a call" in codec.note) == rows
    write_snac(tmp_path / "ours", WEIGHTS_SEED)
    ours = opened(tmp_path / "ours" / "onnx" / "decoder_model.onnx", tmp_path / "ours")
    tokens = some_tokens(FRAMES)
    wanted = spoken(ours.decoder, tokens, repeat(FRAMES))
    np.testing.assert_allclose(spoken(codec.decoder, tokens, repeat(1)), wanted, atol=1e-5)


def test_what_is_stored_of_theirs_is_theirs(monkeypatch: pytest.MonkeyPatch):
    """`test_snac.py` compares ours with it; written anew with `STORE=1` in the environment."""
    theirs = authors(SMALL, WEIGHTS_SEED)
    codes = some_tokens(FRAMES).reshape(-1, 7) % 4096
    rows = [torch.from_numpy(codes[None, :, places].reshape(1, -1)) for places in CODEBOOK_PLACES]
    noise = iter(
        torch.from_numpy(addressed_noise(NOISE_SEED, i, 0, rate * FRAMES)[None, None])
        for i, (_, rate) in enumerate(BLOCKS)
    )
    with monkeypatch.context() as patched, torch.no_grad():
        patched.setattr(torch, "randn", lambda *_, **__: next(noise))
        sound = theirs.decode(rows)[0, 0].numpy()
    with torch.no_grad():
        books = theirs.encode(torch.from_numpy(reference_audio()[None, None]))
    frames = np.zeros((9, 7), np.int16)
    for places, book in zip(CODEBOOK_PLACES, books, strict=True):
        frames[:, places] = book[0].numpy().reshape(9, -1)
    if os.environ.get("STORE"):
        np.savez_compressed(AUTHORS, sound=sound, frames=frames)
    stored = np.load(AUTHORS)
    np.testing.assert_allclose(sound, stored["sound"], atol=1e-6)
    np.testing.assert_array_equal(frames, stored["frames"])
