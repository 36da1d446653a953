"""Tests of the report's text with made-up levels."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from chatterbox.bench import plot, report
from chatterbox.bench.report import Level, Outcome, SearchResult


def level(
    concurrency: int, rtfs: list[float], errors: int = 0, rate_hz: float | None = None
) -> Level:
    outcomes = [Outcome(0.0, rtf, audio_s=1.0, first_audible_s=rtf / 2) for rtf in rtfs]
    outcomes += [Outcome(0.0, 0.01, error="overloaded")] * errors
    return Level(outcomes, concurrency=None if rate_hz else concurrency, rate_hz=rate_hz)


LADDER = [
    level(1, [0.5, 0.5]),
    level(2, [0.4, 0.5]),
    level(4, [0.3, 1.2]),
    level(8, [0.2], errors=3),
    level(16, [1.5]),
]


def test_rows_stand_under_their_header() -> None:
    names, units = report.header(open_loop=False).splitlines()
    row = report.row(LADDER[2], streamed=True)
    assert len(names) == len(row)
    for name in ("Conc", "n", "RTF Mean", "RTF P95", "Throughput", "Audio/s"):
        assert name in names
    assert names.index("Audio/s") + len("Audio/s") == units.index("s/s") + len("s/s")
    assert names.index("First p95") < names.index("RTF Mean")
    assert row.split()[:8] == ["4", "2", "375", "578", "0.750", "1.155", "1.67", "1.67"]


def test_a_row_without_successes() -> None:
    cells = report.row(level(3, [], errors=2), streamed=True).split()
    assert cells == ["3", "2", "-", "-", "-", "-", "0.00", "0.00", "-", "-", "-", "2"]


def test_underruns_are_shown_only_where_audio_was_streamed() -> None:
    assert report.row(LADDER[0], streamed=True).split()[-2] == "0"
    assert report.row(LADDER[0], streamed=False).split()[-2] == "-"


def test_the_answer() -> None:
    lines = report.verdicts(LADDER, None)
    assert lines == [
        "Verdict: 1 listener at once, first sound 250 ms (p95), no gaps",
        "Optimal concurrency (the knee): 1: 4.00 of at most 5.00 s of audio per second",
        "Optimal concurrency (lowest mean RTF): 2 (mean RTF 0.450)",
        "Largest concurrency with RTF < 1: 2 by p95 and without errors, 8 by mean",
    ]


def loaded(concurrency: int, audio_per_s: float, rtf: float = 0.5, gaps: int = 0) -> Level:
    """Return a level of ten requests with this throughput."""
    silences_s = [(0.2,) if n < gaps else () for n in range(10)]
    outcomes = [
        Outcome(0.0, rtf * audio_per_s, audio_s=audio_per_s, first_audible_s=0.1, silences_s=s)
        for s in silences_s
    ]
    made = Level(outcomes, concurrency=concurrency)
    made.audio_per_s = audio_per_s
    return made


@pytest.mark.parametrize(
    ("levels", "best"),
    [
        ([loaded(1, 4), loaded(2, 8), loaded(4, 15), loaded(8, 16), loaded(16, 15)], 4),
        ([loaded(8, 16), loaded(1, 4), loaded(4, 9)], 8),
        ([loaded(1, 4), loaded(2, 7), loaded(4, 9, gaps=1)], 2),  # nobody wants gaps
        ([loaded(1, 4, gaps=2), loaded(2, 7, gaps=1)], 2),  # unless there is nothing else
        ([loaded(1, 4), loaded(2, 7, rtf=1.5)], 1),
        ([loaded(1, 2, rtf=2), loaded(2, 2.1, rtf=4)], 1),
    ],
)
def test_the_knee_is_where_more_load_brings_no_more_sound(levels: list[Level], best: int) -> None:
    bend = report.knee(levels)
    assert bend is not None
    assert bend.concurrency == best


def test_the_highest_tried_is_no_limit_of_the_server() -> None:
    lines = report.verdicts([loaded(1, 4), loaded(4, 9)], None)
    assert lines[0].endswith(
        "4 listeners at once, first sound 100 ms (p95), no gaps; more was not tried"
    )
    assert "(the knee): 4 (highest tried)" in lines[1]
    assert lines[-1] == (
        "Largest concurrency with RTF < 1: 4 or more (highest tried) by p95 and without errors, "
        "4 or more (highest tried) by mean"
    )


@pytest.mark.parametrize(
    ("levels", "streamed", "said"),
    [
        ([loaded(1, 1, rtf=2)], True, "Not one listener in real time"),
        (
            [loaded(1, 4, gaps=3)],
            True,
            "1 listener at once, first sound 100 ms (p95), 3 of 10 replies with gaps",
        ),
        ([loaded(2, 4)], False, "2 listeners at once, whole files after 2.00 s (p95)"),
        (
            [level(0, [0.5], rate_hz=1)],
            True,
            "1 request per second, first sound 250 ms (p95), no gaps",
        ),
        (
            [level(0, [0.5], rate_hz=2.5)],
            True,
            "2.5 requests per second, first sound 250 ms (p95), no gaps",
        ),
    ],
)
def test_one_sentence(levels: list[Level], streamed: bool, said: str) -> None:
    assert report.sentence(levels, streamed=streamed).startswith(said)


@pytest.mark.parametrize("rtf", [0.05, 0.9, 1.8, 12.0])
def test_the_line_of_real_time_is_in_the_picture(rtf: float, tmp_path: Path) -> None:
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
        plot.draw([level(1, [rtf])], "", tmp_path / "unwritten.png")
    low, high = drawn[0].axes[1].get_ylim()
    assert low < min(1, rtf)
    assert high > max(1, rtf)


def test_the_answer_of_a_search() -> None:
    lines = report.verdicts(LADDER, SearchResult(2, 3, "RTF (p95 1.100)"))
    assert lines[-1] == "Maximum concurrency: 2; stopped at 3 by RTF (p95 1.100)"
    lines = report.verdicts(LADDER, SearchResult(16, None, "the limit of 16"))
    assert lines[-1] == "Maximum concurrency: 16; stopped by the limit of 16, not by the server"


def test_the_answer_of_an_open_loop() -> None:
    levels = [level(0, [0.5], rate_hz=0.5), level(0, [0.6], rate_hz=2.5)]
    assert report.verdicts(levels, None)[-1].startswith("Largest rate with RTF < 1: 2.5 or more")


def test_levels_with_errors_are_optimal_only_where_all_have_them() -> None:
    best = report.optimal([level(8, [0.2], errors=3), level(16, [0.3], errors=1)])
    assert best is not None
    assert best.concurrency == 8
    assert report.verdicts([level(1, [], errors=1)], None) == ["No request succeeded."]


def test_notes_name_every_error() -> None:
    assert report.notes(LADDER) == ["Concurrency 8: 3 x overloaded (of 4 requests)"]
