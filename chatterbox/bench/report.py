"""The figures of each level, and what a person reads of them: the rows as they come, the answer."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter

import numpy as np

NOTHING = "-"
UNDERRUNS = "Underruns"
KNEE_SHARE = 0.9
"""Of the most audio a second: who has so much gains little from more load, and waits longer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request. Times count from the moment it was due."""

    started_s: float  # on the client's clock
    ended_s: float
    error: str | None = None  # a code; None where the whole audio arrived
    audio_s: float = 0.0
    first_audible_s: float | None = None  # after the start; None: nothing audible
    silences_s: tuple[float, ...] = ()  # while it was played as it came, each underrun's length
    server_rtf: float | None = None  # X-RTF, where the server knew it before sending

    @property
    def latency_s(self) -> float:
        """From due to the last byte."""
        return self.ended_s - self.started_s

    @property
    def rtf(self) -> float:
        """Wall time over audio time, as the client lived it, waiting in queues included."""
        return self.latency_s / self.audio_s


@dataclass(frozen=True)
class Spread:
    """How one quantity is distributed over the requests of a level."""

    mean: float
    p50: float
    p95: float
    p99: float


class Level:
    """One row of the report: everything measured at one concurrency or one rate."""

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        *,
        concurrency: int | None = None,
        rate_hz: float | None = None,
    ) -> None:
        """`outcomes`: of its requests, at least one."""
        good = [o for o in outcomes if o.error is None]
        silences_s = [silence_s for o in good for silence_s in o.silences_s]
        server_rtfs = [o.server_rtf for o in good if o.server_rtf is not None]
        audible_s = [o.first_audible_s for o in good if o.first_audible_s is not None]
        codes = (o.error for o in outcomes if o.error is not None)
        self.concurrency = concurrency  # closed loop: so many requests always under way
        self.rate_hz = rate_hz  # open loop: so many arrivals a second
        self.requests = len(outcomes)
        self.succeeded = len(good)
        self.errors = dict(Counter(codes).most_common())  # code → count
        self.wall_s = max(o.ended_s for o in outcomes) - min(o.started_s for o in outcomes)
        self.in_flight_max = _in_flight_max(outcomes)
        self.audio_s = sum(o.audio_s for o in good)
        self.throughput_hz = len(good) / self.wall_s  # requests done a second
        self.audio_per_s = self.audio_s / self.wall_s  # seconds of audio made a second
        # of the requests that succeeded, like all that follows
        self.rtf = _spread([o.rtf for o in good])
        self.latency_s = _spread([o.latency_s for o in good])
        self.first_audible_s = _spread(audible_s)
        self.silent_replies = len(good) - len(audible_s)  # without one audible sample
        self.underruns = len(silences_s)
        self.replies_with_underruns = sum(bool(o.silences_s) for o in good)
        self.underrun_s = sum(silences_s)
        self.longest_underrun_s = max(silences_s, default=0.0)
        self.server_rtf_mean = float(np.mean(server_rtfs)) if server_rtfs else None

    @property
    def load(self) -> float:
        """The concurrency or the rate, whichever this level has."""
        value = self.concurrency if self.rate_hz is None else self.rate_hz
        assert value is not None, "a level has a concurrency or a rate"
        return value

    @property
    def errors_said(self) -> str:
        """The errors by code, in one line."""
        return ", ".join(f"{count} x {code}" for code, count in self.errors.items())

    @property
    def realtime_p95(self) -> bool:
        """No errors, and 95 % of the requests were done faster than their audio lasts."""
        return not self.errors and self.rtf is not None and self.rtf.p95 < 1

    @property
    def realtime_mean(self) -> bool:
        """Mean RTF below 1, whatever failed."""
        return self.rtf is not None and self.rtf.mean < 1


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return Spread(float(np.mean(values)), float(p50), float(p95), float(p99))


def _in_flight_max(outcomes: Sequence[Outcome]) -> int:
    edges = [(o.started_s, 1) for o in outcomes] + [(o.ended_s, -1) for o in outcomes]
    return int(np.max(np.cumsum([step for _, step in sorted(edges)])))


@dataclass(frozen=True)
class SearchResult:
    """The answer, and what stands in the way of more."""

    best: int  # 0: not even one at a time
    stopped_at: int | None  # the lowest concurrency that failed; None: the limit was reached
    stopped_by: str


def _of(spread: Spread | None, share: str, form: str, factor: int = 1) -> str:
    return NOTHING if spread is None else format(getattr(spread, share) * factor, form)


COLUMNS: dict[tuple[str, str], Callable[[Level], str]] = {
    ("Conc", ""): lambda level: f"{level.load:g}",
    ("n", ""): lambda level: str(level.requests),
    ("First p50", "ms"): lambda level: _of(level.first_audible_s, "p50", ".0f", 1000),
    ("First p95", "ms"): lambda level: _of(level.first_audible_s, "p95", ".0f", 1000),
    ("RTF Mean", ""): lambda level: _of(level.rtf, "mean", ".3f"),
    ("RTF P95", ""): lambda level: _of(level.rtf, "p95", ".3f"),
    ("Throughput", "req/s"): lambda level: f"{level.throughput_hz:.2f}",
    ("Audio/s", "s/s"): lambda level: f"{level.audio_per_s:.2f}",
    ("Latency p50", "s"): lambda level: _of(level.latency_s, "p50", ".2f"),
    ("Latency p95", "s"): lambda level: _of(level.latency_s, "p95", ".2f"),
    (UNDERRUNS, ""): lambda level: str(level.underruns) if level.succeeded else NOTHING,
    ("Errors", ""): lambda level: str(level.requests - level.succeeded),
}
"""Name and unit → what stands there."""


def header(*, open_loop: bool) -> str:
    """The two lines above the rows."""
    names, units = map(list, zip(*COLUMNS, strict=True))
    if open_loop:
        names[0], units[0] = "Rate", "req/s"
    return f"{_line(names)}\n{_line(units).rstrip()}"


def row(level: Level, *, streamed: bool) -> str:
    """One level. Underruns mean something only where audio was streamed."""
    return _line(
        [
            cell(level) if streamed or name != UNDERRUNS else NOTHING
            for (name, _), cell in COLUMNS.items()
        ]
    )


def _line(cells: Sequence[str]) -> str:
    widths = (max(5, len(name) + 1) for name, _ in COLUMNS)
    return " ".join(text.rjust(width) for text, width in zip(cells, widths, strict=True))


def notes(levels: Sequence[Level]) -> list[str]:
    """What the table has no room for: errors by code, underruns by length, silent replies."""
    lines = []
    for level in levels:
        name = f"{_noun(levels).capitalize()} {level.load:g}"
        if level.errors:
            lines.append(f"{name}: {level.errors_said} (of {level.requests} requests)")
        if level.underruns:
            lines.append(
                f"{name}: {level.replies_with_underruns} of {level.succeeded} replies "
                f"broke off, {level.underrun_s:.2f} s of silence in all, the longest "
                f"{level.longest_underrun_s:.2f} s"
            )
        if level.silent_replies:
            lines.append(f"{name}: {level.silent_replies} replies were inaudible")
    return lines


def optimal(levels: Sequence[Level]) -> Level | None:
    """The level of lowest mean RTF, among those without errors where there are any."""
    ranked = [(bool(level.errors), level.rtf.mean, level) for level in levels if level.rtf]
    return min(ranked, key=itemgetter(0, 1))[2] if ranked else None


def knee(levels: Sequence[Level]) -> Level | None:
    """The least load that makes nearly as much audio a second as any: more only waits longer. Of
    those in real time and without gaps where there are any, else of all in real time, else of all.
    """
    done = [level for level in levels if level.succeeded]
    on_time = [level for level in done if level.realtime_p95]
    fit = [level for level in on_time if not level.underruns] or on_time or done
    most = max((level.audio_per_s for level in fit), default=0)
    enough = [level for level in fit if level.audio_per_s >= KNEE_SHARE * most]
    return min(enough, key=attrgetter("load"), default=None)


def largest_realtime(levels: Sequence[Level]) -> tuple[Level | None, Level | None]:
    """The highest load with mean RTF < 1, and that with p95 RTF < 1 and no errors."""
    return (
        _highest([level for level in levels if level.realtime_mean]),
        _highest([level for level in levels if level.realtime_p95]),
    )


def sentence(levels: Sequence[Level], *, streamed: bool) -> str:
    """What somebody should know who reads one line only."""
    best = knee(levels)
    if best is None or best.first_audible_s is None or not best.realtime_p95:
        return "Not one listener in real time: no level has a p95 RTF below 1 without errors"
    one = best.load == 1
    what = "listener{} at once" if best.rate_hz is None else "request{} a second"
    said = f"{best.load:g} {what.format('' if one else 's')}"
    if streamed:
        gaps = f"{best.replies_with_underruns} of {best.succeeded} replies with gaps"
        said += f", first sound {best.first_audible_s.p95 * 1000:.0f} ms (p95)"
        said += f", {gaps}" if best.underruns else ", no gaps"
    elif best.latency_s is not None:
        said += f", whole files after {best.latency_s.p95:.2f} s (p95)"
    return said + ("; more was not tried" if best is _highest(levels) else "")


def verdicts(
    levels: Sequence[Level], search: SearchResult | None, *, streamed: bool = True
) -> list[str]:
    """The answer in words."""
    if not any(level.succeeded for level in levels):
        return ["No request succeeded."]
    noun = _noun(levels)
    lines = [f"Verdict: {sentence(levels, streamed=streamed)}"]
    if (bend := knee(levels)) is not None:
        most = max(level.audio_per_s for level in levels)
        after = " (highest tried)" if bend is _highest(levels) else ""
        lines.append(
            f"Optimal {noun} (the knee): {bend.load:g}{after}: {bend.audio_per_s:.2f} s of audio a"
            f" second of {most:.2f} at most"
        )
    best = optimal(levels)
    if best is not None and best.rtf is not None:
        lines.append(
            f"Optimal {noun} (lowest mean RTF): {best.load:g} (mean RTF {best.rtf.mean:.3f})"
        )
    by_mean, by_p95 = (_named(level, levels) for level in largest_realtime(levels))
    lines.append(
        f"Largest {noun} with RTF < 1: {by_p95} by p95 and without errors, {by_mean} by mean"
    )
    if search is not None:
        lines.append(f"Maximum concurrency: {search.best}; {_stop(search)}")
    return lines


def _stop(search: SearchResult) -> str:
    if search.stopped_at is None:
        return f"stopped by {search.stopped_by}, not by the server"
    return f"stopped at {search.stopped_at} by {search.stopped_by}"


def _highest(levels: Sequence[Level]) -> Level | None:
    return max(levels, key=attrgetter("load"), default=None)


def _named(level: Level | None, levels: Sequence[Level]) -> str:
    if level is None:
        return "none"
    return f"{level.load:g}" + (" or more (highest tried)" if level is _highest(levels) else "")


def _noun(levels: Sequence[Level]) -> str:
    return "concurrency" if levels[0].rate_hz is None else "rate"
