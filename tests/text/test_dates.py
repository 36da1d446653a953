"""Dates, weekdays, months and times of day as people write them in haste."""

import pytest

from chatterbox.text import normalise

READ = [
    (
        "at 9h05, by 18h45; 1h30 long",
        "at nine oh five, by eighteen forty-five; one hour thirty long.",
    ),
    (
        "june 9, 5 aug 2021, OCTOBER 3, 1999",
        "June ninth, the fifth of August, twenty twenty-one, October third, nineteen ninety-nine.",
    ),
    (
        "feb. 7, AUG. 12, 30 oct., Mar-4",
        "February seventh, August twelfth, the thirtieth of October, March fourth.",
    ),
    (
        "02-Feb-2020 and 9-Sep-21",
        "The second of February, twenty twenty and the ninth of September, twenty-one.",
    ),
    ("on april 9, 2020; the 4 may come", "on April ninth, twenty twenty; the four may come."),
    (
        "June 3-5, 7–9 July, Aug 2 and 3",
        "June third to fifth, the seventh to ninth of July, August second and third.",
    ),
    ("March 30 - April 2", "March thirtieth to April second."),
    (
        "Tue–Sat, Wed/Fri, Jul-Sep 2020",
        "Tuesday to Saturday, Wednesday, Friday, July to September twenty twenty.",
    ),
    (
        "Sat 3pm. On Mon. Then every Tues. we",
        "Saturday three PM. On Monday. Then every Tuesday we.",
    ),
    ("in Sept and in Oct. The", "in September and in October. The."),
    (
        "2021/07/09, 2021.07.09, 2021-07",
        "July ninth, twenty twenty-one, July ninth, twenty twenty-one, July twenty twenty-one.",
    ),
    (
        "due 11/23, on 3/4, by 3/4, after 9/11",
        "due November twenty-third, on March fourth, by three quarters, after nine eleven.",
    ),
    (
        "Mon 6/9, 7/2021, 8 Mar 22.",
        "Monday June ninth, July twenty twenty-one, the eighth of March, twenty-two.",
    ),
    ("Wed., Jun 4; you may 2", "Wednesday, June fourth; you may two."),
    ("at 2:00p.m. or 7:45a.m. or 8p.m.", "at two PM or seven forty-five AM or eight PM."),
    ("at 0745 hours, 0500 hrs", "at oh seven forty-five hours, oh five hundred hours."),
    (
        "at 1400 hours, 1400 hours of work",
        "at fourteen hundred hours, one thousand four hundred hours of work.",
    ),
    (
        "in the 17th c. people, 7 a.m. GMT-3",
        "in the seventeenth century people, seven AM GMT minus three.",
    ),
    ("the 9th of july, the 3rd of SEPT", "the ninth of July, the third of September."),
    ("(b. 1931, d. 1999)", "born nineteen thirty-one, died nineteen ninety-nine."),
    (
        "a length of 38:15; a 70:30 split",
        "a length of thirty-eight minutes fifteen; a seventy to thirty split.",
    ),
    (
        "open daily 8-6, an 8-6 win, a 9-5 job",
        "open daily eight to six, an eight six win, a nine to five job.",
    ),
]
LEFT = [
    "Sun Microsystems sat in the sun. Sat on it.",
    "Mar the wood. Wed the queen.",
    "they sat, sun and all.",
    "it may march on.",
]


@pytest.mark.parametrize(("written", "said"), READ)
def test_reads(written: str, said: str) -> None:
    assert normalise(written) == said


@pytest.mark.parametrize("written", LEFT)
def test_leaves(written: str) -> None:
    assert normalise(written) == written


def test_figures_that_are_no_days() -> None:
    assert normalise("They march 10 miles.") == "They march ten miles."
    assert normalise("an APR 5% lower") == "an APR five percent lower."
