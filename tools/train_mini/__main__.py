"""Trains the embedded model from scratch: `python -m tools.train_mini --work DIR --out DIR`.

Stages that are done are not done again, and training goes on from its checkpoint. Equal seeds and
step counts give equal weights on the same machine type with `--threads 1`; `--minutes` ends a
training run by the clock, and then they don't. Needs `flite`, `apt-get`, torch and scipy
(requirements.txt beside this file).
"""

import argparse
import json
import math
from pathlib import Path

import torch

from . import align, codec, data, export, heard, lm, nonsense, speech, stumbles, texts, units

RUNS = (("more", "everyday"), ("common", "hard"), ("again",))
"""Further sentences that each run of the language model begins with, made in the light of the runs
before."""


def main() -> None:
    """Parse and run the stages in order."""
    parser = argparse.ArgumentParser(prog="python -m tools.train_mini")
    parser.add_argument("--work", type=Path, required=True, help="data, checkpoints and logs")
    parser.add_argument("--out", type=Path, required=True, help="the model directory to write")
    parser.add_argument("--sentences", type=int, default=16_000)
    parser.add_argument("--more", type=int, default=3800, help="sentences for the language model")
    parser.add_argument("--heard", type=int, default=1500, help="sentences whose sound is kept")
    parser.add_argument("--codec-steps", type=int, default=14_000)
    parser.add_argument("--heard-steps", type=int, default=3000)
    parser.add_argument(
        "--lm-steps", type=int, nargs=len(RUNS), default=[12_000, 5000, 3000], help="of each run"
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="CPU minutes of each training"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precisions", nargs="*", default=["fp32"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.work.mkdir(parents=True, exist_ok=True)
    make_data(given.work, given.sentences, given.seed, given.threads)
    if not (given.work / "heard.npz").exists():
        heard.prepare(data.load(given.work / "speech"), given.work, given.heard)
    codec.train(given.work, given.codec_steps, given.seed, given.minutes)
    heard.train(given.work, given.heard_steps, given.seed)
    for run, names in enumerate(RUNS):
        make_further(given.work, names, given.more, given.seed, given.threads)
        lm.train(given.work, sum(given.lm_steps[: run + 1]), given.seed, given.minutes)
    export.export(given.work, given.out, tuple(given.precisions))


def make_data(work: Path, count: int, seed: int, workers: int) -> None:
    """Texts, flite's speech, letters matched to phones, codes."""
    listed = work / "texts.json"
    if not listed.exists():
        texts.fetch(work / "debs")
        listed.write_text(json.dumps(texts.collect(work / "debs" / "root", count, seed)))
    if not (work / "speech" / "packed.npz").exists():
        sentences = json.loads(listed.read_text())
        trained = [s for i, s in enumerate(sentences) if i % texts.HELD_OUT_EVERY]
        speech.generate(trained, work / "speech", workers)
        data.pack(work / "speech")
    corpus = data.load(work / "speech")
    if not (work / "align.npz").exists():
        align.prepare(corpus, work)
    if not (work / "units.npz").exists():
        units.prepare(corpus, work)


def make_further(work: Path, names: tuple[str, ...], count: int, seed: int, workers: int) -> None:
    """Codes of further sentences, and of common words, for the language model alone."""
    root = work / "debs" / "root"
    known = json.loads((work / "texts.json").read_text())
    for name in lm.FURTHER:
        if name not in names and (work / name / "texts.json").exists():
            known = known + json.loads((work / name / "texts.json").read_text())

    def stumbled(seed: int) -> list[str]:
        return nonsense.hard(root, stumbles.scores(work, nonsense.common_words(root)), seed)

    makers = {
        "more": lambda: texts.collect(root, count, seed + 1, known),
        "everyday": lambda: nonsense.everyday(known, seed + 2),
        "common": lambda: nonsense.common(root, known, seed + 3),
        "hard": lambda: stumbled(seed + 4),
        "again": lambda: stumbled(seed + 5),
    }
    for name in names:
        folder = work / name
        folder.mkdir(exist_ok=True)
        if not (folder / "texts.json").exists():
            (folder / "texts.json").write_text(json.dumps(makers[name]()))
        sentences = json.loads((folder / "texts.json").read_text())
        known = known + sentences
        speech.generate(sentences, folder / "speech", workers, spectra=False)
        corpus = data.load(folder / "speech")
        if not (folder / "units.npz").exists():
            units.prepare(corpus, folder, units.Units.load(work))
        if not (folder / "align.npz").exists():
            align.prepare(corpus, folder)


if __name__ == "__main__":
    main()
