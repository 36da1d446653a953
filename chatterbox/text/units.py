"""Tables of scales, currencies and units of measure: how each is written, and what is said."""

from chatterbox.text.lexicon import listed


def _table(rows: str) -> dict[str, list[str]]:
    """`km kms | kilometer | kilometers`: each sign of the first cell with the other cells."""
    table = {}
    for row in rows.strip().splitlines():
        signs, *said = (cell.strip() for cell in row.split("|"))
        table.update(dict.fromkeys(signs.split(), said))
    return table


SCALES = {
    sign: said[0]
    for sign, said in _table(
        """
        hundred | hundred
        k thousand | thousand
        m mn mm mio mil mln million | million
        b bn bil bln billion | billion
        t tn trillion | trillion
        lakh lac | lakh
        crore | crore
        """
    ).items()
}
"""In small letters."""

Currency = tuple[str, str, str | None, str | None]
"""One, many, one hundredth, many hundredths; None: hundredths are not in use."""


def _currency(one: str, many: str = "", cent: str = "", cents: str = "") -> Currency:
    many = one if many == "=" else many or one + "s"
    return one, many, cent or None, cents or (cent + "s" if cent else None)


CURRENCIES = {
    sign: _currency(*said)
    for sign, said in _table(
        """
        $ US$ | dollar | dollars | cent
        USD | US dollar | | cent
        A$ AU$ AUD | Australian dollar | | cent
        C$ CA$ CAD | Canadian dollar | | cent
        NZ$ NZD | New Zealand dollar | | cent
        HK$ HKD | Hong Kong dollar | | cent
        S$ SG$ SGD | Singapore dollar | | cent
        NT$ TWD | Taiwan dollar | | cent
        MX$ MXN | Mexican peso | | centavo
        R$ BRL | real | reais | centavo
        £ GBP | pound | | penny | pence
        € EUR | euro | | cent
        CHF | Swiss franc
        ¥ JPY | yen | =
        CN¥ CNY RMB | yuan | =
        ₹ Rs Rs. INR | rupee | | paisa | paise
        ₨ PKR | rupee | | paisa | paise
        ₩ KRW | won | =
        ₽ RUB | ruble
        ₺ TRY | Turkish lira | =
        ₫ VND | dong | =
        ฿ THB | baht | =
        ₦ NGN | naira | = | kobo | kobo
        ₱ PHP | peso | | centavo
        ₪ ILS | shekel
        ₴ UAH | hryvnia | =
        ₡ CRC | colon | colones
        ₲ PYG | guarani | =
        ₵ GHS | cedi
        ₸ KZT | tenge | =
        ₼ AZN | manat | =
        ₾ GEL | lari | =
        ৳ BDT | taka | =
        ₭ LAK | kip | =
        ₮ MNT | tugrik
        SEK | Swedish krona | Swedish kronor
        NOK | Norwegian krone | Norwegian kroner
        DKK | Danish krone | Danish kroner
        kr | krone | kroner
        PLN zł | zloty
        CZK | Czech koruna
        HUF | forint | =
        ZAR | rand | = | cent
        AED | dirham
        SAR | riyal
        EGP | Egyptian pound
        KES | Kenyan shilling
        IDR | rupiah | =
        MYR RM | ringgit | = | sen | sen
        ₿ BTC | bitcoin | =
        ETH | ether | =
        ¢ | cent
        """
    ).items()
}
CURRENCY_SIGNS = "".join(sign for sign in CURRENCIES if len(sign) == 1)
"""The currencies with a character of their own."""


