"""Abbreviations before figures, clauses and codes, and the words they are said as."""

import pytest

from chatterbox.text import normalise

ABBREVIATED = [
    ("he/she/they said, for his/her/their", "he, she or they said, for his, her or their."),
    ("Take vitamin D. Stay well.", "Take vitamin D. Stay well."),
    ("This is plan B. Everyone knew.", "This is plan B. Everyone knew."),
    ("See Table C. 4 and E. Smith", "See Table C four and E Smith."),
    ("max. 8, min. 2, qty. 3, Ver. 4", "maximum eight, minimum two, quantity three, Version four."),
    ("Fig 2 and Rte. 66, para. 1", "Figure two and Route sixty-six, paragraph one."),
    ("est. 300 people, (b. 1950)", "estimated three hundred people, born nineteen fifty."),
    ("v. 3 and vv. 4-5", "verse three and verses four to five."),
    ("Op. 9 No. 2", "Opus nine Number two."),
    ("w/e 4 June, w/Ann, w/o it", "week ending the fourth of June, with Ann, without it."),
    ("H.263, X.509 and U.2", "H two sixty-three, X five oh nine and U dot two."),
    ("open 8a.m. to 6:30p.m. Then", "open eight AM to six thirty PM. Then."),
    ("Doe v. Bolton, Leeds v Hull", "Doe versus Bolton, Leeds versus Hull."),
    ("Chapter v. The end.", "Chapter v. The end."),
    ("a 403(b), 501(c)(4), 457(b)", "a four oh three b, five oh one c four, four fifty-seven b."),
    ("rule 3(g)(ii), f(x), word(s)", "rule three g ii, f of x, words."),
    ("Mr. and Mrs. Day", "Mister and Missus Day."),
    ("in 5 min. and so", "in five minutes and so."),
    ("He said no. Six came.", "He said no. Six came."),
]


@pytest.mark.parametrize(("written", "said"), ABBREVIATED, ids=[row[0][:32] for row in ABBREVIATED])
def test_reads_as(written: str, said: str) -> None:
    assert normalise(written) == said


@pytest.mark.parametrize(
    ("written", "book"),
    [
        ("Matt. 7:7", "Matthew seven"),
        ("Rev. 3:20", "Revelation three"),
        ("1 Cor. 9:4", "First Corinthians nine"),
        ("Ps 23:4", "Psalm twenty-three"),
        ("Dan 9:30", "Dan nine"),
    ],
)
def test_a_book_before_chapter_and_verse(written: str, book: str) -> None:
    assert normalise(written).startswith(book)
