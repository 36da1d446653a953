"""Mathematics in words: LaTeX in `$…$`, `$$…$$`, `\\(…\\)`, `\\[…\\]` or bare, and plain text.

Of two meanings of a sign, its neighbours decide: `-` is minus in a chain of figures and variables
that holds a relation (`8-5=3`), a formula stands between dollars only where no prose does.
"""

import re
import unicodedata

from chatterbox.text.latex import command, formula
from chatterbox.text.lexicon import COMMANDS, STRUCTURE, unit
from chatterbox.text.rules import left_of, right_of

_FORMULA = re.compile(
    r"(?<!\\)\$\$(?P<display>[^$]{1,4000}+)\$\$"
    r"|(?<![\w$\\])\$(?![\s$])(?P<inline>(?:[^$\n\\]|\\.){1,500}+)(?:(?<![\s,;:/+*=<(\[{|&!@.#^-])|(?<=\^[+*-]))\$"
    r"(?:(?![\w${(@])|(?=(?:th|st|nd|rd|s)\b))"
    r"|\\{1,2}\((?P<round>(?:[^\\]|\\[^()]){1,4000}+)\\{1,2}\)"
    r"|\\{1,2}\[(?P<square>(?:[^\\]|\\[^\[\]]){1,4000}+)\\{1,2}\]"
)
_BIG_NAMES = {"∑": "sum", "∏": "prod", "∫": "int"}
_BIG = re.compile("([∑∏∫])(?=[^\\s])([₀-₉₊₋₌ₐ-ₜᵢ-ᵥⱼ]*)([⁰¹²³⁴-⁹⁺⁻ⁿⁱ∞]*)(?<![∑∏∫])")
_CLOSES = re.compile(r"\$\$|\\[)\]]|\$(?<=[^\s$]\$)(?!\d)")
"""A cheap look for the end of a formula."""
_NO_FORMULA = re.compile(
    r"->|=~|::|&&|==|[a-z]{2}_[a-z]{2}|\\[dDwWsSbBnrtzZ](?![A-Za-z])"
    r"|[\"“”`;]|\. [A-Z]|^\d[\d,.]* ?[a-z]{2,} |^\d[^\\]*[ (](?:US|AU|CA|HK|NZ|NT|[AC])$"
    r"|(?<![\\{A-Za-z])(?:an|and|at|by|for|in|is|it|of|on|or|per|the|to|a(?= [A-Za-z]{2}))(?= )"
)
"""What stands between two dollars in prose: `$5 or 6$`, `$5 (7 A$`."""
_PLAIN = re.compile(r"\d[\d,]*(?:\.\d+)?")
_PAID = re.compile(
    r"(?i)(?:\b(?:paid|pay(?:s|ing)?|costs?|costing|prices?|priced(?: at)?|spen[dt]|spending|worth"
    r"|earn(?:s|ed)?|charged?|(?:sold|bought|sells?|buys?|got)(?: \w+){0,2} for"
    r"|owes?|owed|saved?|save|fee of|budget of|only)"
    r"(?: (?:me|us|him|her|them|about|around|over|under|up to|only|just|is|was|of))*"
    r"|\$\d[\d.,]*(?: ?[-–] ?| and | or | to )) ?$"
)
"""Before a sum of money, which somebody has put between two dollars: `we paid $60$`."""
_IS_PATTERN = re.compile(
    r"\\[|.+*?-]|\.\*|\.\+|\[\^|\(\?|(?<![A-Za-z])(?:a-[fz]|A-[FZ]|0-9)(?![A-Za-z])"
    r"|(?<![\\A-Za-z])(?!sin|cos|tan|log|exp|lim|max|min|mod|det|gcd)[A-Za-z]{3,}(?![^\\{}]{0,200}})"
)
"""What stands between `\\(` and `\\)` in a pattern of `grep` or `sed`."""
_UNIT_AFTER = r"(?= ?(?P<unit>[A-Za-zμ°%]{1,5})(?![\w.]\w))"
_MEASURED = re.compile(
    r"(?<![\w$\\])(?P<sign>\$?)(?:(?P<whole>\d{1,4}) ?)?\\[dtc]?frac ?\{?(?P<top>\d{1,3})\}?"
    rf" ?\{{(?P<bottom>\d{{1,3}})\}}(?P=sign){_UNIT_AFTER}"
    r"|(?<![\w$\\])\$(?P<figure>\d{1,9}(?:\.\d{1,9})?)\$" + _UNIT_AFTER.replace("unit", "unit_too")
)
"""A figure in LaTeX before a unit that is not: left to the step that knows units."""
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_MARKED = re.compile(r"\\[A-Za-z]|[\^_]")

