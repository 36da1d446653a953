"""Checks that a device computes the same results as a CPU, before benchmarks.

    python tools/check_device.py --model DIR --device cuda --set model_dtype=fp16

The model is opened three times: as published on the CPU in single precision (`--reference` names
another), on `--device` without CUDA graphs, and there as the server runs it. Each gets the same
ids, forced codes and noise. Printed are the encoder's and the language model's differences, the
decoder's SNR, whether rows change each other, and whether a seed speaks the same alone and in
company, which a GPU does not promise; the exit code is 1 where a figure is beyond its bound.
`--device cpu` tries the tool itself.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from chatterbox.arrays import F32, I64, SAMPLE_RATE_HZ
from chatterbox.config import TTSConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.engine.vocoder_stream import Crossfader
from chatterbox.engine.windows import DecodeCost, Windows, WindowSettings
from chatterbox.errors import ChatterboxError
from chatterbox.families.base import DecodeJob, LanguageModel, Prompt, StreamingDecoder, Voice
from chatterbox.families.load import load_model
from chatterbox.families.model import LoadedModel
from chatterbox.runtime.decoder.graph_io import snr_db

TEXTS = (
    "The lamp on the harbour wall was lit an hour before the boats came home.",
    "Yes.",
    "She counted eleven herons, then a twelfth, and wrote the number down twice.",
    "Not today, and not tomorrow either.",
)
CODES = 80
"""Forced on every row, and decoded: 3.2 s."""
LOGITS_BOUND = 0.3
"""Of their standard deviation: what four-bit weights may do (compile/lm/equivalence.py);
half precision does a tenth of it."""
SAME = 0.02
"""The same, for the same graph in another company of rows, or captured."""
SOUND_BOUND_DB = 20.0
"""Half precision moves phases; a wrong window or wrong noise is below 5."""
SAME_DB = 40.0
"""As `SAME`."""
NOBODY_WAITS = DecodeCost(fixed_s=0.0, per_frame_s=0.0)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    what: str
    figure: float
    unit: str
    bound: float
    more_is_better: bool = False

    @property
    def kept(self) -> bool:
        """Whether the figure is within its bound; NaN never is."""
        if self.more_is_better:
            return self.figure >= self.bound
        return self.figure <= self.bound

    @property
    def line(self) -> str:
        """For people."""
        sign = "≥" if self.more_is_better else "≤"
        verdict = "kept" if self.kept else "NOT KEPT"
        return f"{self.what:<56}{self.figure:10.3g} {self.unit:<4}{sign} {self.bound:<6g}{verdict}"


def deviations(what: str, figure: float, bound: float) -> Finding:
    """Of logits, in standard deviations."""
    return Finding(what, figure, "σ", bound)


def decibels(what: str, figure: float, bound: float) -> Finding:
    """How far a difference lies below what it is a difference of."""
    return Finding(what, figure, "dB", bound, more_is_better=True)


def percent(what: str, share: float, bound: float) -> Finding:
    """Of a share between 0 and 1."""
    return Finding(what, 100 * float(share), "%", bound, more_is_better=True)


def forced_codes(rows: int) -> I64:
    """[rows, CODES] of any speech."""
    return np.random.default_rng(5).integers(0, 6561, (rows, CODES))


def logits_of(model: LanguageModel, prompts: Sequence[Prompt]) -> F32:
    """[rows, 1 + CODES, vocab]: rows begin one after the other and step together."""
    codes = forced_codes(len(prompts))
    slots = list(range(len(prompts)))
    told = [np.stack([model.prefill(slot, row) for slot, row in zip(slots, prompts, strict=True)])]
    told += [model.decode(slots, codes[:, at]).copy() for at in range(CODES)]
    for slot in slots:
        model.free(slot)
    return np.stack(told, axis=1)


def sound_of(decoder: StreamingDecoder, voices: Sequence[Voice]) -> list[F32]:
    """Of as many streams as there are voices, by table, every window of all of them in one call."""
    settings = WindowSettings.of(decoder.codec, decoder.window_frames)
    codes = forced_codes(len(voices))
    streams = [decoder.open(voice, seed) for seed, voice in enumerate(voices)]
    seams = [Crossfader(settings.cross_fade_samples) for _ in voices]
    windows = Windows(settings, fixed_schedule=True)
    made: list[list[F32]] = [[] for _ in voices]
    while (window := windows.next(CODES, True, 0.0, NOBODY_WAITS)) is not None:
        held_back = 0 if window.last else settings.cross_fade_samples
        jobs = [
            DecodeJob(
                stream,
                window,
                codes[row, window.begin : window.stop],
                seams[row].next_sample,
                window.end_sample - held_back,
            )
            for row, stream in enumerate(streams)
        ]
        most = decoder.max_rows
        parts = [decoder.run(jobs[at : at + most]) for at in range(0, len(jobs), most)]
        for row, rendered in enumerate(r for part in parts for r in part):
            made[row].append(seams[row].join(rendered.samples, rendered.at, window.last))
    return [np.concatenate(pieces) for pieces in made]


def off(reference: F32, other: F32) -> float:
    """The largest difference of two rows' logits over the deviation of the first."""
    return float(np.abs(reference - other).max() / reference.std())


def worst_db(reference: Sequence[F32], other: Sequence[F32]) -> float:
    """Of several sounds' SNR, the worst; 200 stands for equal."""
    both = zip(reference, other, strict=True)
    return min(200.0, *(snr_db(one, two) for one, two in both))


