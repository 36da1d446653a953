"""What the person reads, from levels made up."""

from chatterbox.bench import report
from chatterbox.bench.load import SearchResult
from chatterbox.bench.summary import Level, Outcome, summarise


def level(
    concurrency: int, rtfs: list[float], errors: int = 0, rate_hz: float | None = None
) -> Level:
    outcomes = [Outcome(0.0, rtf, audio_s=1.0, first_audible_s=rtf / 2) for rtf in rtfs]
    outcomes += [Outcome(0.0, 0.01, error="overloaded")] * errors
    return summarise(outcomes, concurrency=None if rate_hz else concurrency, rate_hz=rate_hz)


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
    for name in ("Conc", "RTF Mean", "RTF P95", "Throughput", "Audio/s"):
        assert name in names
    assert names.index("Audio/s") + len("Audio/s") == units.index("s/s") + len("s/s")
    assert row.split()[:5] == ["4", "0.750", "1.155", "1.67", "1.67"]


def test_a_row_without_successes() -> None:
    cells = report.row(level(3, [], errors=2), streamed=True).split()
    assert cells == ["3", "-", "-", "0.00", "0.00", "-", "-", "-", "-", "-", "2"]


def test_underruns_are_shown_only_where_audio_was_streamed() -> None:
    assert report.row(LADDER[0], streamed=True).split()[-2] == "0"
    assert report.row(LADDER[0], streamed=False).split()[-2] == "-"


def test_the_answer() -> None:
    lines = report.verdicts(LADDER, None)
    assert lines == [
        "Optimal concurrency (lowest mean RTF): 2 (mean RTF 0.450)",
        "Largest concurrency with RTF < 1: 2 by p95 and without errors, 8 by mean",
    ]


def test_the_answer_of_a_search() -> None:
    lines = report.verdicts(LADDER, SearchResult(2, 3, "RTF (p95 1.100)"))
    assert lines[-1] == "Maximum concurrency: 2; stopped at 3 by RTF (p95 1.100)"
    lines = report.verdicts(LADDER, SearchResult(16, None, "the limit of 16"))
    assert lines[-1] == "Maximum concurrency: 16; stopped by the limit of 16, not by the server"


def test_the_answer_of_an_open_loop() -> None:
    levels = [level(0, [0.5], rate_hz=0.5), level(0, [0.6], rate_hz=2.5)]
    assert report.verdicts(levels, None)[1] == (
        "Largest rate with RTF < 1: 2.5 by p95 and without errors, 2.5 by mean"
    )


def test_levels_with_errors_are_optimal_only_where_all_have_them() -> None:
    best = report.optimal([level(8, [0.2], errors=3), level(16, [0.3], errors=1)])
    assert best is not None
    assert best.concurrency == 8
    assert report.verdicts([level(1, [], errors=1)], None) == ["No request succeeded."]


def test_notes_name_every_error() -> None:
    assert report.notes(LADDER) == ["Concurrency 8: 3 x overloaded (of 4 requests)"]
