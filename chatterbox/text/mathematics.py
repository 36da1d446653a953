"""Mathematics in words: LaTeX in `$…$`, `$$…$$`, `\\(…\\)`, `\\[…\\]` or bare, and plain text.

Of two meanings of a sign, its neighbours decide: `-` is minus in a chain of figures and variables
that holds a relation (`8-5=3`), a formula stands between dollars only where no prose does.
"""

import re
import unicodedata

from chatterbox.text.latex import command, formula
from chatterbox.text.lexicon import COMMANDS, STRUCTURE, any_of, unit
from chatterbox.text.rules import Step, space_after, text_before

# --- LaTeX ---------------------------------------------------------------------------------------
formulas = Step(__name__, "formulas")
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
_COMMAND = re.compile(
    rf"(?<![:\\.])(?<![A-Za-z]{{2}})\\(?:{any_of({*COMMANDS, *STRUCTURE})})(?![A-Za-z])"
)


@formulas.rule("([∑∏∫])(?=[^\\s])([₀-₉₊₋₌ₐ-ₜᵢ-ᵥⱼ]*)([⁰¹²³⁴-⁹⁺⁻ⁿⁱ∞]*)(?<![∑∏∫])", "[∑∏∫]")
def _as_command(match: re.Match[str]) -> str:
    """`∑ᵢ₌₁ⁿ` as LaTeX has it."""
    sign, low, high = match[1], match[2], match[3]
    bounds = f"{low and f'_{{{low}}}'}{high and f'^{{{high}}}'}"
    name = {"∑": "sum", "∏": "prod", "∫": "int"}[sign]
    return f"\\{name}{unicodedata.normalize('NFKC', bounds)} "


def _is_measure(written: str) -> bool:
    return unit(written) is not None and written not in ("in", "x", "us", "a", "A", "p", "m")


@formulas.rule(
    r"(?<![\w$\\])(?P<sign>\$?)(?:(?P<whole>\d{1,4}) ?)?\\[dtc]?frac ?\{?(?P<top>\d{1,3})\}?"
    rf" ?\{{(?P<bottom>\d{{1,3}})\}}(?P=sign){_UNIT_AFTER}",
    "frac",
)
def _say_measured_part(match: re.Match[str]) -> str:
    """A figure in LaTeX before a unit that is not: left to the step that knows units."""
    whole = f"{match['whole']} " if match["whole"] else ""
    return f"{whole}{match['top']}/{match['bottom']}" if _is_measure(match["unit"]) else match[0]


formulas.add(
    rf"(?<![\w$\\])\$(\d{{1,9}}(?:\.\d{{1,9}})?)\${_UNIT_AFTER}",
    lambda m: m[1] if _is_measure(m["unit"]) else m[0],
    r"[0-9]\$ ",
)


@formulas.rule(
    r"(?<!\\)\$\$(?P<display>[^$]{1,4000}+)\$\$"
    r"|(?<![\w$\\])\$(?![\s$])(?P<inline>(?:[^$\n\\]|\\.){1,500}+)"
    r"(?:(?<![\s,;:/+*=<(\[{|&!@.#^-])|(?<=\^[+*-]))\$(?:(?![\w${(@])|(?=(?:th|st|nd|rd|s)\b))"
    r"|\\{1,2}\((?P<round>(?:[^\\]|\\[^()]){1,4000}+)\\{1,2}\)"
    r"|\\{1,2}\[(?P<square>(?:[^\\]|\\[^\[\]]){1,4000}+)\\{1,2}\]",
    r"\$\$|\\[)\]]|\$(?<=[^\s$]\$)(?!\d)",
)
def _say_formula(match: re.Match[str]) -> str:
    display, inline, *brackets = match.groups()
    if inline and _PLAIN.fullmatch(inline) and _PAID.search(text_before(match, 40)):
        return f"${inline}"
    body = display or inline or brackets[0] or brackets[1]
    escaped = display is None and inline is None
    if display is None and not (_is_formula(body) and not (escaped and _IS_PATTERN.search(body))):
        return match[0]
    return f" {formula(body)} "


def _is_formula(body: str) -> bool:
    """Whether it is mathematics, and neither prices, a shell's variables nor brackets in prose."""
    if _NO_FORMULA.search(body) or body.count("{") != body.count("}"):
        return False
    marked = re.search(r"\\[A-Za-z]|[\^_]", body)
    return marked is not None or not re.search(r"(?<![\\A-Za-z])[A-Za-z]{4,}", body)


