"""Is it the sound, and are they the codes, that the authors' own package makes?

Needs PyTorch and `snac`, which only the environment of requirements-torch.txt has.
"""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is in requirements-torch.txt")
snac = pytest.importorskip("snac", reason="the authors' package is in requirements-torch.txt")

from families.orpheus.test_snac import CPU, forever, opened, some_tokens, spoken  # noqa: E402

from chatterbox.families.orpheus.codec import open_encoder  # noqa: E402
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

FRAMES = 7


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


def test_decoder_and_encoder_are_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    theirs = authors(SMALL, 5)
    write_snac(tmp_path, 5)
    decoder = opened(tmp_path / "onnx" / "decoder_model.onnx", tmp_path).decoder
    tokens = some_tokens(FRAMES)
    codes = tokens.reshape(-1, 7) % 4096
    rows = [torch.from_numpy(codes[None, :, places].reshape(1, -1)) for places in CODEBOOK_PLACES]
    noise = iter(
        torch.from_numpy(addressed_noise(9, i, 0, rate * FRAMES)[None, None])
        for i, (_, rate) in enumerate(BLOCKS)
    )
    with monkeypatch.context() as patched, torch.no_grad():
        patched.setattr(torch, "randn", lambda *_, **__: next(noise))
        wanted = theirs.decode(rows)[0, 0].numpy()
    for hop in (FRAMES, 1, 2):
        made = spoken(decoder, tokens, forever(hop), 9)
        np.testing.assert_allclose(made, wanted, atol=1e-5)

    audio = np.random.default_rng(1).normal(0, 0.2, 9 * 2048 - 100).astype(np.float32)
    with torch.no_grad():
        books = [row[0].numpy() for row in theirs.encode(torch.from_numpy(audio[None, None]))]
    frames = np.zeros((9, 7), np.int64)
    for places, book in zip(CODEBOOK_PLACES, books, strict=True):
        frames[:, places] = book.reshape(9, -1)
    kept = np.append(True, frames[1:, 0] != frames[:-1, 0])
    ours = open_encoder(tmp_path / "onnx" / "encoder_model.onnx", CPU).encode(audio)
    np.testing.assert_array_equal(ours.reshape(-1, 7) % 4096, frames[kept])