_COMMAND = re.compile(
    r"(?<![:\\.])(?<![A-Za-z]{2})\\(?:"
    + "|".join(sorted({*COMMANDS, *STRUCTURE}, key=len, reverse=True))
    + r")(?![A-Za-z])"
)

_NAME = re.compile(r"(?<!\w)\$(?=[A-Za-z_])")
"""The dollar of a variable, as in shells: `$x`."""
_INDEX = re.compile(r"_\{(\w{1,8})\}")
_ORDINAL_POWER = re.compile(r"(?<=\w)\^\{?(st|nd|rd|th)\b\}?")
_POWER = re.compile(
    r"(?<=[\w)\]])\^(?:\{([^{}\n]{1,60})\}|\(([^()\n]{1,60})\)"
    r"|(-?(?:\d{1,9}\.\d{1,9}|\d{0,3}[a-z]{1,2}|[A-Z]))(?!\w))"
)
_INTEGER = re.compile(r"-?\d{1,9}")
_STARRED = re.compile(
    r"\*(?:(?<=[\d)]\*)|(?<=[\d)] \*)|(?<=\b[A-Za-z]\*)|(?<=\b[A-Za-z] \*)|(?<=\d[A-Za-z]\*)"
    r"|(?<=\d[A-Za-z] \*))\*? ?(?:[-\d(]|[A-Za-z](?![A-Za-z]))"
)
"""A cheap look for a star between two factors."""
_STAR_POWER = re.compile(r"(?<![\w*])(\d{1,9}|[A-Za-z]|\))\*\*(-?\d{1,9}|[A-Za-z])(?![\w*])")
_STAR = re.compile(
    r"(?:(?<=\d)|(?<=[\d)][a-zA-Z])|(?<=\))|(?<![\w*])(?<=[A-Za-z]))(?<!\*)"
    r" ?\*(?!\*) ?(?=\d|\(|[A-Za-z](?![A-Za-z*]))"
)
_PRODUCT = re.compile(r"(?<![\w*])[A-Za-z](?:\*[A-Za-z]){1,9}(?![\w*])")
_QUOTIENT = re.compile(
    r"(?<![\w.])(?:(\d{1,9})/(\d{1,9})(?= ?[=≈])|([A-Za-z])/([A-Za-z]))(?![\w.])"
)
_NEAR_BRACKET = re.compile(r"/ ?\(|/(?:(?<=\)/)|(?<=\) /))")
_RATIO = re.compile(r"(?<![A-Za-z]{2})(?<=[\w!)]) ?/ ?(?=\()|(?<=\)) ?/ ?(?=[\w(])")
_FACTOR = re.compile(r"(?<=\d)\((?=[\w ]{1,10}[-+*/×][\w ]{1,10}\))(?!\d{3}-)")
_OVER = re.compile(
    r"(?<![\w/.:-])(?!y/n)(?:(\d{1,4}|[a-zA-Z]|d[a-z])/([nxyz]|d[a-z])|([xyz])/(\d{1,2}))(?![\w/.-])"
)
_DIVIDED = re.compile(r"/(?:[nxyz]|d[a-z]|\d{1,2})(?![\w/.-])")
_FACTORIAL = re.compile(r"(?<=[\w)])!(?= ?[=+*/×)-])")
_PLUS_MINUS = re.compile(r"\+ ?/ ?[-–]|\+-(?=\d)")
_CHANGED = re.compile(r"(?<=\w) ?([-+*/])= ?(?=[\w(])")
_NAMED = {"+": "plus", "-": "minus", "–": "minus", "*": "times", "×": "times", "x": "times"} | {
    "/": "divided by"
}
_CALL = re.compile(
    r"(?<![\w.])(?:([fghpFGHPT]'{0,2})\(([a-z\d](?:, ?[a-z\d]){0,3}"
    r"|[A-Z](?: ?(?:\|| (?:union|intersection) ) ?[A-Z])?)\)|(O)\(([\w^ ]{1,20})\)"
    r"|(sin|cos|tan|log|ln|exp|sqrt|max|min)\(([^()\n]{1,40})\))"
)

