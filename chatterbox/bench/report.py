"""The figures of each level, the rows of the table, and the summary in words."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter

import numpy as np

NO_VALUE = "-"
UNDERRUNS = "Underruns"
KNEE_SHARE = 0.9
"""Share of the largest throughput beyond which more load mostly lengthens the waits."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one request. Durations count from the moment the request was due."""

    started_s: float  # on the client's clock
    ended_s: float
    error: str | None = None  # a code; None if the whole audio arrived
    audio_s: float = 0.0
    first_audible_s: float | None = None  # None if nothing was audible
    silences_s: tuple[float, ...] = ()  # length of each underrun of simulated playback
    server_rtf: float | None = None  # header X-RTF, if the server sent it

    @property
    def latency_s(self) -> float:
        """Time from the due time to the last byte."""
        return self.ended_s - self.started_s

    @property
    def rtf(self) -> float:
        """Latency, including waits in queues, divided by the audio's duration."""
        return self.latency_s / self.audio_s


@dataclass(frozen=True)
class Spread:
    """Distribution of a quantity over the requests of a level."""

    mean: float
    p50: float
    p95: float
    p99: float


class Level:
    """Figures measured at one concurrency or rate: one row of the report."""

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        *,
        concurrency: int | None = None,
        rate_hz: float | None = None,
    ) -> None:
        """`outcomes` has at least one request."""
        good = [o for o in outcomes if o.error is None]
        silences_s = [silence_s for o in good for silence_s in o.silences_s]
        server_rtfs = [o.server_rtf for o in good if o.server_rtf is not None]
        audible_s = [o.first_audible_s for o in good if o.first_audible_s is not None]
        codes = (o.error for o in outcomes if o.error is not None)
        self.concurrency = concurrency  # requests always running in a closed loop
        self.rate_hz = rate_hz  # arrivals per second in an open loop
        self.requests = len(outcomes)
        self.succeeded = len(good)
        self.errors = dict(Counter(codes).most_common())  # code → count
        self.wall_s = max(o.ended_s for o in outcomes) - min(o.started_s for o in outcomes)
        self.in_flight_max = _in_flight_max(outcomes)
        self.audio_s = sum(o.audio_s for o in good)
        self.throughput_hz = len(good) / self.wall_s  # successful requests per second
        self.audio_per_s = self.audio_s / self.wall_s  # seconds of audio per second
        # All further figures count successful requests only
        self.rtf = _spread([o.rtf for o in good])
        self.latency_s = _spread([o.latency_s for o in good])
        self.first_audible_s = _spread(audible_s)
        self.silent_replies = len(good) - len(audible_s)  # without an audible sample
        self.underruns = len(silences_s)
        self.replies_with_underruns = sum(bool(o.silences_s) for o in good)
        self.underrun_s = sum(silences_s)
        self.longest_underrun_s = max(silences_s, default=0.0)
        self.server_rtf_mean = float(np.mean(server_rtfs)) if server_rtfs else None

    @property
    def load(self) -> float:
        """The concurrency or the rate, whichever the level has."""
        value = self.concurrency if self.rate_hz is None else self.rate_hz
        assert value is not None, "a level has a concurrency or a rate"
        return value

    @property
    def errors_text(self) -> str:
        """Counts of errors by code, in one line."""
        return ", ".join(f"{count} x {code}" for code, count in self.errors.items())

    @property
    def realtime_p95(self) -> bool:
        """Whether there were no errors and the p95 RTF is below 1."""
        return not self.errors and self.rtf is not None and self.rtf.p95 < 1

    @property
    def realtime_mean(self) -> bool:
        """Whether the mean RTF is below 1, regardless of errors."""
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
    """The largest concurrency that passes, and what prevents more."""

    best: int  # 0 if not even one request at a time passes
    stopped_at: int | None  # the lowest concurrency that failed; None if the limit was reached
    stopped_by: str


def _format(spread: Spread | None, figure: str, spec: str, factor: int = 1) -> str:
    return NO_VALUE if spread is None else format(getattr(spread, figure) * factor, spec)


COLUMNS: dict[tuple[str, str], Callable[[Level], str]] = {
    ("Conc", ""): lambda level: f"{level.load:g}",
    ("n", ""): lambda level: str(level.requests),
    ("First p50", "ms"): lambda level: _format(level.first_audible_s, "p50", ".0f", 1000),
    ("First p95", "ms"): lambda level: _format(level.first_audible_s, "p95", ".0f", 1000),
    ("RTF Mean", ""): lambda level: _format(level.rtf, "mean", ".3f"),
    ("RTF P95", ""): lambda level: _format(level.rtf, "p95", ".3f"),
    ("Throughput", "req/s"): lambda level: f"{level.throughput_hz:.2f}",
    ("Audio/s", "s/s"): lambda level: f"{level.audio_per_s:.2f}",
    ("Latency p50", "s"): lambda level: _format(level.latency_s, "p50", ".2f"),
    ("Latency p95", "s"): lambda level: _format(level.latency_s, "p95", ".2f"),
    (UNDERRUNS, ""): lambda level: str(level.underruns) if level.succeeded else NO_VALUE,
    ("Errors", ""): lambda level: str(level.requests - level.succeeded),
}
"""Name and unit of each column → its cell."""


