"""What has to be typed in, and figures that are names."""

import pytest

from chatterbox.text import normalise

READ = [
    (
        "id 550e8400-e29b-41d4-a716-446655440000",
        "id five five zero E eight four zero zero, E two nine B, four one D four, A seven one six, "
        "four four six six five five four four zero zero zero zero.",
    ),
    (
        "MAC 00:1A:2B:3C:4D:5E or 00-1a-2b-3c-4d-5e",
        "MAC zero zero, one A, two B, three C, four D, five E or zero zero, one A, two B, three C, "
        "four D, five E.",
    ),
    ("ISO 8601, ISO 9001", "ISO eighty-six oh one, ISO nine thousand and one."),
    ("Boston 02134", "Boston zero two one three four."),
    ("Chicago 20000 runners", "Chicago twenty thousand runners."),
    ("1-800-GOT-PIZZA, 888-FLY-HOME", "One eight hundred GOT-PIZZA, eight eight eight FLY-HOME."),
    ("Item 44556677, item 12", "Item four four five five six six seven seven, item twelve."),
    (
        "23456 Oak St, 14000 Pine Road",
        "Twenty-three four fifty-six Oak Street, fourteen thousand Pine Road.",
    ),
    ("open 24/7/365", "open twenty-four seven, three sixty-five."),
    (
        "The PIN is 7391, OTP: 550128",
        "The PIN is seven three nine one, OTP: five five zero one two eight.",
    ),
    ("password is xk4821", "password is X K four eight two one."),
    (
        "account number 3312, account 99887766",
        "account number three three one two, account nine nine eight eight seven seven six six.",
    ),
    ("the card ending in 4477", "the card ending in four four seven seven."),
    ("Austin, TX 78701-2000", "Austin, TX seven eight seven zero one, two zero zero zero."),
    (
        "071 234 5678, 07700 900123",
        "Zero seven one, two three four, five six seven eight, zero seven seven zero zero, "
        "nine zero zero one two three.",
    ),
    (
        "(212)-555-0188, +1(212) 555-0188",
        "two one two, five five five, zero one eight eight, one, two one two, five five "
        "five, zero one eight eight.",
    ),
    (
        "2125550188, dial 5550188",
        "Two one two, five five five, zero one eight eight, dial five five five, zero one "
        "eight eight.",
    ),
    (
        "5500 0000 0000 0004",
        "Five five zero zero, zero zero zero zero, zero zero zero zero, zero zero zero four.",
    ),
    (
        "booking reference KX29Q, dial 555 0188",
        "booking reference K X two nine Q, dial five five five, zero one eight eight.",
    ),
    ("1-in-20, a 401k, 2.5:1", "One in twenty, a four oh one k, two point five to one."),
    ("flight QF 107 lands", "flight QF one oh seven lands."),
    ("CD4s, A320s and M4s", "CD fours, A three twenties and M fours."),
    ("I-80 W, US-50 E", "I-eighty West, US-fifty East."),
    ("999 calls", "Nine nine nine calls."),
    (
        "RTX 3080, error 502, 1440p, 802.11n",
        "RTX thirty eighty, error five oh two, fourteen forty p, eight oh two dot eleven n.",
    ),
    (
        "flight UA1175, F-150, Boeing 767-300",
        "flight UA eleven seventy-five, F one fifty, Boeing seven sixty-seven three hundred.",
    ),
    (
        "1313 Pine St. and 742 Elm Ave",
        "Thirteen thirteen Pine Street and seven forty-two Elm Avenue.",
    ),
    ("Python 3.12, Ubuntu 24.04", "Python three point twelve, Ubuntu twenty-four point zero four."),
    (
        "the code has 300 lines, order 1300 units",
        "the code has three hundred lines, order one thousand three hundred units.",
    ),
    (
        "the war ending in 1918, call 200 people",
        "the war ending in nineteen eighteen, call two hundred people.",
    ),
    (
        "2001 2002 2003",
        "Two thousand and one two thousand and two two thousand and three.",
    ),
]


@pytest.mark.parametrize(("written", "said"), READ)
def test_reads(written: str, said: str) -> None:
    assert normalise(written) == said
