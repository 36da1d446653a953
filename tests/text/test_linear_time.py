"""The time that a text takes grows with its length, whatever is repeated in it."""

import contextlib
import itertools
import time

import pytest
from text.examples import prepare

from chatterbox.errors import EmptyText
from chatterbox.text import SegmentLimits

LIMITS = SegmentLimits()
UNITS = (
    *("–", " –", "– ", "<-=", "–\0", "—", " -", "-", "a-", "1-", "1,", "1.", "1/", "1 ", "$1 "),
    *(
        "a.",
        "A. ",
        "I.",
        ".",
        " .",
        ",",
        "'",
        '"',
        "\\",
        "\\a",
        "`",
        "*",
        "* ",
        "_",
        "#",
        "^",
        "x^",
    ),
    *(
        "[",
        "](",
        "[a](",
        "[1]",
        "[1, ",
        "[a]: ",
        "(",
        ")",
        "{",
        "|",
        "| ",
        "<a ",
        "<",
        "</a>",
        "<ab>",
    ),
    *("&", "&amp;", "@", "a@", "a/", "http://", "~", "=", "%", "5 km ", "St. ", "1 N ", "no. "),
    *("$a ", "$1-", "\\(", "\\frac{", "1=1-", "x^{", "5' ", "1 000 ", "(1)/", "1/2 ", "5km-"),
    *(" > ", "→", "->", "<think>", "</think>", "【", "<sup>", "a\n", "- a\n", "1. a\n", "> ", "\n"),
)
SHORT, LONG = 3_000, 12_000


def seconds(unit: str, chars: int, before: str, after: str) -> float:
    start = time.process_time()
    with contextlib.suppress(EmptyText):
        prepare(before + unit * (chars // len(unit)) + after, LIMITS)
    return time.process_time() - start


AROUND = (("", ""), ("Hello", "x world"))
PAIRS = map("".join, itertools.pairwise(UNITS))


@pytest.mark.parametrize(
    ("unit", "before", "after"),
    [
        *((unit, *around) for unit, around in zip(UNITS, itertools.cycle(AROUND), strict=False)),
        *(
            pytest.param(pair, *around, marks=pytest.mark.slow)
            for pair, around in zip(PAIRS, itertools.cycle(AROUND), strict=False)
        ),
    ],
    ids=ascii,
)
def test_time_grows_with_the_length(unit: str, before: str, after: str) -> None:
    """Four times as long takes four times as long, not sixteen times. Short times say nothing."""
    long = seconds(unit, LONG, before, after)
    if long > 0.4:
        short = min(seconds(unit, SHORT, before, after) for _ in range(3))
        long = min(long, seconds(unit, LONG, before, after))
        assert long < 9 * short


@pytest.mark.parametrize("dashes", ["–" * 274, " –" * 274, "—" * 400, " - " * 300, "–\0" * 274])
def test_a_run_of_dashes_is_one_dash(dashes: str) -> None:
    (segment,) = prepare(f"Hello{dashes}world", LIMITS)
    assert segment.text == "Hello - world."
