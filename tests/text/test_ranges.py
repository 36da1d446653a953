"""Two figures and a sign: a range, a score, a difference, a ratio, a fraction."""

import pytest

from chatterbox.text import normalise

READ = [
    (
        "within 24/48 hours, 12/24 days",
        "within twenty-four or forty-eight hours, twelve or twenty-four days.",
    ),
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
    (
        "35/40, 60/80 Hz, 1/500th",
        "Thirty-five out of forty, sixty, eighty hertz, one five hundredth.",
    ),
    ("2-6, 6-1, 7-6", "Two six, six one, seven six."),
    ("1:5,000 dilution, 1:25,000", "One to five thousand dilution, one to twenty-five thousand."),
    (
        "425°F/220°C, f/4, 172.16.0.9/16",
        "Four hundred and twenty-five degrees Fahrenheit or two hundred and twenty degrees "
        "Celsius, f four, one seven two dot one six dot zero dot nine slash sixteen.",
    ),
    ("parts/mL, 2 shifts/wk", "parts per milliliter, two shifts per week."),
    ("110/70 mmHg", "One ten over seventy millimeters of mercury."),
]


@pytest.mark.parametrize(("written", "said"), READ)
def test_reads(written: str, said: str) -> None:
    assert normalise(written) == said
