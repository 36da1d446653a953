"""Fixed lists of words that reading English needs."""

from collections.abc import Iterable


def listed(words: str) -> frozenset[str]:
    """Words with blanks between them, as a set."""
    return frozenset(words.split())


def any_of(words: Iterable[str]) -> str:
    """A pattern for any of `words`, the longest first."""
    return "|".join(sorted(words, key=len, reverse=True))


def table(rows: str) -> dict[str, str]:
    """`ch chap: chapter, fig: figure` → {"ch": "chapter", "chap": "chapter", "fig": "figure"}."""
    found = {}
    for row in rows.split(","):
        written, said = row.split(":")
        found.update(dict.fromkeys(written.split(), said.strip()))
    return found


# --- abbreviations -------------------------------------------------------------------------------

TITLES = table(
    "Mr: Mister, Mrs: Missus, Ms: Miz, Dr: Doctor, Prof: Professor, Gen: General, Col: Colonel, "
    "Capt: Captain, Cmdr: Commander, Lt: Lieutenant, Sgt: Sergeant, Maj: Major, Gov: Governor, "
    "Sen: Senator, Rep: Representative, Rev: Reverend, Hon: Honorable, Pres: President, Adm: "
    "Admiral, Cpl: Corporal, Pvt: Private, Supt: Superintendent, Insp: Inspector, Messrs: Messrs, "
    "St: Saint, Mt: Mount, Ft: Fort"
)
"""Before a name; the stop never ends a sentence."""
BARE_TITLES = listed("Mr Mrs Ms Dr Prof St")
"""Also written without a stop."""
STREETS = table(
    "St: Street, Dr: Drive, Ave Av: Avenue, Blvd: Boulevard, Rd: Road, Ln: Lane, Ct: Court, Pl: "
    "Place, Hwy: Highway, Pkwy: Parkway, Expy Expwy: Expressway, Fwy: Freeway, Tpke: Turnpike, "
    "Sq: Square, Ter: Terrace, Cir: Circle, Trl: Trail, Aly: Alley, Plz: Plaza, Cres: Crescent"
)
"""After a name or an ordinal."""
BARE_STREETS = listed("St Ln Ave Blvd Rd Hwy Pkwy Expy Expwy Fwy Tpke")
"""Also written without a stop where no house number stands before the name."""
DIRECTIONS = table(
    "N: North, S: South, E: East, W: West, NE: Northeast, NW: Northwest, SE: Southeast, SW: "
    "Southwest"
)
"""Before the name of a street and behind it."""
LANDS = "Korea|Africa|America|Virginia|Carolina|Dakota|Ireland|Sudan|Macedonia|Coast|Side|Bank"
"""Names that a direction with a stop belongs to: `N. Korea`."""
ABBREVIATIONS = table(
    "e.g. e.g eg.: for example, i.e. i.e ie.: that is, w.r.t.: with respect to, etc.: et cetera, "
    "vs. vs: versus, cf.: compare, viz.: namely, al.: al, a.k.a.: also known as, approx.: "
    "approximately, max.: maximum, govt.: government, Govt.: Government, avg.: average, dept.: "
    "department, Dept.: Department, est.: established, esp.: especially, incl.: including, misc.: "
    "miscellaneous, orig.: originally, tel.: telephone, Tel.: Telephone, Univ.: University, "
    "Assoc.: Associate, Inc.: Incorporated, Ltd.: Limited, Corp.: Corporation, Co.: Company, "
    "Bros.: Brothers, Jr.: Junior, Sr.: Senior, Esq.: Esquire, Ph.D.: PhD, a.m. A.M.: AM, p.m. "
    "P.M.: PM, w/o: without, w/: with, b/c: because, c/o: care of, n/a N/A: not applicable, "
    "and/or: and or, either/or: either or, he/she: he or she, his/her: his or her, him/her: him "
    "or her"
)
"""Anywhere; a stop is kept where it also ends the sentence."""

BEFORE_FIGURE = table(
    "no: number, nos: numbers, p: page, art: article, arts: articles, sec: section, ca c: circa, "
    "max: maximum, min: minimum, rev: revision, op: opus, v: verse, vv: verses, ps: psalm, "
    "ref: reference, col: column, rm: room, bk: book, pt: part, cl: clause, ll: lines, nn: notes, "
    "est: estimated, fl: floor, "
    "pp pgs: pages, pg: page, vol: volume, vols: volumes, ch chap: chapter, "
    "chs chaps: chapters, fig: figure, figs: figures, eq: equation, eqs: equations, "
    "ext: extension, para: paragraph, paras: paragraphs, sect: section, sects: sections, "
    "qty: quantity, apt: apartment, ste: suite, ver: version, rt rte: route, hwy: highway, "
    "bldg: building, acct: account, inv: invoice, lvl: level, approx: approximately, "
    "w/e: week ending"
)
"""Only before a figure: `No. 5`, `pp. 3-5`."""
BARE_BEFORE_FIGURE = listed(
    "pp pgs pg vol vols ch chap chs chaps fig figs eq eqs ext para paras qty apt ste "
    "ver rt rte hwy bldg acct inv lvl approx w/e"
)
"""Also without a stop: `Fig 3`, `Apt 4`."""
BOOKS = table(
    "Gen: Genesis, Ex Exod: Exodus, Lev: Leviticus, Num: Numbers, Deut Dt: Deuteronomy, "
    "Josh: Joshua, Judg: Judges, Sam: Samuel, Kgs: Kings, Chr Chron: Chronicles, Neh: Nehemiah, "
    "Esth: Esther, Ps Psa: Psalm, Pss: Psalms, Prov: Proverbs, Eccl Eccles: Ecclesiastes, "
    "Isa: Isaiah, Jer: Jeremiah, Lam: Lamentations, Ezek: Ezekiel, Dan: Daniel, Hos: Hosea, "
    "Mic: Micah, Hab: Habakkuk, Zeph: Zephaniah, Hag: Haggai, Zech: Zechariah, Mal: Malachi, "
    "Matt Mt: Matthew, Mk: Mark, Lk: Luke, Jn: John, Rom: Romans, Cor: Corinthians, "
    "Gal: Galatians, Eph: Ephesians, Phil: Philippians, Col: Colossians, Thess: Thessalonians, "
    "Tim: Timothy, Tit: Titus, Philem Phlm: Philemon, Heb: Hebrews, Jas: James, Pet: Peter, "
    "Rev: Revelation"
)
"""Books of the Bible, before chapter and verse: `Matt. 5:3`."""

LABELS = listed(
    "vitamin plan option grade class type hepatitis group section appendix figure table level part "
    "team block exhibit point column room gate zone model series annex schedule category division "
    "version panel line lane terminal hall wing chart map box item question answer choice"
)
"""Words that a single capital belongs to: its stop ends the sentence (`vitamin C. The …`)."""
STARTERS = listed(
    "The A An This That These Those There It He She We They You I His Her Its Our Their My Your In "
    "On At For From With As And But Or So If When While After Before Then Now What Who Why How "
    "Where Which Yes No Not"
)
"""Capitalised because a sentence begins, not because a name does (after `Inc.`, `U.S.`, `St.`)."""