@formulas.rule(r"(?s).+", r"\\[A-Za-z]")
def _say_commands(whole: re.Match[str]) -> str:
    """Commands that stand in no formula; the text between them is left to the other steps."""
    text, said, start = whole[0], [], 0
    while match := _COMMAND.search(text, start):
        words, end = command(text, match.start())
        said += [text[start : match.start()], " ", words, " "]
        start = end
    return "".join(said) + text[start:]


# --- plain text, as far as Markdown would take its signs away ------------------------------------
read = Step(__name__)
"""Whole powers (`m^2`) are left to the step that knows units."""
_NAMED = dict.fromkeys("*×x", "times") | dict.fromkeys("-–", "minus") | {"+": "plus"}
_NAMED["/"] = "divided by"
_STARRED = r"\*(?:(?<=[\w)]\*)|(?<=[\w)] \*))\*? ?[-\w(]"
"""A cheap look for a star between two factors."""
read.add(r"(?<!\w)\$(?=[A-Za-z_])", "", r"\$")  # a variable's, as in shells: `$x`
read.add(r"(?<=\w)\^\{?(st|nd|rd|th)\b\}?", r"\1", r"\^")


@read.rule(
    r"(?<=[\w)\]])\^(?:\{([^{}\n]{1,60})\}|\(([^()\n]{1,60})\)"
    r"|(-?(?:\d{1,9}\.\d{1,9}|\d{0,3}[a-z]{1,2}|[A-Z]))(?!\w))",
    r"\^",
)
def _say_power(match: re.Match[str]) -> str:
    exponent = match[1] or match[2] or match[3]
    if re.fullmatch(r"-?\d{1,9}", exponent):
        return f"^{exponent}"
    return f" to the power of {formula(exponent)} "


read.add(r"_\{(\w{1,8})\}", r" \1", "_{")
read.add(r"(?<![A-Za-z]{2})(?<=[\w!)]) ?/ ?(?=\()|(?<=\)) ?/ ?(?=[\w(])", " over ", r"/ ?\(|\) ?/")
read.add(r"(?<=\d)\((?=[\w ]{1,10}[-+*/×][\w ]{1,10}\))(?!\d{3}-)", " times (", r"\(")


@read.rule(
    r"(?<![\w.])(?:([fghpFGHPT]'{0,2}|O(?=\([\w^ ]{1,20}\)))\(([a-z\d](?:, ?[a-z\d]){0,3}"
    r"|[A-Z](?: ?(?:\|| (?:union|intersection) ) ?[A-Z])?|(?<=O\()[\w^ ]{1,20})\)"
    r"|(sin|cos|tan|log|ln|exp|sqrt|max|min)\(([^()\n]{1,40})\))",
    r"\(",
)
def _say_call(match: re.Match[str]) -> str:
    letter, of, function, value = match.groups()
    if letter:
        name = letter.replace("'", " prime")
        return f"{name} of {of.replace('|', ' given ')}{space_after(match)}"
    name = "the square root" if function == "sqrt" else COMMANDS[function]
    return f"{name} of {value}{space_after(match)}"


read.add(
    r"(?<![\w/.:-])(?!y/n)(\d{1,4}|[a-zA-Z]|d[a-z])/([nxyz]|d[a-z]|(?<=\b[xyz]/)\d{1,2})(?![\w/.-])",
    r"\1 over \2",
    r"/(?:[nxyz]|d[a-z]|\d{1,2})(?![\w/.-])",
)
read.add(
    r"(?<![\w*])[A-Za-z](?:\*[A-Za-z]){1,9}(?![\w*])",
    lambda m: m[0].replace("*", " times "),
    _STARRED,
)
read.add(r"(?<![\w*])(\d{1,9}|[A-Za-z]|\))\*\*(-?\d{1,9}|[A-Za-z])(?![\w*])", r"\1^\2", _STARRED)
read.add(
    r"(?:(?<=\d)|(?<=[\d)][a-zA-Z])|(?<=\))|(?<![\w*])(?<=[A-Za-z]))(?<!\*)"
    r" ?\*(?!\*) ?(?=\d|\(|[A-Za-z](?![A-Za-z*]))",
    " times ",
    _STARRED,
)
read.add(r"\+ ?/ ?[-–]|\+-(?=\d)", "±", r"\+")
read.add(r"(?<=\w) ?([-+*/])= ?(?=[\w(])", lambda m: f" {_NAMED[m[1]]} equals ", "=")