UNITS = {
    sign: (said[0], said[1] if len(said) > 1 else said[0] + "s")
    for sign, said in _table(
        """
        nm | nanometer
        μm um | micrometer
        mm | millimeter
        cm | centimeter
        dm | decimeter
        m | meter
        km kms | kilometer
        mi | mile
        nmi | nautical mile
        ft | foot | feet
        in | inch | inches
        yd yds | yard
        ly | light year
        ha | hectare
        ac | acre
        ng | nanogram
        μg mcg ug | microgram
        mg | milligram
        g | gram
        kg kgs | kilogram
        t | ton
        lb lbs | pound
        oz | ounce
        cwt | hundredweight | hundredweight
        l L ltr | liter
        μl μL uL | microliter
        ml mL | milliliter
        cl cL | centiliter
        dl dL | deciliter
        hl hL | hectoliter
        gal | gallon
        qt | quart
        pt | pint
        pts | point
        bp | basis point
        floz | fluid ounce
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
        kWp | kilowatt peak | kilowatts peak
        MW | megawatt
        GW | gigawatt
        TW | terawatt
        hp HP | horsepower | horsepower
        Wh | watt hour
        kWh | kilowatt hour
        MWh | megawatt hour
        GWh | gigawatt hour
        TWh | terawatt hour
        mAh | milliamp hour
        Ah | amp hour
        V | volt
        mV | millivolt
        kV | kilovolt
        VA | volt amp
        kVA | kilovolt amp
        A | amp
        mA | milliamp
        μA uA | microamp
        kA | kiloamp
        Ω | ohm
        mΩ | milliohm
        kΩ | kilohm
        MΩ | megohm
        pF | picofarad
        nF | nanofarad
        μF uF | microfarad
        mH | millihenry | millihenries
        μH uH | microhenry | microhenries
        T | tesla | tesla
        mT | millitesla | millitesla
        N | newton
        kN | kilonewton
        MN | meganewton
        Nm N·m | newton meter
        J | joule
        kJ | kilojoule
        MJ | megajoule
        GJ | gigajoule
        eV | electron volt
        keV | kiloelectron volt
        MeV | megaelectron volt
        GeV | gigaelectron volt
        TeV | teraelectron volt
        K | kelvin | kelvin
        mol | mole
        mmol | millimole
        μmol umol | micromole
        nmol | nanomole
        mEq | milliequivalent
        IU | international unit
        lm | lumen
        lx | lux | lux
        cd | candela | candela
        rad | radian
        mrad | milliradian
        Sv | sievert
        mSv | millisievert
        μSv uSv | microsievert
        Gy | gray
        Bq | becquerel
        kBq | kilobecquerel
        kgf | kilogram force | kilograms force
        lbf | pound force | pounds force
        kB KB | kilobyte
        MB | megabyte
        GB | gigabyte
        TB | terabyte
        PB | petabyte
        EB | exabyte
        KiB | kibibyte
        MiB | mebibyte
        GiB | gibibyte
        TiB | tebibyte
        Kb kb | kilobit
        Mb Mbit | megabit
        Gb Gbit | gigabit
        bps | bit per second | bits per second
        kbps Kbps kbit/s | kilobit per second | kilobits per second
        Mbps Mbit/s | megabit per second | megabits per second
        Gbps Gbit/s | gigabit per second | gigabits per second
        Tbps | terabit per second | terabits per second
        MBps | megabyte per second | megabytes per second
        GBps | gigabyte per second | gigabytes per second
        dB | decibel
        dBA | A-weighted decibel
        dBm | D B M | D B M
        dBi | D B I | D B I
        dBFS | decibel full scale | decibels full scale
        LUFS | LUFS | LUFS
        Pa | pascal
        hPa | hectopascal
        kPa | kilopascal
        MPa | megapascal
        GPa | gigapascal
        psi | P S I | P S I
        bar | bar
        mbar | millibar
        atm | atmosphere
        torr Torr | torr | torr
        mmHg | millimeter of mercury | millimeters of mercury
        inHg | inch of mercury | inches of mercury
        cal | calorie
        kcal | kilocalorie
        BTU Btu | B T U
        mph | mile per hour | miles per hour
        kph kmh kmph | kilometer per hour | kilometers per hour
        kn kt kts | knot
        mps | meter per second | meters per second
        mpg | mile per gallon | miles per gallon
        gpm | gallon per minute | gallons per minute
        rpm | R P M | R P M
        bpm | beat per minute | beats per minute
        wpm | word per minute | words per minute
        fps | frame per second | frames per second
        dpi | D P I | D P I
        ppi | P P I | P P I
        px | pixel
        MP | megapixel
        ppm | part per million | parts per million
        ppb | part per billion | parts per billion
        cc | C C | C C
        x | time
        p | penny | pence
        % | percent | percent
        ‰ | per mille | per mille
        ° | degree
        °C | degree Celsius | degrees Celsius
        °F | degree Fahrenheit | degrees Fahrenheit
        °K | kelvin | kelvin
        """
    ).items()
}
LENGTHS = listed("nm μm um mm cm dm m km kms mi ft in yd")
"""Units that may be squared or cubed."""
WORDS_FOR_EACH = listed(
    "second minute hour day night week month quarter year person head user seat item piece unit "
    "serving dose capita pixel inch foot mile yard pound ounce gram kilogram liter litre gallon "
    "page line game pair box bottle ticket share ton tonne acre visit session"
)
"""What stands after a slash that is said as `per`: `5 times/day`."""
_ONE_WAY = listed(
    "IN AC PT MI MO MS PA VA MA HA LY CD ATM BAR RAD MOL PS NS DM KT KN US NM DB ETH In Us Ms Mo "
    "Mi Ma Pa Pt Ha Dm Ns Ps Ac Cd Rad Bar Mol Va Kn Kt Ly pa va mn"
)
"""States, titles and words: no other way of writing a unit."""
_IN_SMALL = {sign.lower(): sign for sign in reversed(UNITS) if len(sign) > 1}


def unit(sign: str) -> str | None:
    """The sign under which UNITS has a unit, which may be written in small letters, in capitals or
    with one capital (`gb`, `KM`, `Mph`); None for what is no unit."""
    sign = sign.replace(" ", "")
    if sign in UNITS:
        return sign
    if sign in _ONE_WAY or not (sign.islower() or sign.isupper() or sign.istitle()):
        return None
    return _IN_SMALL.get(sign.lower())
