"""Loads training speech into memory: features, lengths, texts and voices of many shards."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .features import BANDS
from .speech import VOICES

WARPS = tuple(np.linspace(0.88, 1.12, 9))
PLAIN = 4  # WARPS[PLAIN] is 1
F0_SHIFT_SEMITONES = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """All utterances; `features` is [frames, 82] float16 with utterance i at `starts[i]`."""

    features: torch.Tensor
    starts: np.ndarray
    lengths: np.ndarray
    numbers: np.ndarray
    texts: list[str]
    voices: np.ndarray  # index into VOICES
    phones: list[str]
    stats: torch.Tensor  # [voices, 81]: mean log-mel, mean log f0


def load(folder: Path, most: int = 10**9) -> Corpus:
    """Read every finished shard under `folder`, or what `pack` made of them."""
    if (folder / "packed.npz").exists() and most == 10**9:
        with np.load(folder / "packed.npz") as packed:
            rest = {key: packed[key] for key in packed.files}
        mapped = np.load(folder / "packed_features.npy", mmap_mode="c")
        return Corpus(
            torch.from_numpy(mapped), rest["starts"], rest["lengths"], rest["numbers"],
            [str(t) for t in rest["texts"]], rest["voices"], [str(t) for t in rest["phones"]],
            torch.from_numpy(rest["stats"]),
        )  # fmt: skip
    parts = []
    for path in sorted(folder.glob("speech_*.npz"))[:most]:
        try:
            with np.load(path) as shard:
                parts.append({key: shard[key] for key in shard.files})
        except (OSError, ValueError, EOFError):  # still being written
            continue
    lengths = np.concatenate([p["lengths"] for p in parts])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    voices = np.concatenate([[VOICES.index(v) for v in p["voices"]] for p in parts])
    features = torch.from_numpy(np.concatenate([p["features"] for p in parts]))
    told = np.concatenate([p["stats"] for p in parts])
    stats = np.stack([told[voices == voice].mean(0) for voice in range(len(VOICES))])
    return Corpus(
        features, starts, lengths,
        np.concatenate([p["numbers"] for p in parts]),
        [str(t) for p in parts for t in p["texts"]],
        voices,
        [str(t) for p in parts for t in p["phones"]],
        torch.from_numpy(stats.astype(np.float32)),
    )  # fmt: skip


def pack(folder: Path) -> None:
    """Put all shards into one mapped array, which starts at once and shares memory."""
    corpus = load(folder)
    np.save(folder / "packed_features.npy", corpus.features.numpy())
    np.savez(
        folder / "packed.npz", starts=corpus.starts, lengths=corpus.lengths,
        numbers=corpus.numbers, texts=np.array(corpus.texts), voices=corpus.voices,
        phones=np.array(corpus.phones), stats=corpus.stats.numpy(),
    )  # fmt: skip


def warp_matrices() -> torch.Tensor:
    """Frequency warps of log-mel rows: [warps, BANDS, BANDS], `mel @ matrix`."""
    from .features import band_centres_hz

    centres = band_centres_hz()
    matrices = np.zeros((len(WARPS), BANDS, BANDS), np.float32)
    for w, factor in enumerate(WARPS):
        wanted = np.interp(centres / factor, centres, np.arange(BANDS))
        low = np.minimum(wanted.astype(int), BANDS - 2)
        part = wanted - low
        matrices[w, low, np.arange(BANDS)] += 1 - part
        matrices[w, low + 1, np.arange(BANDS)] += part
    return torch.from_numpy(matrices)


def relative(features: torch.Tensor, stats: torch.Tensor) -> torch.Tensor:
    """Features [..., 82] less the speaker's means [..., 81]: what the codec sees."""
    mel = (features[..., :BANDS] - stats[..., :BANDS]) / 2.0
    voiced = features[..., BANDS + 1 :]
    f0 = (features[..., BANDS : BANDS + 1] - stats[..., BANDS:]).clamp(-0.8, 0.8) * voiced
    return torch.cat([mel, f0 * 4.0, voiced], dim=-1)
