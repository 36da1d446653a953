"""Roman numerals, and what only looks like one."""

import pytest

from chatterbox.text import normalise

NUMERALS = [
    ("After World War I's last day", "After World War one's last day."),
    ("Super Bowl XLIV's ads", "Super Bowl forty-four's ads."),
    ("Read Section III.B and Article V.2.", "Read Section three B and Article five point two."),
    ("King George V.He died", "King George the fifth. He died."),
    ("Act I, Scene iv. Part I explains it.", "Act one, Scene four. Part one explains it."),
    ("phase I trials, a type I error", "phase one trials, a type one error."),
    (
        "Parts I, II and V; Phase I/II; II–IV",
        "Parts one, two and five; Phase one two; two to four.",
    ),
    ("Vol. II, No. XI, pp. ix–xii", "Volume two, Number eleven, pages nine to twelve."),
    ("WWI, WWII and WW2", "World War one, World War two and World War two."),
    (
        "the XVIII century, XIX–XX centuries",
        "the eighteenth century, nineteenth to twentieth centuries.",
    ),
    ("Seti II, Murad IV of Turkey", "Seti the second, Murad the fourth of Turkey."),
    ("Charles I ruled. Pope Adrian I had.", "Charles the first ruled. Pope Adrian the first had."),
    ("Robert Green III won.", "Robert Green the third won."),
    ("MCMLXIX and MMXXV", "nineteen sixty-nine and twenty twenty-five."),
    ("Rambo II, Fantasy IV is old", "Rambo two, Fantasy four is old."),
]
NO_NUMERALS = [
    "the song I'm playing is the part I'd cut.",
    "a scene I'll never forget, the class I took, a book I once read.",
    "Part I've missed, Mark I believe you, James I've met.",
    "You and I, an IV and I, Vitamin C, I think.",
    "Charles I was asking you.",
    "Class C, Type C, Part D, Grade L, Section M, Level CD.",
    "Part IIII, Title VX, Figure IL, Level IC.",
    "MIX, LIV, XXX, CIVIC and MILD.",
    "an IV line, Malcolm X, No. I will not.",
    "Ist das gut?",
]


@pytest.mark.parametrize(("written", "said"), NUMERALS)
def test_reads(written: str, said: str) -> None:
    assert normalise(written) == said


@pytest.mark.parametrize("written", NO_NUMERALS)
def test_leaves(written: str) -> None:
    assert normalise(written) == written
