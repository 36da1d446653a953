"""Years, decades, and figures with an ending; and the quantities that look like them."""

import pytest

from chatterbox.text import normalise

READ = [
    (
        "Mary's 1868 novel, an 1842 letter",
        "Mary's eighteen sixty-eight novel, an eighteen forty-two letter.",
    ),
    ("Vienna, 1815: peace", "Vienna, eighteen fifteen: peace."),
    (
        "1812 and 1813; (born 1771)",
        "Eighteen twelve and eighteen thirteen; born seventeen seventy-one.",
    ),
    (
        "1861–65, 1756-63, 1848–9, FY2021",
        "Eighteen sixty-one to sixty-five, seventeen fifty-six to sixty-three, eighteen "
        "forty-eight to forty-nine, FY twenty twenty-one.",
    ),
    ("2021/22 and 2021-22", "Twenty twenty-one twenty-two and twenty twenty-one twenty-two."),
    ("AD 1099, 323 BC, 1250 BC", "AD ten ninety-nine, three twenty-three BC, twelve fifty BC."),
    ("a 1934 Packard; 60–30 BC", "a nineteen thirty-four Packard; sixty to thirty BC."),
    (
        "FY2019-20, CY2018, '14-'15",
        "FY twenty nineteen twenty, CY twenty eighteen, fourteen to fifteen.",
    ),
    ("from 1965 onwards", "from nineteen sixty-five onwards."),
    ("the Dogs Act of 1906 forbids it", "the Dogs Act of nineteen oh six forbids it."),
    ("Panini 1974 stickers", "Panini nineteen seventy-four stickers."),
    (
        "1250 soldiers, 1350 local farmers, 1450 other men",
        "One thousand two hundred and fifty soldiers, one thousand three hundred and fifty "
        "local farmers, one thousand four hundred and fifty other men.",
    ),
    (
        "GPT-4's price, 1999's hit, Player 2's turn",
        "GPT-four's price, nineteen ninety-nine's hit, Player two's turn.",
    ),
    ("80s pop, a 90s film, the 740s", "Eighties pop, a nineties film, the seven forties."),
    (
        "1940s and 50s, 1950s-60s, 40s–50s",
        "Nineteen forties and fifties, nineteen fifties to sixties, forties to fifties.",
    ),
    (
        "in the high 60s, count by 3s, 0s and 1s",
        "in the high sixties, count by threes, zeros and ones.",
    ),
    ("two F-15s and 767s", "two F-fifteens and seven sixty-sevens."),
    (
        "took 40s, a 90s timeout, the last 30s",
        "took forty seconds, a ninety second timeout, the last thirty seconds.",
    ),
    ("Q2'25", "Q two twenty-five."),
]


@pytest.mark.parametrize(("written", "said"), READ)
def test_reads(written: str, said: str) -> None:
    assert normalise(written) == said
