"""Which fixed lists of words does reading English need?

Knows no rules: tables only, each with where it applies.
"""


def listed(words: str) -> frozenset[str]:
    """Words with blanks between them, as a set."""
    return frozenset(words.split())


# --- abbreviations -------------------------------------------------------------------------------

TITLES = {
    "Mr": "Mister",
    "Mrs": "Missus",
    "Ms": "Miz",
    "Dr": "Doctor",
    "Prof": "Professor",
    "Gen": "General",
    "Col": "Colonel",
    "Capt": "Captain",
    "Cmdr": "Commander",
    "Lt": "Lieutenant",
    "Sgt": "Sergeant",
    "Maj": "Major",
    "Gov": "Governor",
    "Sen": "Senator",
    "Rep": "Representative",
    "Rev": "Reverend",
    "Hon": "Honorable",
    "Pres": "President",
    "St": "Saint",
    "Mt": "Mount",
    "Ft": "Fort",
}
"""Before a name; the stop never ends a sentence."""
BARE_TITLES = listed("Mr Mrs Ms Dr Prof St")
"""Also written without a stop."""
SAID_TITLES = frozenset(TITLES.values())
STREETS = {
    "St": "Street",
    "Dr": "Drive",
    "Ave": "Avenue",
    "Blvd": "Boulevard",
    "Rd": "Road",
    "Ln": "Lane",
    "Hwy": "Highway",
    "Pkwy": "Parkway",
    "Sq": "Square",
}
"""After a name or an ordinal."""
BARE_STREETS = listed("Ave Blvd Rd Hwy Pkwy")
ABBREVIATIONS = {
    "e.g.": "for example",
    "eg.": "for example",
    "i.e.": "that is",
    "ie.": "that is",
    "etc.": "et cetera",
    "vs.": "versus",
    "vs": "versus",
    "cf.": "compare",
    "viz.": "namely",
    "al.": "al",
    "a.k.a.": "also known as",
    "approx.": "approximately",
    "avg.": "average",
    "dept.": "department",
    "Dept.": "Department",
    "est.": "established",
    "esp.": "especially",
    "incl.": "including",
    "misc.": "miscellaneous",
    "orig.": "originally",
    "tel.": "telephone",
    "Tel.": "Telephone",
    "Univ.": "University",
    "Assoc.": "Associate",
    "Inc.": "Incorporated",
    "Ltd.": "Limited",
    "Corp.": "Corporation",
    "Co.": "Company",
    "Bros.": "Brothers",
    "Jr.": "Junior",
    "Sr.": "Senior",
    "Esq.": "Esquire",
    "Ph.D.": "PhD",
    "a.m.": "AM",
    "p.m.": "PM",
    "A.M.": "AM",
    "P.M.": "PM",
    "Jan.": "January",
    "Feb.": "February",
    "Mar.": "March",
    "Apr.": "April",
    "Jun.": "June",
    "Jul.": "July",
    "Aug.": "August",
    "Sep.": "September",
    "Sept.": "September",
    "Oct.": "October",
    "Nov.": "November",
    "Dec.": "December",
    "w/o": "without",
    "w/": "with",
    "b/c": "because",
    "c/o": "care of",
    "n/a": "not applicable",
    "N/A": "not applicable",
    "and/or": "and or",
    "either/or": "either or",
    "he/she": "he or she",
    "his/her": "his or her",
    "him/her": "him or her",
    "km/h": "kilometers per hour",
}
"""Anywhere; a stop is kept where it also ends the sentence."""
BEFORE_FIGURE = {
    "no": "number",
    "nos": "numbers",
    "p": "page",
    "pp": "pages",
    "vol": "volume",
    "ch": "chapter",
    "fig": "figure",
    "figs": "figures",
    "sec": "section",
    "eq": "equation",
    "ext": "extension",
    "art": "article",
    "ca": "circa",
    "c": "circa",
}
"""Only before a figure: `No. 5`, `pp. 3-5`."""

STARTERS = listed(
    "The A An This That These Those There It He She We They You I His Her Its Our Their My Your In "
    "On At For From With As And But Or So If When While After Before Then Now What Who Why How "
    "Where Which Yes No Not"
)
"""Capitalised because a sentence begins, not because a name does (after `Inc.`, `U.S.`, `St.`)."""


# --- money and measures --------------------------------------------------------------------------

SCALES = {
    "k": "thousand",
    "thousand": "thousand",
    "m": "million",
    "mn": "million",
    "mm": "million",
    "mio": "million",
    "million": "million",
    "b": "billion",
    "bn": "billion",
    "billion": "billion",
    "tn": "trillion",
    "trillion": "trillion",
}

