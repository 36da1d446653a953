"""The report that a person reads: the table's rows as they come, and the answer below them."""

from collections.abc import Sequence

from chatterbox.bench.load import SearchResult
from chatterbox.bench.summary import Level, Spread

COLUMNS = (  # name, unit, width
    ("Conc", "", 5),
    ("RTF Mean", "", 9),
    ("RTF P95", "", 8),
    ("Throughput", "req/s", 11),
    ("Audio/s", "s/s", 8),
    ("First p50", "ms", 10),
    ("First p95", "ms", 10),
    ("Latency p50", "s", 12),
    ("Latency p95", "s", 12),
    ("Underruns", "", 10),
    ("Errors", "", 7),
)
NOTHING = "-"


def header(*, open_loop: bool) -> str:
    """The two lines above the rows."""
    first = "Rate" if open_loop else "Conc"
    names = [first, *(name for name, _, _ in COLUMNS[1:])]
    units = ["req/s" if open_loop else "", *(unit for _, unit, _ in COLUMNS[1:])]
    return f"{_line(names)}\n{_line(units).rstrip()}"


def row(level: Level, *, streamed: bool) -> str:
    """One level. Underruns mean something only where audio was streamed."""
    first, latency = level.first_audible_s, level.latency_s
    load = level.concurrency if level.rate_hz is None else f"{level.rate_hz:g}"
    return _line(
        [
            str(load),
            _cell(level.rtf, "mean", 1, 3),
            _cell(level.rtf, "p95", 1, 3),
            f"{level.throughput_hz:.2f}",
            f"{level.audio_per_s:.2f}",
            _cell(first, "p50", 1000, 0),
            _cell(first, "p95", 1000, 0),
            _cell(latency, "p50", 1, 2),
            _cell(latency, "p95", 1, 2),
            str(level.underruns) if streamed and level.succeeded else NOTHING,
            str(level.requests - level.succeeded),
        ]
    )


def notes(levels: Sequence[Level]) -> list[str]:
    """What the table has no room for: errors by code, underruns by length, silent replies."""
    lines = []
    for level in levels:
        if level.errors:
            listed = ", ".join(f"{count} x {code}" for code, count in level.errors.items())
            lines.append(f"{load_name(level)}: {listed} (of {level.requests} requests)")
        if level.underruns:
            lines.append(
                f"{load_name(level)}: {level.replies_with_underruns} of {level.succeeded} replies "
                f"broke off, {level.underrun_s:.2f} s of silence in all, the longest "
                f"{level.longest_underrun_s:.2f} s"
            )
        if level.silent_replies:
            lines.append(f"{load_name(level)}: {level.silent_replies} replies were inaudible")
    return lines


def load_name(level: Level) -> str:
    """`Concurrency 4` or `Rate 2.5/s`."""
    if level.rate_hz is None:
        return f"Concurrency {level.concurrency}"
    return f"Rate {level.rate_hz:g}/s"


def optimal(levels: Sequence[Level]) -> Level | None:
    """The level of lowest mean RTF, among those without errors where there are any."""
    flawless = [level for level in levels if level.rtf is not None and not level.errors]
    candidates = flawless or [level for level in levels if level.rtf is not None]
    return min(candidates, key=lambda level: level.rtf.mean if level.rtf else 0.0, default=None)


def largest_realtime(levels: Sequence[Level]) -> tuple[Level | None, Level | None]:
    """The highest load with mean RTF < 1, and that with p95 RTF < 1 and no errors."""
    by_mean = [level for level in levels if level.realtime_mean]
    by_p95 = [level for level in levels if level.realtime_p95]
    return max(by_mean, key=lambda level: level.load, default=None), max(
        by_p95, key=lambda level: level.load, default=None
    )


def verdicts(levels: Sequence[Level], search: SearchResult | None) -> list[str]:
    """The answer in words."""
    if not any(level.succeeded for level in levels):
        return ["No request succeeded."]
    noun = "rate" if levels[0].rate_hz is not None else "concurrency"
    best = optimal(levels)
    by_mean, by_p95 = largest_realtime(levels)
    lines = []
    if best is not None and best.rtf is not None:
        lines.append(
            f"Optimal {noun} (lowest mean RTF): {best.load:g} (mean RTF {best.rtf.mean:.3f})"
        )
    lines.append(
        f"Largest {noun} with RTF < 1: {_named(by_p95)} by p95 and without errors, "
        f"{_named(by_mean)} by mean"
    )
    if search is not None:
        lines.append(f"Maximum concurrency: {search.best}; {_stop(search)}")
    return lines


def _stop(search: SearchResult) -> str:
    if search.stopped_at is None:
        return f"stopped by {search.stopped_by}, not by the server"
    return f"stopped at {search.stopped_at} by {search.stopped_by}"


def _named(level: Level | None) -> str:
    return "none" if level is None else f"{level.load:g}"


def _cell(spread: Spread | None, which: str, factor: float, digits: int) -> str:
    return NOTHING if spread is None else f"{getattr(spread, which) * factor:.{digits}f}"


def _line(cells: Sequence[str]) -> str:
    return " ".join(cell.rjust(width) for cell, (_, _, width) in zip(cells, COLUMNS, strict=True))
