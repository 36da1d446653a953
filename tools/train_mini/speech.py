"""Makes the training speech: flite reads each sentence, and features and phones are stored.

Later stages read only the resulting folder of shards.
"""

import multiprocessing
import re
import subprocess
import wave
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from . import features

VOICES = ("slt", "rms", "awb", "kal16")
LEVEL = 0.055
"""Root mean square of louder parts: near the −27 LUFS that references are brought to."""
LEAD_S, TRAIL_S = 0.08, 0.10
SHARD = 250


def speak(text: str, voice: str, path: Path) -> tuple[features.F32, list[tuple[str, float]]]:
    """flite's audio at 24 kHz and its phones with end times in seconds."""
    out = subprocess.run(
        ["flite", "-voice", voice, "-psdur", "-t", text, "-o", str(path)],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    with wave.open(str(path)) as file:
        rate = file.getframerate()
        audio = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768.0
    audio24 = resample_poly(audio, 3, 2) if rate == 16_000 else resample_poly(audio, 3, 1)
    phones = [(p, float(end)) for p, end in re.findall(r"([a-z@]+):([\d.]+)", out)]
    return audio24.astype(np.float32), phones


def level(audio: features.F32) -> features.F32:
    """Bring the louder parts to LEVEL."""
    blocks = audio[: len(audio) // 2400 * 2400].reshape(-1, 2400)
    rms = np.sqrt((blocks**2).mean(1)) if len(blocks) else np.ones(1)
    return audio * np.float32(LEVEL / max(float(np.sqrt((rms[rms >= np.median(rms)] ** 2).mean())),
                                          1e-4))  # fmt: skip


def trim(audio: features.F32, phones: list[tuple[str, float]]):
    """Leave LEAD_S before and TRAIL_S after what is said, in whole codes."""
    start = phones[0][1] if phones and phones[0][0] == "pau" else 0.0
    end = phones[-2][1] if len(phones) > 2 and phones[-1][0] == "pau" else phones[-1][1]
    first = max(0, round((start - LEAD_S) * features.RATE_HZ))
    last = round((end + TRAIL_S) * features.RATE_HZ)
    last = first + -(-(last - first) // features.CODE_SAMPLES) * features.CODE_SAMPLES
    kept = np.pad(audio[first:last], (0, max(0, last - len(audio))))
    offset = first / features.RATE_HZ
    return kept, [(p, t - offset) for p, t in phones]


def _shard(job: tuple[Path, list[tuple[int, str, str]], bool]) -> None:
    target, entries, spectra = job
    scratch = target.with_suffix(".wav")
    rows, stats, phones_all, index = [], [], [], []
    for number, text, voice in entries:
        try:
            audio, phones = speak(text, voice, scratch)
        except subprocess.CalledProcessError:
            continue
        if len(phones) < 3:
            continue
        audio, phones = trim(level(audio), phones)
        plain = features.analyse(audio)
        said = features.analyse_to_say(audio) if spectra else plain[:, features.BANDS :]
        rows.append(said.astype(np.float16))
        stats.append(features.speaker_stats(plain))
        phones_all.append(" ".join(f"{p}:{t:.3f}" for p, t in phones))
        index.append((number, text, voice))
    np.savez(
        target,
        features=np.concatenate(rows),
        lengths=np.array([len(r) for r in rows]),
        stats=np.stack(stats),
        numbers=np.array([n for n, _, _ in index]),
        texts=np.array([t for _, t, _ in index]),
        voices=np.array([v for _, _, v in index]),
        phones=np.array(phones_all),
    )
    scratch.unlink(missing_ok=True)


def generate(sentences: list[str], folder: Path, workers: int, spectra: bool = True) -> None:
    """One voice per sentence, in turn; shards that exist are kept. Without spectra features are
    pitch and voicing alone: enough for codes, at half the cost."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for first in range(0, len(sentences), SHARD):
        target = folder / f"speech_{first // SHARD:04d}.npz"
        if target.exists():
            continue
        entries = [
            (n, sentences[n], VOICES[(n + n // 4) % 4])
            for n in range(first, min(first + SHARD, len(sentences)))
        ]
        jobs.append((target, entries, spectra))
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in pool.imap_unordered(_shard, jobs):
            pass
