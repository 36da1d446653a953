"""Plots first audio, RTF, throughput and errors over the load.

matplotlib is imported only when a plot is drawn.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chatterbox.bench.report import Level

STRONG, PALE, BAD = "#1f5fa8", "#8fb4dc", "#c0392b"
SIZE_INCHES = (10, 7.5)
DPI = 120
HEADROOM = 1.1
"""Height of an axis relative to the highest point, so that its marker is not cut off."""
MIN_ERROR_AXIS_PERCENT = 10
"""Minimum height of the axis of errors, so that a single error does not look like many."""
REAL_TIME = "1 = as fast as it plays"


def draw(levels: Sequence[Level], title: str, path: Path, knee: Level | None = None) -> None:
    """Write a PNG. Levels without a successful request appear only as errors.

    Raises ImportError if matplotlib is missing, and OSError if the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    shown = sorted(levels, key=lambda level: level.load)
    open_loop = bool(shown) and shown[0].rate_hz is not None
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    (first, rtf), (audio, wrong) = figure.subplots(2, 2)

    def line(axes: Any, look: str, color: str, of: Callable[[Level], Any], label: str = "") -> None:
        points = [(level.load, value) for level in shown if (value := of(level)) is not None]
        axes.plot([x for x, _ in points], [y for _, y in points], look, color=color, label=label)

    first.set_title("First audible sample, ms")
    line(first, "o-", STRONG, lambda v: v.first_audible_s and v.first_audible_s.p50 * 1000, "p50")
    line(first, "s--", PALE, lambda v: v.first_audible_s and v.first_audible_s.p95 * 1000, "p95")
    rtf.set_title("Real-time factor, waiting included")
    line(rtf, "o-", STRONG, lambda v: v.rtf and v.rtf.mean, "mean")
    line(rtf, "s--", PALE, lambda v: v.rtf and v.rtf.p95, "p95")
    audio.set_title("Seconds of audio per second")
    line(audio, "o-", STRONG, lambda v: v.audio_per_s)
    wrong.set_title("Errors and gaps, % of the requests")
    line(wrong, "x-", BAD, lambda v: 100 - 100 * v.succeeded / v.requests, "errors")
    gaps = "replies with gaps"
    line(wrong, "v:", BAD, lambda v: 100 * v.replies_with_underruns / v.requests, gaps)

    for axes in (first, rtf, audio, wrong):
        if len(shown) > 1 and not open_loop:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
        axes.set_ylim(
            0, HEADROOM * max(axes.get_ylim()[1], MIN_ERROR_AXIS_PERCENT if axes is wrong else 0)
        )
        axes.set_xlabel("requests sent per second" if open_loop else "listeners at once")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    # RTF on a log scale: twice real time is as far below 1 as half real time is above it
    values = [value for line in rtf.get_lines() for value in line.get_ydata() if value > 0] or [1]
    rtf.set_yscale("log")
    rtf.set_ylim(min(0.6, min(values) / 1.5), max(1.6, max(values) * 1.5))
    rtf.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    rtf.yaxis.set_major_formatter("{x:g}")
    rtf.minorticks_off()
    rtf.axhline(1, color=BAD, linewidth=1)
    where = ("axes fraction", "data")
    rtf.annotate(REAL_TIME, (0.01, 1), (0, 3), where, "offset points", color=BAD)
    if knee is not None:
        audio.axvline(knee.load, color=PALE, linestyle=":")
        audio.annotate(f"knee: {knee.load:g}", (knee.load, 0), (4, 6), textcoords="offset points")
    for axes in (first, rtf, wrong):
        axes.legend(frameon=False)
    figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=DPI)
