"""Measures by kind; words that look like units are left alone."""

import pytest

from chatterbox.text import normalise

FRACTIONS = [
    ("Add 1/2 tsp of salt.", "Add half a teaspoon of salt."),
    ("3/4 oz, ¼ mi", "Three quarters of an ounce, one quarter of a mile."),
    ("3½ km and 1 1/4 lb", "Three and a half kilometers and one and a quarter pounds."),
    ("a 3/8-inch nut, a 1/2 mi walk", "a three eighths-inch nut, a half mile walk."),
    ("1/2 %, 2⁄3 cup", "Half a percent, two thirds cup."),
    ("1/4-1/2 tsp", "One quarter to one half teaspoon."),
    ("2/3rds of it, 1/8th", "Two thirds of it, one eighth."),
    ("130/85 mmHg", "One thirty over eighty-five millimeters of mercury."),
]
RANGES = [
    (
        "3km-8km, 15°C–18°C",
        "Three kilometers to eight kilometers, fifteen degrees Celsius to "
        "eighteen degrees Celsius.",
    ),
    ("5%-8%, 2GB~4GB", "Five percent to eight percent, two gigabytes to four gigabytes."),
    ("30k-40k fans", "Thirty to forty thousand fans."),
    ("4 cm x 9 cm", "Four centimeters by nine centimeters."),
    (
        "3.2 million km, 40 billion kg",
        "Three point two million kilometers, forty billion kilograms.",
    ),
]
UNITS = [
    (
        "32gb, 5.2ghz, 50 mbps, 12 KM, 80 MPH",
        "Thirty-two gigabytes, five point two gigahertz, "
        "fifty megabits per second, twelve kilometers, eighty miles per hour.",
    ),
    (
        "300 hp, 2 mol, 9 N, 8 fl oz, 5 pt of ale",
        "Three hundred horsepower, two moles, nine newtons, eight fluid ounces, five pints of ale.",
    ),
    (
        "60 km/hr, 5 km / h, 3 W/m²K",
        "Sixty kilometers per hour, five kilometers per hour, three watts per square meter kelvin.",
    ),
    (
        "4 m s⁻¹, 8 L/100 km, in km/h",
        "Four meters per second, eight liters per one hundred kilometers, in kilometers per hour.",
    ),
    (
        "cut rates by 50 bps; a 9600 bps modem",
        "cut rates by fifty basis points; a nine thousand six hundred bit per second modem.",
    ),
    (
        "25º C, 30 °c, heat to 375 F, it is 75F",
        "Twenty-five degrees Celsius, thirty degrees "
        "Celsius, heat to three hundred and seventy-five degrees Fahrenheit, it is seventy-five "
        "degrees Fahrenheit.",
    ),
    (
        "4 × 10^5 m/s, 10⁻⁹ m, 10^-19 C",
        "Four times ten to the power of five meters per second, ten to the power of minus nine "
        "meters, ten to the power of minus nineteen C.",
    ),
    ("7m people, 7mn, 7m away", "Seven million people, seven million, seven meters away."),
    ("A 12pt font", "A twelve point font."),
    ("7,5 kg and 36,6 degrees", "Seven point five kilograms and thirty-six point six degrees."),
]
SINGULAR = [
    ("6 ft. 2 in. tall, 200m sprint", "Six feet two inches tall, two hundred meter sprint."),
    ("with 16GB RAM and 2TB SSD", "with sixteen gigabyte RAM and two terabyte SSD."),
    (
        "use 2.5mm screws, not 10mm of it",
        "use two point five millimeter screws, not ten millimeters of it.",
    ),
    (
        "a 30cm gap, the 35mm lens, a new 40W bulb",
        "a thirty centimeter gap, the thirty-five millimeter lens, a new forty watt bulb.",
    ),
    (
        'an 8" TV, a 4TB SSD, the 9 kg Ann bought',
        "an eight inch TV, a four terabyte SSD, the nine kilograms Ann bought.",
    ),
    ("the 4 km-long wall; my 3 yr old", "the four kilometer-long wall; my three year old."),
    ("It's 9 kg more. Ann's 9 km walk", "It's nine kilograms more. Ann's nine kilometer walk."),
    ("a 5 ft tall boy, the 5 km to go", "a five foot tall boy, the five kilometers to go."),
    (
        "the 3 kg needed, a weight of 3 kg more",
        "the three kilograms needed, a weight of three kilograms more.",
    ),
]
LENGTHS = [
    (
        "6'2\" 190 lb, a 3.9 GPA",
        "Six foot two, one hundred and ninety pounds, a three point nine GPA.",
    ),
    ("He is 5'9 or 6'1\".", "He is five foot nine or six foot one."),
    ("5'2-5'6 tall", "Five foot two to five foot six tall."),
    (
        'a 9" pan, 3–5" of rain, a 3/8" bolt',
        "a nine inch pan, three to five inches of rain, a three eighths inch bolt.",
    ),
    ("a 12' ladder, 8' x 10'", "a twelve foot ladder, eight feet by ten feet."),
    ("12″ records", "Twelve inch records."),
    ("It is 8 in wide (3.1 in).", "It is eight inches wide, three point one inches."),
    ("6 ft 2 in", "Six feet two inches."),
]
MINUTES = [
    ("2h 15m, 4m10s", "Two hours fifteen minutes, four minutes ten seconds."),
    ("Timer set for 8m.", "Timer set for eight minutes."),
    ("prep 5m, cook 1h 5m", "prep five minutes, cook one hour five minutes."),
    ("back in 5m, in 5m of water", "back in five minutes, in five meters of water."),
]
PLACES = [
    (
        "12°N, 40°26′46″N",
        "Twelve degrees north, forty degrees twenty-six minutes forty-six seconds north.",
    ),
    ("51.5° W, 5°30'", "Fifty-one point five degrees west, five degrees thirty minutes."),
]
SLASHES = [
    ("4 times/day, twice/week, litres/day", "Four times per day, twice per week, litres per day."),
    (
        "8.5/10, 3/5 stars, step 2/7",
        "Eight point five out of ten, three out of five stars, step two of seven.",
    ),
    ("6 / 2", "Six divided by two."),
]
SIGNS = [
    (
        "–8°C, (–4), fell by –2.5%",
        "Minus eight degrees Celsius, minus four, fell by minus two point five percent.",
    ),
    ("21+, ages 5+, Apple TV+.", "Twenty-one plus, ages five plus, Apple TV plus."),
    ("an A+, a B- in art, grade C-.", "an A plus, a B minus in art, grade C minus."),
    ("Notepad++ and C++17, F#5", "Notepad plus plus and C plus plus seventeen, F sharp five."),
    ("E♭ major, G♯, Bb minor", "E flat major, G sharp, B flat minor."),
    (">7, > 50 users", "greater than seven, greater than fifty users."),
    ("the % of users", "the percent of users."),
    (
        "1 000 000, 25 000 km and 1 234 567",
        "One million, twenty-five thousand kilometers "
        "and one million two hundred and thirty-four thousand five hundred and sixty-seven.",
    ),
    ("10.000.000 users", "Ten million users."),
]
NO_UNITS = [
    ("Windows 11 K, a 5 K run", "Windows eleven K, a five K run."),
    ("Put 4 in the bag, 9 in all.", "Put four in the bag, nine in all."),
    ("250 W 12th St, 90 L Street", "Two fifty West twelfth Street, ninety L Street."),
    ("a 3 A fuse, 7 A students, 90 K fans", "a three amp fuse, seven A students, ninety K fans."),
    ("5G, 4K, Room 12C, seat 7A", "Five G, four K, Room twelve C, seat seven A."),
    ('He said "I am 12" and left.', "He said I am twelve and left."),
    ("in '1984' and '12'", "in nineteen eighty-four and twelve."),
    ("sections 3,4 in Mark", "sections three, four in Mark."),
]
TABLE = [
    *FRACTIONS, *RANGES, *UNITS, *SINGULAR, *LENGTHS, *MINUTES, *PLACES, *SLASHES, *SIGNS,
    *NO_UNITS,
]  # fmt: skip


@pytest.mark.parametrize(("written", "said"), TABLE, ids=[row[0][:32] for row in TABLE])
def test_reads_as(written: str, said: str) -> None:
    assert normalise(written) == said
