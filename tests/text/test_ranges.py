"""Two figures and a sign: a range, a score, a difference, a ratio, a fraction."""

import pytest

from chatterbox.text import normalise

READ = [
    (
        "12 - 18 months, pages 210 - 215",
        "Twelve to eighteen months, pages two hundred and ten to two hundred and fifteen.",
    ),
    ("a 21 - 7 win, they lost 5-2", "a twenty-one to seven win, they lost five two."),
    (
        "9 - 4, 9-4=5, What is 30-12?",
        "Nine minus four, nine minus four equals five, What is thirty minus twelve?",
    ),
    ("20 - 5 - 5 = 10", "Twenty minus five minus five equals ten."),
    ("In 2015 - 3 years on - it", "In twenty fifteen — three years on — it."),
    (
        "15~20 people, 5th–8th, a scale of 1:20",
        "Fifteen to twenty people, fifth to eighth, a scale of one to twenty.",
    ),
    (
        "Luke 6:27-31, 2 Peter 3:8, Psalm 121:1",
        "Luke six twenty-seven to thirty-one, Second Peter three eight, Psalm one hundred "
        "and twenty-one one.",
    ),
    (
        "7.5/10, 3/5 stars, page 4/9",
        "Seven point five out of ten, three out of five stars, page four of nine.",
    ),
    ("1/4th, 2/5ths, 1/3RD, 6/8 time", "One quarter, two fifths, one third, six eight time."),
    ("110/70 mmHg", "One ten over seventy millimeters of mercury."),
]


@pytest.mark.parametrize(("written", "said"), READ)
def test_reads(written: str, said: str) -> None:
    assert normalise(written) == said
