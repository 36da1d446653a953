"""Measures the engine's own CPU time per step, without the graphs, by number of rows.

Drives the real loop, language model and sampler; every call into onnxruntime is clocked and taken
off, or with `--empty` left out, so that no session pushes the loop's data out of the caches.
Nothing is decoded. Only this thread's own time counts, whatever else runs. Beside it the sampler
alone, on logits that the model gave while it spoke. Logits of random weights are flatter than any
model's, which costs the most: `--spread` puts normal ones of that deviation in their place.
`python tools/bench_engine.py --model DIR --rows 1,2,4,8,16` (goal: at most 0.5 ms + 0.1 ms per row)
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import onnxruntime as ort

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.config import TTSConfig
from chatterbox.engine.generation_loop import GenerationLoop
from chatterbox.engine.sampler import Sampler, Sampling, uniforms
from chatterbox.engine.sequence import Outbox, PlaybackClock, Sequence, Take
from chatterbox.engine.stats import Counters
from chatterbox.families.base import Voice
from chatterbox.families.load import load_model
from chatterbox.families.model import LoadedModel

GOAL_BASE_MS, GOAL_ROW_MS = 0.5, 0.1
PHRASE = "The quick brown fox jumps over the lazy dog while the farmer looks on. "


class Clock:
    """Time spent inside onnxruntime."""

    def __init__(self) -> None:
        self.inside_s = 0.0
        self.empty = False  # whether calls that are bound to their memory do nothing
        for name in ("run", "run_with_iobinding", "run_with_ort_values"):
            setattr(ort.InferenceSession, name, self._clocked(getattr(ort.InferenceSession, name)))

    def _clocked(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def clocked(*args: Any, **kwargs: Any) -> Any:
            if self.empty and call.__name__ == "run_with_iobinding":
                return None
            started = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.inside_s += time.thread_time() - started

        return clocked


class Endless:
    """The model, made never to stop, so that every step has all its rows; with `made` logits
    [n, vocabulary] instead of its own, if any."""

    def __init__(self, model: Any, stop: frozenset[int], made: F32 | None) -> None:
        self._model, self._stop, self._made = model, sorted(stop), made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def prefill(self, slot: int, prompt: Any) -> Any:
        return self._without_stop(self._model.prefill(slot, prompt), slot)

    def decode(self, slots: Any, tokens: Any) -> Any:
        logits = self._model.decode(slots, tokens)
        at = int(tokens[0]) % (len(self._made) - len(slots)) if self._made is not None else 0
        return self._without_stop(logits, slice(at, at + len(slots)))

    def _without_stop(self, logits: Any, at: int | slice) -> Any:
        if self._made is not None:
            logits = self._made[at]
        for token in self._stop:
            logits[..., token] = -1e4
        return logits


class Silence:
    """Codes become nothing."""

    def open(self, sequence: Sequence) -> Take:
        return Take(sequence.retries)

    def wake(self) -> None:
        pass


def reference_voice(model: LoadedModel) -> Voice:
    """The model's own voice, or one from a made tone: its content does not matter here."""
    if model.fixed:
        return Voice("own", model.fixed.data(model.fixed.default))
    assert model.cloned
    time_s = np.arange(6 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tone = 0.1 * np.sin(2 * np.pi * 140 * time_s) * (1 + np.sin(2 * np.pi * 3 * time_s))
    return Voice("tone", model.cloned.encode(tone.astype(np.float32), None))


def spoken_logits(model: LoadedModel, voice: Voice, count: int) -> F32:
    """What the model says at `count` places of a text that it speaks and goes on after."""
    lm, tokens = model.language_model, model.family.tokens
    sampler = Sampler(1, tokens)
    sampler.begin(0, Sampling.merge(model.family.sampling), uniforms(0, 0, 0, count))
    logits = [lm.prefill(0, model.prompts.prompt(PHRASE, voice))]
    while len(logits) < count:
        logits[-1][sorted(tokens.stop)] = -1e4
        said = sampler.sample(logits[-1][None], [0])
        logits.append(lm.decode([0], np.array(said))[0].copy())
    lm.free(0)
    return np.stack(logits)


def overhead_ms(
    model: LoadedModel,
    clock: Clock,
    voice: Voice,
    rows: int,
    steps: int,
    made: F32 | None = None,
    *,
    empty: bool = False,
) -> float:
    """Median time of one turn of the loop outside onnxruntime, with `rows` rows running."""
    family = model.family
    endless = Endless(model.language_model, family.tokens.stop, made)
    loop = GenerationLoop(endless, Silence(), Counters(), family)
    jobs = [
        Sequence(
            voice=voice,
            prompt=model.prompts.prompt(PHRASE, voice),
            text_chars=1000,  # so that the guard's budget is never met
            sampling=Sampling.merge(family.sampling),
            max_tokens=steps + 2 * rows + 8,
            seed=seed,
            index=0,
            outbox=Outbox(),
            playback=PlaybackClock(),
        )
        for seed in range(rows)
    ]
    for job in jobs:
        loop.submit(job)
    for _ in range(rows + 4):
        loop.step()
    turns = []
    clock.empty = empty
    for _ in range(steps):
        inside, started = clock.inside_s, time.thread_time()
        loop.step()
        turns.append(time.thread_time() - started - (clock.inside_s - inside))
    clock.empty = False
    for job in jobs:
        job.outbox.close()
    loop.step()
    return statistics.median(turns) * 1e3


def sampler_ms(model: LoadedModel, logits: F32, rows: int, steps: int) -> float:
    """Median time of one draw for `rows` rows, beginning at all places of their frames."""
    tokens, sampling = model.family.tokens, Sampling.merge(model.family.sampling)
    sampler, turns = Sampler(rows, tokens), []
    for slot in range(rows):
        sampler.begin(slot, sampling, uniforms(slot, 0, 0, steps + len(tokens.starts)))
        for _ in range(slot % len(tokens.starts)):
            sampler.sample(logits[slot : slot + 1], [slot])
    for step in range(steps):
        at = step % (len(logits) - rows)
        started = time.thread_time()
        sampler.sample(logits[at : at + rows], list(range(rows)))
        turns.append(time.thread_time() - started)
    return statistics.median(turns) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--rows", default="1,2,4,8,16")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--spread", type=float, default=0, help="of logits; 0: the model's own")
    parser.add_argument("--empty", action="store_true", help="the sessions do nothing")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    clock = Clock()
    rows = [int(part) for part in arguments.rows.split(",")]
    config = TTSConfig(model=arguments.model, max_sequences=max(rows))
    model = load_model(config, print)
    voice = reference_voice(model)
    print(f"{model.info.name} {model.info.precision_text} on {model.info.device}")
    shape = max(rows) + 50, model.family.tokens.vocabulary
    if arguments.spread:
        logits = np.random.default_rng(0).normal(0, arguments.spread, shape).astype(np.float32)
    else:
        logits = spoken_logits(model, voice, shape[0])
    made = logits if arguments.spread or arguments.empty else None
    print(f"{'rows':>5} {'outside ms':>11} {'goal ms':>8} {'sampler ms':>11}")
    table = []
    for count in rows:
        measured = overhead_ms(
            model, clock, voice, count, arguments.steps, made, empty=arguments.empty
        )
        goal = GOAL_BASE_MS + GOAL_ROW_MS * count
        alone = sampler_ms(model, logits, count, arguments.steps)
        row = {"rows": count, "outside_ms": measured, "goal_ms": goal, "sampler_ms": alone}
        table.append(row)
        over = "" if measured <= goal else "  over"
        print(f"{count:5d} {measured:11.3f} {goal:8.2f} {alone:11.3f}{over}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
