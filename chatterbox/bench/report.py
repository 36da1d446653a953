"""The report that a person reads: the table's rows as they come, and the answer below them."""

from collections.abc import Callable, Sequence

from chatterbox.bench.load import SearchResult
from chatterbox.bench.summary import Level

NOTHING = "-"
KNEE_SHARE = 0.9
"""Of the most audio a second: who has so much gains little from more load, and waits longer."""


Cell = Callable[[Level], str]


def _of(quantity: str, share: str, factor: float, digits: int) -> Cell:
    def cell(level: Level) -> str:
        spread = getattr(level, quantity)
        return NOTHING if spread is None else f"{getattr(spread, share) * factor:.{digits}f}"

    return cell


COLUMNS: tuple[tuple[str, str, int, Cell], ...] = (  # name, unit, width, cell
    ("Conc", "", 5, lambda level: f"{level.load:g}"),
    ("n", "", 5, lambda level: str(level.requests)),
    ("First p50", "ms", 10, _of("first_audible_s", "p50", 1000, 0)),
    ("First p95", "ms", 10, _of("first_audible_s", "p95", 1000, 0)),
    ("RTF Mean", "", 9, _of("rtf", "mean", 1, 3)),
    ("RTF P95", "", 8, _of("rtf", "p95", 1, 3)),
    ("Throughput", "req/s", 11, lambda level: f"{level.throughput_hz:.2f}"),
    ("Audio/s", "s/s", 8, lambda level: f"{level.audio_per_s:.2f}"),
    ("Latency p50", "s", 12, _of("latency_s", "p50", 1, 2)),
    ("Latency p95", "s", 12, _of("latency_s", "p95", 1, 2)),
    ("Underruns", "", 10, lambda level: str(level.underruns) if level.succeeded else NOTHING),
    ("Errors", "", 7, lambda level: str(level.requests - level.succeeded)),
)


def header(*, open_loop: bool) -> str:
    """The two lines above the rows."""
    names, units = [c[0] for c in COLUMNS], [c[1] for c in COLUMNS]
    if open_loop:
        names[0], units[0] = "Rate", "req/s"
    return f"{_line(names)}\n{_line(units).rstrip()}"


def row(level: Level, *, streamed: bool) -> str:
    """One level. Underruns mean something only where audio was streamed."""
    hidden = () if streamed else ("Underruns",)
    return _line([NOTHING if name in hidden else cell(level) for name, _, _, cell in COLUMNS])


def _line(cells: Sequence[str]) -> str:
    return " ".join(text.rjust(column[2]) for text, column in zip(cells, COLUMNS, strict=True))


def notes(levels: Sequence[Level]) -> list[str]:
    """What the table has no room for: errors by code, underruns by length, silent replies."""
    lines = []
    for level in levels:
        name = f"{_noun(levels).capitalize()} {level.load:g}"
        if level.errors:
            listed = ", ".join(f"{count} x {code}" for code, count in level.errors.items())
            lines.append(f"{name}: {listed} (of {level.requests} requests)")
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
    flawless = [level for level in levels if level.rtf is not None and not level.errors]
    candidates = flawless or [level for level in levels if level.rtf is not None]
    return min(candidates, key=lambda level: level.rtf.mean if level.rtf else 0.0, default=None)


def knee(levels: Sequence[Level]) -> Level | None:
    """The least load that makes nearly as much audio a second as any: more only waits longer. Of
    those in real time and without gaps where there are any, else of all in real time, else of all.
    """
    done = [level for level in levels if level.succeeded]
    on_time = [level for level in done if level.realtime_p95]
    fit = [level for level in on_time if not level.underruns] or on_time or done
    most = max((level.audio_per_s for level in fit), default=0)
    enough = [level for level in fit if level.audio_per_s >= KNEE_SHARE * most]
    return min(enough, key=lambda level: level.load, default=None)


def largest_realtime(levels: Sequence[Level]) -> tuple[Level | None, Level | None]:
    """The highest load with mean RTF < 1, and that with p95 RTF < 1 and no errors."""
    by_mean = [level for level in levels if level.realtime_mean]
    by_p95 = [level for level in levels if level.realtime_p95]
    return max(by_mean, key=lambda level: level.load, default=None), max(
        by_p95, key=lambda level: level.load, default=None
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


def _highest(levels: Sequence[Level]) -> Level:
    return max(levels, key=lambda level: level.load)


def _named(level: Level | None, levels: Sequence[Level]) -> str:
    if level is None:
        return "none"
    return f"{level.load:g}" + (" or more (highest tried)" if level is _highest(levels) else "")


def _noun(levels: Sequence[Level]) -> str:
    return "concurrency" if levels[0].rate_hz is None else "rate"
