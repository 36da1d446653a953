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
