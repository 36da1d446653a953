"""Measures one level: warm-up, load, progress bar, summary."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from tqdm import tqdm

from chatterbox.bench.load import Bound, Speak, closed_loop, open_loop
from chatterbox.bench.summary import Level, Outcome, summarise

LOG_INTERVAL_S = 10.0
"""Where standard error is a file, the bar is written as a line this often."""


@dataclass(slots=True)
class Runner:
    """Measures levels one after another and keeps them, also when the rest is interrupted."""

    speak: Speak
    bound: Bound
    warmup: int  # requests before each level that are not counted
    seed: int
    shown: Callable[[Level], None]  # called with each level as soon as it is done
    levels: list[Level] = field(default_factory=list)

    async def at_concurrency(self, concurrency: int, *, rounds: int = 1) -> Level:
        """A closed-loop level of at least `rounds` requests for each client."""
        bound = self.bound
        if bound.requests is not None:
            bound = replace(bound, requests=max(bound.requests, rounds * concurrency))
        await self._warm(concurrency)
        outcomes = await _watched(
            lambda done: closed_loop(self.speak, concurrency, bound, done),
            f"concurrency {concurrency}",
            bound,
        )
        return self._keep(summarise(outcomes, concurrency=concurrency))

    async def at_rate(self, rate_hz: float) -> Level:
        """An open-loop level."""
        await self._warm(1)
        outcomes = await _watched(
            lambda done: open_loop(self.speak, rate_hz, self.bound, self.seed, done),
            f"rate {rate_hz:g}/s",
            self.bound,
        )
        return self._keep(summarise(outcomes, rate_hz=rate_hz))

    async def _warm(self, concurrency: int) -> None:
        if self.warmup:
            bound = Bound(self.warmup, None)
            await closed_loop(self.speak, concurrency, bound, lambda _: None)

    def _keep(self, level: Level) -> Level:
        self.levels.append(level)
        self.shown(level)
        return level


async def _watched(
    load: Callable[[Callable[[Outcome], None]], Awaitable[list[Outcome]]], name: str, bound: Bound
) -> list[Outcome]:
    """The load, with a progress bar on standard error."""
    interval_s = 0.1 if sys.stderr.isatty() else LOG_INTERVAL_S
    with tqdm(
        total=bound.requests, desc=name, unit="req", leave=False, mininterval=interval_s
    ) as bar:
        errors = 0

        def done(outcome: Outcome) -> None:
            nonlocal errors
            bar.update()
            if outcome.error is not None:
                errors += 1
                bar.set_postfix(errors=errors, refresh=False)

        return await load(done)
