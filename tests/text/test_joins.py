"""Texts of whatever notations, joined in whatever way, can all be read."""

import random
import re
import time
import unicodedata

import pytest
from text.examples import TAGS, normalise, prepare, written

from chatterbox.errors import EmptyText, InvalidText
from chatterbox.text import SegmentLimits, normalisation

LIMITS = SegmentLimits()

WRITTEN = r"""
words before numerals, and numerals:
book part level title World_War Super_Bowl Henry James Type Section Act Chapter the
I II IV IIII XXL IL VI LVIII C L M MCMXCIX I'm I'll I/O II's IV.A iv XXI
figures:
0 1 3 7 10 24 99 100 007 1,234 1,5 3.14 .5 -5 1859 1945 2023 2024 276983 4111
10.000.000 1e9 6.02e23 10^-6 10^{23} x^2 2x 5x^3 1/2 ½ ¼ 2½ 1⁄2 3/4 24/7 9.5/10
1st 2nd 9th 3's 90's 1950s 60s '24 5'4 5'4" 12" 10' 1990-2000 1914–18 5-3 3–5 20~30
Nov Mon Sept. Jan. 11/21/2024 2024-11-21 2024/05 3:30 14:05 9am 5p.m. 1:00a.m. 45:30
$5 $1T $5m $1.50 -$3 €20 20€ £5 ₹5 R$ USD EUR 50% ‰ 5km 10kg °C 5°N 40°26′46″ km/h
m s m² W/m²K tsp min. max. No. p. pp. Fig. approx. 555-1234 +1(123) (020) 7946 ext.
signs and mathematics:
+ - – — − = == != <= >= < > -> → × ÷ ± ≈ √ ∞ ∪ ∑ ∛ ∈ # @ & && % $ ° § ^ _ ~ | \ / //
$x$ $$ \( \) \[ \] \frac{1}{2} \sqrt{ \text{a} \leq \times { } $6x_1+4 x_1 \alpha
C++20 F#8 C# B♭ i++ x+=1 A+ 18+ mc^2 x**2 *x* ** __ `a` ``` ~~~ ```py \* \_
addresses:
https://a.b/c?d=1 www.x.org bit.ly/a me@x.org ASP.NET H.264 song.mp3 v1.2.3 10.0.0.1
#tag @joe np.array a.b.c x[0] array[5] [1] [1,_2] 【4:0†f】 [a](b) [a](b_c [a][1] [1]:
markup and pauses:
<b> </b> <think> </think> <sup>2</sup> <br/> <script> <!-- --> &amp; &#x; <a_b=c> <<
[laugh] [clear_throat] [pause:1s] [pause:.] [pause [ ] (( )) ( ) {{ # ## - * > 1. |
words, abbreviations and stops:
Dr. St. Mr. U.S. D.C. e.g. etc. Inc. a.m. J. R. Ph.D. Ave. w/ w/e n/a he/she and
Hello the A Straße naïve สวัสดี हिन्दी こんにちは привет שלום 你好。 😀 👍🏽 ⭐ ™ № ﬁ ⅷ ²
. , ; : ! ? ... … -- ' '' " “ ” ‘ ’ `` ''s 's n't o'clock
"""
CONTROLS = ("\u0301", "\u200b", "\u202e", "\xad", "\x00", "\x1b[31m", "\x07", "\ue000", "\ufeff")
PIECES = [
    *(word for line in WRITTEN.splitlines() if line[-1:] != ":" for word in line.split(" ")),
    *CONTROLS,
]
JOINS = ("", "", " ", " ", " ", "\n", "\n\n", ". ", ", ", "-", "\t", "\xa0", "'", "/", "(", ")")
STRANGE = re.compile(r"\[(?:pause:\d+\.\d{3}s|" + "|".join(TAGS) + r")\]")


def joined(draw: random.Random, pieces: list[str]) -> str:
    return "".join(
        draw.choice(pieces).replace("_", " ") + draw.choice(JOINS)
        for _ in range(draw.randint(1, 7))
    )


def check(texts: list[str], seen: list[tuple]) -> None:
    for text in texts:
        try:
            segments = prepare(text, LIMITS)
        except (EmptyText, InvalidText):
            continue
        for segment in segments:
            assert any(char.isalpha() for char in segment.text), text
            assert len(segment.text) <= LIMITS.max_chars, text
        for char in set(STRANGE.sub("", "".join(segment.text for segment in segments))):
            assert unicodedata.category(char)[0] in "LM" or char in " '.,!?;:-", (char, text)
        assert seen == [], text


@pytest.fixture
def faults(monkeypatch) -> list[tuple]:
    """The rules that failed."""
    seen: list[tuple] = []
    monkeypatch.setattr(normalisation, "report", lambda *fault: seen.append(fault))
    return seen


@pytest.mark.parametrize("count", [4_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_any_join_of_notations_is_read(count, faults):
    draw = random.Random(19)
    pieces = PIECES + written() * (len(PIECES) // len(written()) + 1) if count > 9_000 else PIECES
    check([joined(draw, pieces) for _ in range(count)], faults)


def test_every_example_is_read_without_a_fault(faults):
    check(written(), faults)


@pytest.mark.parametrize("count", [12, pytest.param(len(PIECES), marks=pytest.mark.slow)])
def test_one_notation_over_and_over_takes_linear_time(count):
    """Four times the text: far less than sixteen times the work."""
    draw = random.Random(20)
    for piece in draw.sample(PIECES, count):
        unit = piece.replace("_", " ") + draw.choice(JOINS)
        times = []
        for chars in (3_000, 12_000):
            began = time.thread_time()
            normalise((unit * chars)[:chars])
            times.append(time.thread_time() - began)
        assert times[1] < 12 * times[0] + 0.1, (unit, times)