def header(*, open_loop: bool) -> str:
    """Return the two header lines of the table."""
    names, units = map(list, zip(*COLUMNS, strict=True))
    if open_loop:
        names[0], units[0] = "Rate", "req/s"
    return f"{_line(names)}\n{_line(units).rstrip()}"


def row(level: Level, *, streamed: bool) -> str:
    """Format a level as a row. Underruns are shown only for streamed audio."""
    return _line(
        [
            cell(level) if streamed or name != UNDERRUNS else NO_VALUE
            for (name, _), cell in COLUMNS.items()
        ]
    )


def _line(cells: Sequence[str]) -> str:
    widths = (max(5, len(name) + 1) for name, _ in COLUMNS)
    return " ".join(text.rjust(width) for text, width in zip(cells, widths, strict=True))


def notes(levels: Sequence[Level]) -> list[str]:
    """Return details that the table lacks: errors by code, underruns by length, silent replies."""
    lines = []
    for level in levels:
        name = f"{_noun(levels).capitalize()} {level.load:g}"
        if level.errors:
            lines.append(f"{name}: {level.errors_text} (of {level.requests} requests)")
        if level.underruns:
            lines.append(
                f"{name}: {level.replies_with_underruns} of {level.succeeded} replies "
                f"had gaps, {level.underrun_s:.2f} s of silence in total, the longest "
                f"{level.longest_underrun_s:.2f} s"
            )
        if level.silent_replies:
            lines.append(f"{name}: {level.silent_replies} replies were inaudible")
    return lines


def optimal(levels: Sequence[Level]) -> Level | None:
    """Return the level of lowest mean RTF, preferring levels without errors."""
    ranked = [(bool(level.errors), level.rtf.mean, level) for level in levels if level.rtf]
    return min(ranked, key=itemgetter(0, 1))[2] if ranked else None


def knee(levels: Sequence[Level]) -> Level | None:
    """Return the smallest load with at least KNEE_SHARE of the largest throughput. Considers levels
    in real time without gaps; if there are none, levels in real time; if there are none, all."""
    done = [level for level in levels if level.succeeded]
    realtime = [level for level in done if level.realtime_p95]
    candidates = [level for level in realtime if not level.underruns] or realtime or done
    largest = max((level.audio_per_s for level in candidates), default=0)
    enough = [level for level in candidates if level.audio_per_s >= KNEE_SHARE * largest]
    return min(enough, key=attrgetter("load"), default=None)


def largest_realtime(levels: Sequence[Level]) -> tuple[Level | None, Level | None]:
    """Return the highest load with mean RTF < 1, and with p95 RTF < 1 and no errors."""
    return (
        _highest([level for level in levels if level.realtime_mean]),
        _highest([level for level in levels if level.realtime_p95]),
    )


def sentence(levels: Sequence[Level], *, streamed: bool) -> str:
    """Return the most important result in one line."""
    best = knee(levels)
    if best is None or best.first_audible_s is None or not best.realtime_p95:
        return "Not one listener in real time: no level has a p95 RTF below 1 without errors"
    plural = "" if best.load == 1 else "s"
    noun = f"listener{plural} at once" if best.rate_hz is None else f"request{plural} per second"
    text = f"{best.load:g} {noun}"
    if streamed:
        gaps = f"{best.replies_with_underruns} of {best.succeeded} replies with gaps"
        text += f", first sound {best.first_audible_s.p95 * 1000:.0f} ms (p95)"
        text += f", {gaps}" if best.underruns else ", no gaps"
    elif best.latency_s is not None:
        text += f", whole files after {best.latency_s.p95:.2f} s (p95)"
    return text + ("; more was not tried" if best is _highest(levels) else "")


def verdicts(
    levels: Sequence[Level], search: SearchResult | None, *, streamed: bool = True
) -> list[str]:
    """Return the summary in words."""
    if not any(level.succeeded for level in levels):
        return ["No request succeeded."]
    noun, bend, best = _noun(levels), knee(levels), optimal(levels)
    assert bend is not None, "a level has successes"
    assert best is not None, "a level has successes"
    assert best.rtf is not None, "`optimal` considers only levels with an RTF"
    after = " (highest tried)" if bend is _highest(levels) else ""
    by_mean, by_p95 = (_named(level, levels) for level in largest_realtime(levels))
    lines = [
        f"Verdict: {sentence(levels, streamed=streamed)}",
        f"Optimal {noun} (the knee): {bend.load:g}{after}: {bend.audio_per_s:.2f} of at most"
        f" {max(level.audio_per_s for level in levels):.2f} s of audio per second",
        f"Optimal {noun} (lowest mean RTF): {best.load:g} (mean RTF {best.rtf.mean:.3f})",
        f"Largest {noun} with RTF < 1: {by_p95} by p95 and without errors, {by_mean} by mean",
    ]
    if search is not None:
        stop = f"stopped at {search.stopped_at} by {search.stopped_by}"
        if search.stopped_at is None:
            stop = f"stopped by {search.stopped_by}, not by the server"
        lines.append(f"Maximum concurrency: {search.best}; {stop}")
    return lines


def _highest(levels: Sequence[Level]) -> Level | None:
    return max(levels, key=attrgetter("load"), default=None)


def _named(level: Level | None, levels: Sequence[Level]) -> str:
    if level is None:
        return "none"
    return f"{level.load:g}" + (" or more (highest tried)" if level is _highest(levels) else "")


def _noun(levels: Sequence[Level]) -> str:
    return "concurrency" if levels[0].rate_hz is None else "rate"
