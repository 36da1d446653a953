"""Engine time outside the graphs: milliseconds of the loop's CPU time a step, by rows.

Drives the real loop, language model and sampler; every call into onnxruntime is clocked and taken
off. Nothing is decoded. Only this thread's own time counts, whatever else runs.
`python tools/bench_engine.py --rows 1,2,4,8,16` (goal: at most 0.5 ms + 0.1 ms per row at 6563
logits).
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

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.config import TTSConfig
from chatterbox.engine.generation_loop import GenerationLoop
from chatterbox.engine.outbox import Outbox, PlaybackClock
from chatterbox.engine.sampler import Sampling
from chatterbox.engine.sequence import SegmentRequest, Take
from chatterbox.engine.stats import Counters
from chatterbox.families.base import Voice
from chatterbox.families.load import load_model
from chatterbox.families.model import LoadedModel
from chatterbox.families.turbo.spec import STOP_CODE, TURBO

GOAL_BASE_MS, GOAL_ROW_MS = 0.5, 0.1
PHRASE = "The quick brown fox jumps over the lazy dog while the farmer looks on. "


class Clock:
    """Time spent inside onnxruntime."""

    def __init__(self) -> None:
        self.inside_s = 0.0
        for name in ("run", "run_with_iobinding", "run_with_ort_values"):
            setattr(ort.InferenceSession, name, self._clocked(getattr(ort.InferenceSession, name)))

    def _clocked(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def clocked(*args: Any, **kwargs: Any) -> Any:
            started = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.inside_s += time.thread_time() - started

        return clocked


class Endless:
    """The model, made never to stop, so that every step has all its rows."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def prefill(self, slot: int, prompt: Any) -> Any:
        return self._without_stop(self._model.prefill(slot, prompt))

    def decode(self, slots: Any, tokens: Any) -> Any:
        return self._without_stop(self._model.decode(slots, tokens))

    @staticmethod
    def _without_stop(logits: Any) -> Any:
        logits[..., STOP_CODE] = -1e4
        return logits


class Silence:
    """Codes become nothing."""

    def open(self, job: SegmentRequest, retries: int = 0) -> Take:
        return Take(job, retries)

    def wake(self) -> None:
        pass


def reference_voice(model: LoadedModel) -> Voice:
    """A voice from two seconds of a made tone: its content does not matter here."""
    time_s = np.arange(6 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tone = 0.1 * np.sin(2 * np.pi * 140 * time_s) * (1 + np.sin(2 * np.pi * 3 * time_s))
    return Voice("tone", model.cloned.encode(tone.astype(np.float32), None))


def overhead_ms(model: LoadedModel, clock: Clock, voice: Voice, rows: int, steps: int) -> float:
    """Median time of one turn of the loop outside onnxruntime, with `rows` rows running."""
    loop = GenerationLoop(Endless(model.language_model), Silence(), Counters(), TURBO)
    jobs = [
        SegmentRequest(
            voice=voice,
            prompt=model.prompts.prompt(PHRASE, voice),
            text_chars=1000,  # so that the guard's budget is never met
            sampling=Sampling(**TURBO.sampling),
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
    for _ in range(steps):
        inside, started = clock.inside_s, time.thread_time()
        loop.step()
        turns.append(time.thread_time() - started - (clock.inside_s - inside))
    for job in jobs:
        job.outbox.close()
    loop.step()
    return statistics.median(turns) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--rows", default="1,2,4,8,16")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    clock = Clock()
    rows = [int(part) for part in arguments.rows.split(",")]
    config = TTSConfig(model=arguments.model, max_sequences=max(rows))
    model = load_model(config, print)
    voice = reference_voice(model)
    print(f"{model.info.name} {model.info.precision_text} on {model.info.device}")
    print(f"{'rows':>5} {'outside ms':>11} {'goal ms':>8}")
    table = []
    for count in rows:
        measured = overhead_ms(model, clock, voice, count, arguments.steps)
        goal = GOAL_BASE_MS + GOAL_ROW_MS * count
        table.append({"rows": count, "outside_ms": measured, "goal_ms": goal})
        print(f"{count:5d} {measured:11.3f} {goal:8.2f}{'' if measured <= goal else '  over'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
