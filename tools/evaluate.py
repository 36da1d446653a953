"""Evaluates a model's speech: words, endings, length, pitch, voice, precision and speed, as JSON.

    python tools/evaluate.py --model DIRECTORY --json figures.json

Drives the project's own engine over a model in the hub's layout, the large one too. The reference
voices and the reading that it is compared with are flite's (Debian package `flite`); words are
heard by `pocketsphinx` (requirements-dev.txt).
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyloudnorm

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.config import TTSConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.engine.sampler import Sampling
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.families.base import Voice
from chatterbox.families.load import load_model
from chatterbox.families.model import LoadedModel
from chatterbox.families.turbo.spec import GRAPHS, REFERENCE_LUFS
from chatterbox.hub.files import PRECISIONS, ModelFiles, Precision
from tools.train_mini.judges import Impression, Recogniser, impression, word_errors, words
from tools.train_mini.sentences import REFERENCE, SETS
from tools.train_mini.speech import VOICES, speak


@dataclass(frozen=True, slots=True)
class Spoken:
    """One sentence in one voice, by the model and by flite."""

    voice: str
    text: str
    words: int
    errors: int
    flite_errors: int
    heard: str
    ended: bool
    duration_ratio: float
    f0_ratio: float
    nearest: str
    likeness: float
    rtf: float
    first_audio_ms: float


class Judge:
    """flite's readings, made and heard once."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "flite.wav"
        self._flite: dict[tuple[str, str], tuple[int, Impression]] = {}
        self.references = {v: self._loud(speak(REFERENCE, v, self._file)[0]) for v in VOICES}
        self.impressions = {v: impression(audio) for v, audio in self.references.items()}
        timbres = np.stack([i.timbre for i in self.impressions.values()])
        self._middle, self._spread = timbres.mean(0), timbres.std(0) + 1e-3

    def _loud(self, audio: F32) -> F32:
        loudness = pyloudnorm.Meter(SAMPLE_RATE_HZ).integrated_loudness(audio.astype(np.float64))
        return (audio * 10 ** ((REFERENCE_LUFS - loudness) / 20)).astype(np.float32)

    def errors(self, text: str, audio: F32) -> tuple[int, str]:
        """Word errors and what was heard, by a new recogniser: one that has heard something else
        before hears one utterance in ten differently."""
        heard = Recogniser().hear(audio)
        return word_errors(words(text), heard), " ".join(heard)

    def flite(self, text: str, voice: str) -> tuple[int, Impression]:
        """Errors and impression of flite's own reading."""
        if (text, voice) not in self._flite:
            audio = speak(text, voice, self._file)[0]
            self._flite[text, voice] = (self.errors(text, audio)[0], impression(audio))
        return self._flite[text, voice]

    def nearest(self, found: Impression) -> str:
        """Which of flite's voices the cepstra are most like. Pitch has no say."""

        def distance(voice: str) -> float:
            difference = (found.timbre - self.impressions[voice].timbre) / self._spread
            return float(np.square(difference).sum())

        return min(VOICES, key=distance)

    def likeness(self, found: Impression, voice: str) -> float:
        """How far speech goes the reference's way: the cosine between what sets either apart from
        the mean of the four voices. 1: the same timbre; 0: nothing of it."""
        said, own = (
            (i.timbre - self._middle) / self._spread for i in (found, self.impressions[voice])
        )
        return float(said @ own / np.sqrt((said @ said) * (own @ own)))

    def likeness_of_itself(self, seconds: float) -> float:
        """Of so much of each voice's own speech, reading something else: how well it tells who
        speaks, whatever a model makes of it."""
        found, size = [], round(seconds * SAMPLE_RATE_HZ)
        for voice in VOICES:
            read = np.concatenate([speak(text, voice, self._file)[0] for text in SETS["long"][:6]])
            pieces = read[: len(read) // size * size].reshape(-1, size)
            found += [self.likeness(impression(piece), voice) for piece in pieces]
        return round(float(np.mean(found)), 3)


@contextlib.contextmanager
def engine_of(
    model: Path, precision: Precision, **settings: Any
) -> Iterator[tuple[TTSEngine, LoadedModel]]:
    """The model, loaded."""
    with tempfile.TemporaryDirectory() as data:
        config = TTSConfig(model=str(model), model_dtype=precision, data_dir=Path(data), **settings)
        loaded = load_model(config, print)
        engine = TTSEngine(config)
        engine.load(loaded)
        try:
            yield engine, loaded
        finally:
            engine.close()


async def say(engine: TTSEngine, text: str, voice: Voice, sampling: Sampling, seed: int) -> Any:
    """Samples and report of one request."""
    async with engine.speak(SpeechRequest(text, voice, sampling, seed)) as stream:
        pieces = [piece async for piece in stream]
        return np.concatenate(pieces), stream.report


def judged(
    engine: TTSEngine, judge: Judge, voices: dict[str, Voice], texts: list[str], sampling: Sampling
) -> list[Spoken]:
    """Every text in every voice, one request at a time."""
    rows = []
    for seed, text in enumerate(texts):
        for name, voice in voices.items():
            audio, report = asyncio.run(say(engine, text, voice, sampling, seed))
            spoken = " ".join(report.segment_texts)
            errors, heard = judge.errors(spoken, audio)
            flite_errors, flite = judge.flite(spoken, name)
            found = impression(audio)
            rows.append(Spoken(
                name, spoken, len(words(spoken)), errors, flite_errors, heard,
                report.finish_reason == "stop",
                found.speech_s / flite.speech_s,
                found.f0_hz / judge.impressions[name].f0_hz,
                judge.nearest(found), judge.likeness(found, name),
                report.rtf, 1000 * (report.first_audio_s or 0.0),
            ))  # fmt: skip
    return rows


def rate(rows: list[Spoken], key: str = "errors") -> float:
    """Word error rate in percent."""
    return round(100 * sum(getattr(r, key) for r in rows) / sum(r.words for r in rows), 1)


def figures(rows: list[Spoken]) -> dict[str, Any]:
    """What a set of utterances shows."""
    by_voice: dict[str, list[Spoken]] = defaultdict(list)
    for row in rows:
        by_voice[row.voice].append(row)
    ratios = np.array([r.duration_ratio for r in rows])
    return {
        "utterances": len(rows),
        "wer": rate(rows),
        "wer_flite": rate(rows, "flite_errors"),
        "wer_by_voice": {v: [rate(r), rate(r, "flite_errors")] for v, r in by_voice.items()},
        "ended_share": round(float(np.mean([r.ended for r in rows])), 3),
        "duration_ratio_mean": round(float(ratios.mean()), 3),
        "duration_ratio_sd": round(float(ratios.std()), 3),
        "duration_within_25_percent": round(float((abs(ratios - 1) <= 0.25).mean()), 3),
        "f0_ratio_by_voice": {
            v: round(float(np.median([x.f0_ratio for x in r])), 3) for v, r in by_voice.items()
        },
        "right_voice_share": round(float(np.mean([r.nearest == r.voice for r in rows])), 3),
        "likeness_mean": round(float(np.mean([r.likeness for r in rows])), 3),
        "rtf_median": round(float(np.median([r.rtf for r in rows])), 4),
        "first_audio_ms_median": round(float(np.median([r.first_audio_ms for r in rows])), 1),
    }


def recordings(engine: TTSEngine, loaded: LoadedModel, judge: Judge, paths: list[Path],
               sampling: Sampling) -> dict[str, float]:  # fmt: skip
    """Pitch of the model over pitch of each recording."""
    import librosa

    ratios = {}
    for path in paths:
        audio = judge._loud(librosa.load(path, sr=SAMPLE_RATE_HZ, mono=True)[0][: 15 * 24_000])
        voice = Voice(str(path), loaded.cloned.encode(audio, None))
        found = []
        for seed, text in enumerate(SETS["short"][:5]):
            said, _ = asyncio.run(say(engine, text, voice, sampling, seed))
            found.append(impression(said).f0_hz)
        ratios[path.name] = round(float(np.median(found)) / impression(audio).f0_hz, 3)
    return ratios


def voices_of(loaded: LoadedModel, judge: Judge, name: str) -> dict[str, Voice]:
    """The four references, encoded."""
    return {
        v: Voice(f"{v}-{name}", loaded.cloned.encode(audio, None))
        for v, audio in judge.references.items()
    }


def prompts(given: argparse.Namespace, judge: Judge, precision: Precision) -> dict[str, Any]:
    """Likeness to the speaker and cost, by how much of the reference the decoder hears."""
    found = {}
    for seconds in given.prompt_seconds:
        with engine_of(given.model, precision, decoder_prompt_s=seconds) as (engine, loaded):
            voices = voices_of(loaded, judge, precision)
            texts = SETS[given.sets[0]][: given.sentences]
            all_of = figures(judged(engine, judge, voices, texts, engine.sampling()))
        keys = ("likeness_mean", "right_voice_share", "wer", "rtf_median", "first_audio_ms_median")
        found[f"{seconds:g}"] = {"likeness_of_so_much_speech": judge.likeness_of_itself(seconds)}
        found[f"{seconds:g}"] |= {key: all_of[key] for key in keys}
        print("prompt of", seconds, "s", json.dumps(found[f"{seconds:g}"]), flush=True)
    return found


def evaluate(given: argparse.Namespace) -> dict[str, Any]:
    """All figures of a model."""
    present = [
        p for p in PRECISIONS
        if all(ModelFiles(given.model, dict.fromkeys(GRAPHS, p)).graph(g).is_file() for g in GRAPHS)
    ]  # fmt: skip
    chosen: list[Precision] = [p for p in (given.precisions or present) if p in present]
    if not chosen:
        sys.exit(f"{given.model} has none of these precisions; it has: {', '.join(present)}")
    result: dict[str, Any] = {"model": given.model.name}
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(Path(folder))
        if given.prompt_seconds:
            return result | {"by_prompt_seconds": prompts(given, judge, chosen[0])}
        for precision in chosen:
            with engine_of(given.model, precision) as (engine, loaded):
                sampling = engine.sampling()
                result["sampling"] = asdict(sampling)
                voices = voices_of(loaded, judge, precision)
                names = given.sets if precision == chosen[0] else given.sets[:1]
                for name in names:
                    texts = SETS[name][: given.sentences]
                    rows = judged(engine, judge, voices, texts, sampling)
                    result.setdefault(precision, {})[name] = figures(rows)
                    print(precision, name, json.dumps(figures(rows)), flush=True)
                    if given.verbose:
                        for row in rows:
                            print(
                                f"  {row.voice} {row.errors}/{row.words} {row.text} | {row.heard}"
                            )
                if given.recording and precision == chosen[0]:
                    result["recordings_f0_ratio"] = recordings(
                        engine, loaded, judge, given.recording, sampling
                    )
    return result


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a directory in hub layout")
    parser.add_argument("--precisions", nargs="*", help="the first gets all sets, the others one")
    parser.add_argument("--sentences", type=int, default=50, help="at most this many of each set")
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--recording", type=Path, action="append", help="a human voice")
    parser.add_argument(
        "--prompt-seconds", type=float, nargs="*",
        help="only likeness and cost of the first set, the decoder hearing so much of a reference",
    )  # fmt: skip
    parser.add_argument("--json", type=Path)
    parser.add_argument("--verbose", action="store_true", help="print what was heard")
    given = parser.parse_args()
    result = evaluate(given)
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