_OPERAND = (
    r"[(\[]{0,2}[-–]?[(\[]?(?:[$£€¥₹]?\d{1,12}(?:,\d{3})*(?:\.\d{1,12})?(?: ?[A-Za-z%°]{1,3}\b|%)?"
    r"|(?!(?:am|an|as|at|be|by|do|go|he|if|in|is|it|me|my|no|of|on|or|so|to|up|us|we)\b)"
    r"[A-Za-z]{1,2}\d?)(?:\^-?\w{1,3})?[)\]!]{0,2}"
)
_OPERATOR = r" ?(?:[<>!=]=|[-+*/×÷=<>≤≥≠≈–]|(?<=\d)x(?=\d)|(?<=\d) x (?=\d)) ?"
_CHAIN = re.compile(
    rf"(?P<asked>(?i:\b(?:what|how much)(?: is|'s)|\b(?:calculate|compute|evaluate|solve)) )?"
    rf"(?<![\w.,/?&=#@%$^:-])(?P<chain>{_OPERAND}(?:{_OPERATOR}{_OPERAND}){{1,30}}+)"
    r"(?![\w/@-]|\.\w)(?P<end> ?[?.!]?)"
)
_ASKED = re.compile("[Ww]hat|[Hh]ow much|[Cc]alc|[Cc]omp|[Ee]val|[Ss]olve")
_OPERATED = re.compile("[-+*/×÷–]|[0-9] ?x")
_IN_CHAIN = re.compile(
    r"(?P<before>^|[(\[]|.) ?(?P<sign>[-–*/×]|(?<=\d)x(?=\d)|(?<=\d) x(?= \d)) ?"
)
_RELATION = re.compile(r"[=<>≤≥≠≈]")
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d-\d+-\d{4}")
_VARIABLE = re.compile(r"(?<![A-Za-z])(?<!\d )[nxyz](?![A-Za-z])")
_CONSTANT = re.compile(r"(?<![\w.,^])\d[\d.]*(?![\w.,])")


def formulas(text: str) -> str:
    """`text` with its LaTeX in words. Linear time."""
    if not text.isascii():
        text = _BIG.sub(_as_command, text)
    if "frac" in text or "$ " in text:
        text = _MEASURED.sub(_say_measured, text)
    if "$" in text or "\\" in text:
        text = _FORMULA.sub(_say_formula, text) if _CLOSES.search(text) else text
    return _outside(text) if "\\" in text else text


def _as_command(match: re.Match[str]) -> str:
    """`∑ᵢ₌₁ⁿ` as LaTeX has it."""
    sign, low, high = match[1], match[2], match[3]
    bounds = f"{low and f'_{{{low}}}'}{high and f'^{{{high}}}'}"
    return f"\\{_BIG_NAMES[sign]}{unicodedata.normalize('NFKC', bounds)} "


def _say_measured(match: re.Match[str]) -> str:
    written = match["unit"] or match["unit_too"]
    if unit(written) is None or written in ("in", "x", "us", "a", "A", "p", "m"):
        return match[0]
    if match["figure"]:
        return match["figure"]
    return f"{match['whole'] + ' ' if match['whole'] else ''}{match['top']}/{match['bottom']}"


def _say_formula(match: re.Match[str]) -> str:
    inline = match["inline"]
    before = left_of(match, 40)
    if inline and _PLAIN.fullmatch(inline) and _PAID.search(before):
        return f"${inline}"
    body = inline or match["display"] or match["round"] or match["square"]
    if match["display"] is None and not _is_formula(body):
        return match[0]
    if inline is None and match["display"] is None and _IS_PATTERN.search(body):
        return match[0]
    return f" {formula(body)} "