# sign or code → one, many, one hundredth, many hundredths; None: has no hundredths in use
Currency = tuple[str, str, str | None, str | None]
_DOLLAR: Currency = ("dollar", "dollars", "cent", "cents")
_POUND: Currency = ("pound", "pounds", "penny", "pence")
CURRENCIES: dict[str, Currency] = {
    "$": _DOLLAR,
    "US$": _DOLLAR,
    "USD": ("US dollar", "US dollars", "cent", "cents"),
    "A$": ("Australian dollar", "Australian dollars", "cent", "cents"),
    "AU$": ("Australian dollar", "Australian dollars", "cent", "cents"),
    "AUD": ("Australian dollar", "Australian dollars", "cent", "cents"),
    "C$": ("Canadian dollar", "Canadian dollars", "cent", "cents"),
    "CA$": ("Canadian dollar", "Canadian dollars", "cent", "cents"),
    "CAD": ("Canadian dollar", "Canadian dollars", "cent", "cents"),
    "£": _POUND,
    "GBP": _POUND,
    "€": ("euro", "euros", "cent", "cents"),
    "EUR": ("euro", "euros", "cent", "cents"),
    "CHF": ("Swiss franc", "Swiss francs", None, None),
    "¥": ("yen", "yen", None, None),
    "JPY": ("yen", "yen", None, None),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "INR": ("rupee", "rupees", "paisa", "paise"),
    "₩": ("won", "won", None, None),
    "₽": ("ruble", "rubles", None, None),
    "₿": ("bitcoin", "bitcoin", None, None),
    "¢": ("cent", "cents", None, None),
}


def _units(rows: str) -> dict[str, tuple[str, str]]:
    """`km kilometer` → {"km": ("kilometer", "kilometers")}; a third word is the plural."""
    table = {}
    for row in rows.strip().splitlines():
        signs, one, *many = (cell.strip() for cell in row.split("|"))
        table.update(dict.fromkeys(signs.split(), (one, many[0] if many else one + "s")))
    return table


UNITS = _units(
    """
    mm | millimeter
    cm | centimeter
    m | meter
    km | kilometer
    nm | nanometer
    μm um | micrometer
    mi | mile
    ft | foot | feet
    in | inch | inches
    yd yds | yard
    ha | hectare
    mg | milligram
    g | gram
    kg kgs | kilogram
    μg mcg | microgram
    lb lbs | pound
    oz | ounce
    l L ltr | liter
    ml mL | milliliter
    cl cL | centiliter
    dl dL | deciliter
    gal | gallon
    qt | quart
    tsp | teaspoon
    tbsp | tablespoon
    s sec secs | second
    ms | millisecond
    μs us | microsecond
    ns | nanosecond
    min mins | minute
    h hr hrs | hour
    wk wks | week
    mo mos | month
    yr yrs | year
    Hz | hertz | hertz
    kHz | kilohertz | kilohertz
    MHz | megahertz | megahertz
    GHz | gigahertz | gigahertz
    THz | terahertz | terahertz
    W | watt
    mW | milliwatt
    kW | kilowatt
    MW | megawatt
    GW | gigawatt
    TW | terawatt
    Wh | watt hour
    kWh | kilowatt hour
    MWh | megawatt hour
    mAh | milliamp hour
    Ah | amp hour
    V | volt
    mV | millivolt
    kV | kilovolt
    mA | milliamp
    Ω | ohm
    kΩ | kilohm
    MΩ | megohm
    kB KB | kilobyte
    MB | megabyte
    GB | gigabyte
    TB | terabyte
    PB | petabyte
    KiB | kibibyte
    MiB | mebibyte
    GiB | gibibyte
    TiB | tebibyte
    Kb kb | kilobit
    Mb | megabit
    Gb | gigabit
    bps | bit per second | bits per second
    kbps Kbps kbit/s | kilobit per second | kilobits per second
    Mbps Mbit/s | megabit per second | megabits per second
    Gbps Gbit/s | gigabit per second | gigabits per second
    dB | decibel
    dBFS | decibel full scale | decibels full scale
    LUFS | LUFS | LUFS
    Pa | pascal
    hPa | hectopascal
    kPa | kilopascal
    MPa | megapascal
    psi | P S I | P S I
    bar | bar
    cal | calorie
    kcal | kilocalorie
    kJ | kilojoule
    MJ | megajoule
    mph | mile per hour | miles per hour
    kph kmh | kilometer per hour | kilometers per hour
    mpg | mile per gallon | miles per gallon
    rpm | R P M | R P M
    fps | frame per second | frames per second
    dpi | D P I | D P I
    px | pixel
    MP | megapixel
    ppm | part per million | parts per million
    cc | C C | C C
    x | time
    % | percent | percent
    ‰ | per mille | per mille
    ° | degree
    °C | degree Celsius | degrees Celsius
    °F | degree Fahrenheit | degrees Fahrenheit
    °K | kelvin
    """
)