# --- chains of figures, variables and operators --------------------------------------------------
_OPERAND = (
    r"[(\[]{0,2}[-–]?[(\[]?(?:[$£€¥₹]?\d{1,12}(?:,\d{3})*(?:\.\d{1,12})?(?: ?[A-Za-z%°]{1,3}\b|%)?"
    r"|(?!(?:am|an|as|at|be|by|do|go|he|if|in|is|it|me|my|no|of|on|or|so|to|up|us|we)\b)"
    r"[A-Za-z]{1,2}\d?)(?:\^-?\w{1,3})?[)\]!]{0,2}"
)
_OPERATOR = r" ?(?:[<>!=]=|[-+*/×÷=<>≤≥≠≈–]|(?<=\d)x(?=\d)|(?<=\d) x (?=\d)) ?"
_CHAIN = re.compile(
    r"(?P<asked>(?i:\b(?:what|how much)(?: is|'s)|\b(?:calculate|compute|evaluate|solve)) )?"
    rf"(?<![\w.,/?&=#@%$^:-])(?P<chain>{_OPERAND}(?:{_OPERATOR}{_OPERAND}){{1,30}}+)"
    r"(?![\w/@-]|\.\w)(?P<end> ?[?.!]?)"
)
_ASKED = re.compile("[Ww]hat|[Hh]ow much|[Cc]alc|[Cc]omp|[Ee]val|[Ss]olve")
_OPERATED = re.compile("[-+*/×÷–]|[0-9] ?x")
_RELATION = re.compile(r"[=<>≤≥≠≈]")
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d-\d+-\d{4}")
_VARIABLE = re.compile(r"(?<![A-Za-z])(?<!\d )[nxyz](?![A-Za-z])")
_CONSTANT = re.compile(r"(?<![\w.,^])\d[\d.]*(?![\w.,])")


@read.rule(r".+", "[-+*/×÷–=<>≤≥≠≈x](?:(?<!x)|(?<=[0-9]x)|(?<=[0-9] x))")
def _say_chains(line: re.Match[str]) -> str:
    asked = _OPERATED.search(line[0]) and _ASKED.search(line[0])
    if asked or " - " in line[0] or _RELATION.search(line[0]):
        return _CHAIN.sub(_say_chain, line[0])
    return line[0]


_in_chain = Step(__name__)


def _say_chain(match: re.Match[str]) -> str:
    """Operators in words where the chain is an equation, a question or a term in x."""
    chain, after = match["chain"], match["end"]
    asked = match["asked"] is not None and after.strip() != ""
    term = " - " in chain and _VARIABLE.search(chain) and _CONSTANT.search(chain)
    if not (asked or term or _RELATION.search(chain)) or _DATE.search(chain):
        return match[0]
    said = _in_chain(chain + "=" * asked)
    return f"{match['asked'] or ''}{said.removesuffix('=' * asked)}{after}"


@_in_chain.rule(
    r"(?<![\w.])(?:(\d{1,9})/(\d{1,9})(?= ?[=≈])|(?<!\d )([A-Za-z])/([A-Za-z]))(?![\w.])", "/"
)
def _say_quotient(match: re.Match[str]) -> str:
    """1/2 stays a fraction."""
    if match[3]:
        return f"{match[3]} over {match[4]}"
    divided = int(match[1]) > int(match[2])
    return f"{match[1]} divided by {match[2]}" if divided else match[0]


_in_chain.add(r"(?<=[\w)])!(?= ?[=+*/×)-])", " factorial", "!")


@_in_chain.rule(r"(?P<before>^|[(\[]|.) ?(?P<sign>[-–*/×]|(?<=\d)x(?=\d)|(?<=\d) x(?= \d)) ?")
def _say_operator(match: re.Match[str]) -> str:
    before, sign = match["before"], match["sign"].strip()
    if sign == "/" and " " not in match[0]:
        return match[0]  # a fraction
    if before in "([=<>≤≥≠≈+*/×":
        return f"{before} {'minus' if sign in '-–' else sign} "
    return f"{before} {_NAMED[sign]} "