def _is_formula(body: str) -> bool:
    """Whether it is mathematics, and neither prices, a shell's variables nor brackets in prose."""
    if _NO_FORMULA.search(body) or body.count("{") != body.count("}"):
        return False
    return _MARKED.search(body) is not None or _WORD.search(body) is None


def _outside(text: str) -> str:
    """Commands that stand in no formula; the text between them is left to the other steps."""
    said, start = [], 0
    while match := _COMMAND.search(text, start):
        words, end = command(text, match.start())
        said += [text[start : match.start()], " ", words, " "]
        start = end
    return "".join(said) + text[start:] if said else text


def spell_out(text: str) -> str:
    """`text` with plain-text mathematics in words, as far as Markdown would take its signs away;
    whole powers (`m^2`) are left to the step that knows units. Linear time."""
    if "$" in text:
        text = _NAME.sub("", text)
    if "^" in text:
        text = _POWER.sub(_say_power, _ORDINAL_POWER.sub(r"\1", text))
    if "_{" in text:
        text = _INDEX.sub(r" \1", text)
    if "(" in text:
        text = _RATIO.sub(" over ", text) if _NEAR_BRACKET.search(text) else text
        text = _FACTOR.sub(" times (", text)
        text = _CALL.sub(_say_call, text)
    if "/" in text and _DIVIDED.search(text):
        text = _OVER.sub(lambda m: f"{m[1] or m[3]} over {m[2] or m[4]}", text)
    if "*" in text and _STARRED.search(text):
        text = _PRODUCT.sub(lambda m: m[0].replace("*", " times "), text)
        text = _STAR.sub(" times ", _STAR_POWER.sub(r"\1^\2", text))
    text = _PLUS_MINUS.sub("±", text) if "+" in text else text
    if "=" in text:
        text = _CHANGED.sub(lambda m: f" {_NAMED[m[1]]} equals ", text)
    asks = _ASKED.search(text) is not None
    return "\n".join(_say_chains(line, asks) for line in text.split("\n"))


def _say_chains(line: str, asks: bool) -> str:
    asked = asks and _OPERATED.search(line) and _ASKED.search(line)
    if asked or " - " in line or _RELATION.search(line):
        return _CHAIN.sub(_say_chain, line)
    return line


def _say_power(match: re.Match[str]) -> str:
    exponent = match[1] or match[2] or match[3]
    if _INTEGER.fullmatch(exponent):
        return f"^{exponent}"
    return f" to the power of {formula(exponent)} "


def _say_call(match: re.Match[str]) -> str:
    letter, of, big_o, order, function, value = match.groups()
    touching = " " * right_of(match).isalnum()
    if letter or big_o:
        name = (letter or big_o).replace("'", " prime")
        return f"{name} of {(of or order).replace('|', ' given ')}{touching}"
    name = "the square root" if function == "sqrt" else COMMANDS[function]
    return f"{name} of {value}{touching}"


def _say_chain(match: re.Match[str]) -> str:
    """Operators in words where the chain is an equation, a question or a term in x."""
    chain, after = match["chain"], match["end"]
    asked = match["asked"] is not None and after.strip() != ""
    term = (
        " - " in chain
        and _VARIABLE.search(chain) is not None
        and _CONSTANT.search(chain) is not None
    )
    if not (asked or term or _RELATION.search(chain)) or _DATE.search(chain):
        return match[0]
    chain = _QUOTIENT.sub(_say_quotient, chain + "=" * asked).removesuffix("=" * asked)
    chain = _FACTORIAL.sub(" factorial", chain)
    return f"{match['asked'] or ''}{_IN_CHAIN.sub(_say_operator, chain)}{after}"


def _say_quotient(match: re.Match[str]) -> str:
    """1/2 stays a fraction."""
    if match[3]:
        return f"{match[3]} over {match[4]}"
    divided = int(match[1]) > int(match[2])
    return f"{match[1]} divided by {match[2]}" if divided else match[0]


def _say_operator(match: re.Match[str]) -> str:
    before, sign = match["before"], match["sign"].strip()
    if sign == "/" and " " not in match[0]:
        return match[0]  # a fraction
    if before in "([=<>≤≥≠≈+*/×":
        return f"{before} {'minus' if sign in '-–' else sign} "
    return f"{before} {_NAMED[sign]} "
