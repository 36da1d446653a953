"""Web addresses, names with points, and street addresses in words."""

import pytest

from chatterbox.text import normalise

NET = [
    (
        "git.io/ab or news.farm/today/x.",
        "git dot I O slash ab or news dot farm slash today slash x.",
    ),
    ("Acme.Org, ACME.NET and jo@ACME.COM", "Acme dot org, ACME dot net and jo at ACME dot com."),
    ("notes.PDF, page.php and style.scss", "notes dot PDF, page dot php and style dot scss."),
    ("sys.path.append, Color.RED, ADO.NET", "sys dot path dot append, Color dot RED, ADO dot net."),
    ("List.ForEach(x) and a().b", "List dot ForEach x and a dot b."),
    ("Three.js or main.c in .bashrc", "Three dot js or main dot c in dot bashrc."),
    ("2023.pdf but done in 5.then", "Twenty twenty-three dot pdf but done in five. then."),
    ("stop.Go now.It was", "stop. Go now. It was."),
    ("e.g.pears, i.e.fruit, etc.and so", "for example pears, that is fruit, et cetera and so."),
    ("the U.S.Navy at 5 a.m. and U.K.based", "the US Navy at five AM and UK based."),
    ("Ask jo@shop.co.uk. Then go.", "Ask jo at shop dot co dot U K. Then go."),
    ("wait...what", "wait... what."),
    ("#define and #Define", "hash define and hashtag Define."),
]
STREETS = [
    ("9 Mill St", "Nine Mill Street."),
    ("31 N 3rd st, Apt 2", "Thirty-one North third Street, Apartment two."),
    ("1500 K St. NW", "Fifteen hundred K Street Northwest."),
    ("90 Rose Ct, Leeds", "Ninety Rose Court, Leeds."),
    ("16 W. 9th Ave. Then left", "Sixteen West ninth Avenue. Then left."),
    ("It is 3460 Elm Ln, Ste. 20.", "It is thirty-four sixty Elm Lane, Suite twenty."),
    ("Take hwy 5 to the Bay Expy", "Take highway five to the Bay Expressway."),
    ("1408 Elm St.", "Fourteen oh eight Elm Street."),
    ("1408A Elm Rd", "Fourteen oh eight A Elm Road."),
    ("on Oak St and E 8th Ave", "on Oak Street and East eighth Avenue."),
    ("7 Elm Ln. Apt. 3 in S. Dakota", "Seven Elm Lane Apartment three in South Dakota."),
    ("At 9 PM Dr. Day met St. Paul.", "At nine PM Doctor Day met Saint Paul."),
    ("In 1987 Wall St. fell.", "In nineteen eighty-seven Wall Street fell."),
    ("Ste. C, Apt B, Fl. 3", "Suite C, Apartment B, Floor three."),
    ("Ann W. Hill Road, Plan E", "Ann W Hill Road, Plan E."),
]
TABLE = [*NET, *STREETS]


@pytest.mark.parametrize(("written", "said"), TABLE, ids=[row[0][:32] for row in TABLE])
def test_reads_as(written: str, said: str) -> None:
    assert normalise(written) == said