def compared(
    reference: LoadedModel, plain: LoadedModel, graphs: LoadedModel, voice: Voice, clip: F32
) -> Iterator[Finding]:
    """Everything but whole speech."""
    theirs, ours = reference.cloned.encode(clip, None), plain.cloned.encode(clip, None)
    for name in ("features", "speaker", "prompt_mel"):
        alike = worst_db([getattr(theirs, name)], [getattr(ours, name)])
        yield decibels(f"speech encoder: {name}", alike, SOUND_BOUND_DB)
    equal = np.mean(theirs.prompt_codes == ours.prompt_codes)
    yield percent("speech encoder: equal codes of the prompt", equal, 90)

    prompts = [reference.prompts.prompt(text, voice) for text in TEXTS]
    exact = logits_of(reference.language_model, prompts)
    here = logits_of(plain.language_model, prompts)
    alone = logits_of(plain.language_model, prompts[:1])
    captured = logits_of(graphs.language_model, prompts)
    agreed = np.mean(exact.argmax(-1) == here.argmax(-1))
    yield deviations("language model: from the reference", off(exact, here), LOGITS_BOUND)
    yield percent("language model: the same code on top", agreed, 80)
    yield deviations("language model: a row alone and in company", off(alone[0], here[0]), SAME)
    yield deviations("language model: CUDA graphs and none", off(here, captured), SAME)

    voices = [voice] * len(TEXTS)
    sound = sound_of(plain.decoder, voices)
    whole, replayed = sound_of(reference.decoder, voices), sound_of(graphs.decoder, voices)
    solo = sound_of(plain.decoder, voices[:1])
    yield decibels("decoder: from the reference", worst_db(whole, sound), SOUND_BOUND_DB)
    yield decibels("decoder: a row alone and in company", worst_db(solo, sound[:1]), SAME_DB)
    yield decibels("decoder: CUDA graphs and none", worst_db(sound, replayed), SAME_DB)


async def spoken(engine: TTSEngine, voice: Voice, seeds: Sequence[int]) -> list[tuple[Any, F32]]:
    """Codes and samples of one sentence for each seed, all at once."""

    async def speak(seed: int) -> tuple[Any, F32]:
        request = SpeechRequest(
            TEXTS[0], voice, engine.sampling(), seed, max_new_tokens=CODES, deterministic=True
        )
        async with engine.speak(request) as stream:
            pieces = [piece async for piece in stream]
        return stream.report.segment_codes, np.concatenate(pieces)

    return await asyncio.gather(*(speak(seed) for seed in seeds))


def seeds_hold(engine: TTSEngine, voice: Voice, name: str) -> Iterator[Finding]:
    """One seed alone, and beside seven others. On a GPU other kernels compute other numbers of
    rows, so that nothing is asked of them there but a figure."""
    on_gpu = engine.info.device == "cuda"
    ((codes, sound),) = asyncio.run(spoken(engine, voice, [1]))
    (again, heard), *_ = asyncio.run(spoken(engine, voice, range(1, 9)))
    yield percent(
        f"{name}: a seed's codes alone and in company", codes == again, 0 if on_gpu else 100
    )
    alike = worst_db([sound], [heard])
    yield decibels(
        f"{name}: a seed's sound alone and in company", alike, -200 if on_gpu else SAME_DB
    )


def opened(config: TTSConfig) -> LoadedModel:
    """The model, and what is said of it."""
    model = load_model(config, print)
    print(f"{config.device}, {model.info.precision_text}: {'; '.join(model.info.notes)}")
    return model


def findings(model: str, device: str, reference: str, settings: dict[str, Any]) -> list[Finding]:
    """All of it. Seeds are tried on engines of their own, whose threads capture for themselves."""
    base: dict[str, Any] = {"model": model, "runaway_guard": False}
    exact: dict[str, Any] = {"compile_lm": False, "decoder_int8": False}
    same = {name: value for name, value in settings.items() if name.endswith("_dtype")}
    exact |= same if reference == "same" else {"model_dtype": reference}
    cpu = opened(TTSConfig(**base, device="cpu", **exact))
    clip = np.random.default_rng(1).normal(0, 0.05, 11 * SAMPLE_RATE_HZ).astype(np.float32)
    voice = Voice("noise", cpu.cloned.encode(clip, None))
    on_device = TTSConfig(**base, device=device, cuda_graphs=False, **settings)
    with_graphs = TTSConfig(**base, device=device, **settings)
    made = list(compared(cpu, opened(on_device), opened(with_graphs), voice, clip))
    for config, name in ((on_device, "engine"), (with_graphs, "engine with CUDA graphs")):
        engine = TTSEngine(config)
        engine.load()
        made += seeds_hold(engine, voice, name)
        engine.close()
    return made


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="mini", help="mini, or a model's directory")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--reference", default="fp32", help="precision on the CPU; same: --set's")
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    settings: dict[str, Any] = dict(s.split("=", 1) for s in given.set)
    try:
        made = findings(given.model, given.device, given.reference, settings)
    except ChatterboxError as error:
        sys.exit(error.message)
    print()
    for finding in made:
        print(finding.line)
    if given.json:
        rows = [{**asdict(finding), "kept": finding.kept} for finding in made]
        given.json.write_text(json.dumps(rows, indent=1))
    return int(not all(finding.kept for finding in made))


if __name__ == "__main__":
    sys.exit(main())
