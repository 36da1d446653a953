"""The report as a picture: RTF, first audio and throughput over the load.

matplotlib is imported only when something is drawn.
"""

from collections.abc import Sequence
from pathlib import Path

from chatterbox.bench.summary import Level

STRONG, PALE = "#1f5fa8", "#8fb4dc"
LIMIT = "#c0392b"
SIZE_INCHES = (10, 7)
DPI = 120
LABEL_RATIO = 1.2
"""On a logarithmic axis, labels closer than this overlap."""
HEADROOM = 1.1
"""Of the highest point, so that its marker is not cut off."""


def draw(levels: Sequence[Level], title: str, path: Path) -> None:
    """Write a PNG. Levels without a successful request have no place in it.

    ImportError without matplotlib, OSError where the file cannot be written.
    """
    from matplotlib.figure import Figure

    shown = sorted(
        (level for level in levels if level.rtf is not None), key=lambda level: level.load
    )
    open_loop = bool(shown) and shown[0].rate_hz is not None
    loads = [level.load for level in shown]
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    (rtf, first), (rate, audio) = figure.subplots(2, 2)

    rtf.set_title("Real-time factor (below 1: faster than it plays)")
    rtf.plot(loads, [v.rtf.mean for v in shown if v.rtf], "o-", color=STRONG, label="mean")
    rtf.plot(loads, [v.rtf.p95 for v in shown if v.rtf], "s--", color=PALE, label="p95")
    rtf.axhline(1, color=LIMIT, linewidth=1)

    heard = [(v.load, v.first_audible_s) for v in shown if v.first_audible_s]
    first.set_title("First audible sample, ms")
    at = [load for load, _ in heard]
    first.plot(at, [s.p50 * 1000 for _, s in heard], "o-", color=STRONG, label="p50")
    first.plot(at, [s.p95 * 1000 for _, s in heard], "s--", color=PALE, label="p95")

    rate.set_title("Throughput, requests per second")
    rate.plot(loads, [v.throughput_hz for v in shown], "o-", color=STRONG)
    audio.set_title("Throughput, seconds of audio per second")
    audio.plot(loads, [v.audio_per_s for v in shown], "o-", color=STRONG)

    for axes in (rtf, first, rate, audio):
        if len(loads) > 1 and not open_loop:
            axes.set_xscale("log", base=2)
        labelled = _apart(loads)
        axes.set_xticks(labelled, [f"{load:g}" for load in labelled])
        axes.minorticks_off()
        axes.set_ylim(0, HEADROOM * axes.get_ylim()[1])
        axes.set_xlabel("requests per second sent" if open_loop else "concurrent requests")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    rtf.legend(frameon=False)
    first.legend(frameon=False)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=DPI)


def _apart(loads: Sequence[float]) -> list[float]:
    """Of loads that a search has brought close together, as many as can be labelled."""
    shown: list[float] = []
    for load in sorted(loads):
        if not shown or load >= LABEL_RATIO * shown[-1]:
            shown.append(load)
    return shown
