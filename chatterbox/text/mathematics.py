"""Read mathematics as words: LaTeX in `$…$`, `$$…$$`, `\\(…\\)`, `\\[…\\]` or bare, and plain text.

Neighbours decide between two meanings of a symbol: `-` is minus in a chain of numbers and variables
that holds a relation (`8-5=3`), and dollars enclose a formula only where they enclose no prose.
"""

import re
import unicodedata

from chatterbox.text.latex import command, formula
from chatterbox.text.lexicon import COMMANDS, STRUCTURE, any_in, any_of, unit
from chatterbox.text.rules import Match, Step, space_after, text_before

# --- LaTeX ---------------------------------------------------------------------------------------
formulas = Step(__name__, "formulas")
"""Read LaTeX as words: `$x_1 \\leq 5$` → `x one is at most five`."""
_NO_FORMULA = re.compile(
    r"->|=~|::|&&|==|[a-z]{2}_[a-z]{2}|\\[dDwWsSbBnrtzZ](?![A-Za-z])"
    r"|[\"“”`;]|\. [A-Z]|^\d[\d,.]* ?[a-z]{2,} |^\d[^\\]*[ (](?:US|AU|CA|HK|NZ|NT|[AC])$"
    r"|(?<![\\{A-Za-z])(?:an|and|at|by|for|in|is|it|of|on|or|per|the|to|a(?= [A-Za-z]{2}))(?= )"
)
"""Matches what stands between two dollars in prose: `$5 or 6$`, `$5 (7 A$`."""
_PLAIN = re.compile(r"\d[\d,]*(?:\.\d+)?")
_PAID = re.compile(
    rf"""(?xi)
    (?: \b{any_in("prices")} (?:[ ]{any_in("after prices")})*
      | \b(?:sold|bought|sells?|buys?|got)(?:[ ]\w+){{0,2}}[ ]for (?:[ ]{any_in("after prices")})*
      | \$\d[\d.,]*(?:[ ]?[-–][ ]?|[ ]and[ ]|[ ]or[ ]|[ ]to[ ]) )[ ]?$"""
)
"""Matches before a sum of money that somebody has put between two dollars: `we paid $60$`."""
_IS_PATTERN = re.compile(
    r"\\[|.+*?-]|\.\*|\.\+|\[\^|\(\?|(?<![A-Za-z])(?:a-[fz]|A-[FZ]|0-9)(?![A-Za-z])"
    r"|(?<![\\A-Za-z])(?!sin|cos|tan|log|exp|lim|max|min|mod|det|gcd)[A-Za-z]{3,}(?![^\\{}]{0,200}})"
)
"""Matches what stands between `\\(` and `\\)` in a pattern of `grep` or `sed`."""
_UNIT_AFTER = r"(?= ?(?P<unit>[A-Za-zμ°%]{1,5})(?![\w.]\w))"
_COMMAND = re.compile(
    rf"(?<![:\\.])(?<![A-Za-z]{{2}})\\(?:{any_of({*COMMANDS, *STRUCTURE})})(?![A-Za-z])"
)


@formulas.rule("([∑∏∫])(?=[^\\s])([₀-₉₊₋₌ₐ-ₜᵢ-ᵥⱼ]*)([⁰¹²³⁴-⁹⁺⁻ⁿⁱ∞]*)(?<![∑∏∫])", "[∑∏∫]")
def _as_command(match: Match) -> str:
    """`∑ᵢ₌₁ⁿ` as LaTeX writes it."""
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
def _say_measured_part(match: Match) -> str:
    """A fraction in LaTeX before a plain unit: left to `quantities`."""
    whole = f"{match['whole']} " if match["whole"] else ""
    return f"{whole}{match['top']}/{match['bottom']}" if _is_measure(match["unit"]) else match[0]


formulas.add(
    rf"(?<![\w$\\])\$(\d{{1,9}}(?:\.\d{{1,9}})?)\${_UNIT_AFTER}",
    lambda m: m[1] if _is_measure(m["unit"]) else m[0],
    r"[0-9]\$ ",
)


@formulas.rule(
    r"""(?x)
    (?<!\\)\$\$(?P<display>[^$]{1,4000}+)\$\$
    | (?<![\w$\\])\$(?![\s$])(?P<inline>(?:[^$\n\\]|\\.){1,500}+)
      (?:(?<![\s,;:/+*=<(\[{|&!@.\#^-])|(?<=\^[+*-]))\$(?:(?![\w${(@])|(?=(?:th|st|nd|rd|s)\b))
    | \\{1,2}\((?P<round>(?:[^\\]|\\[^()]){1,4000}+)\\{1,2}\)
    | \\{1,2}\[(?P<square>(?:[^\\]|\\[^\[\]]){1,4000}+)\\{1,2}\]""",
    r"\$\$|\\[)\]]|\$(?<=[^\s$]\$)(?!\d)",
)
def _say_formula(match: Match) -> str:
    """$E = mc^2$"""
    display, inline = match["display"], match["inline"]
    if inline and _PLAIN.fullmatch(inline) and _PAID.search(text_before(match, 40)):
        return f"${inline}"
    body = display or inline or match["round"] or match["square"]
    is_pattern = not display and not inline and _IS_PATTERN.search(body)
    return f" {formula(body)} " if display or (_is_formula(body) and not is_pattern) else match[0]


def _is_formula(body: str) -> bool:
    """Whether `body` is mathematics, not prices, the variables of a shell or brackets in prose."""
    if _NO_FORMULA.search(body) or body.count("{") != body.count("}"):
        return False
    marked = re.search(r"\\[A-Za-z]|[\^_]", body)
    return marked is not None or not re.search(r"(?<![\\A-Za-z])[A-Za-z]{4,}", body)


@formulas.rule(r"(?s).+", r"\\[A-Za-z]")
def _say_commands(whole: Match) -> str:
    """Commands outside formulas; the text between them is left to the other steps."""
    text, said, start = whole[0], [], 0
    while match := _COMMAND.search(text, start):
        words, end = command(text, match.start())
        said += [text[start : match.start()], " ", words, " "]
        start = end
    return "".join(said) + text[start:]


# --- plain text, while it still has the signs that Markdown would take away ----------------------
read = Step(__name__)
"""Read plain mathematics as words: `2x + 3 = 7` → `two x plus three equals seven`."""
_SPOKEN = dict.fromkeys("*×x", "times") | dict.fromkeys("-–", "minus")
_SPOKEN |= {"+": "plus", "/": "divided by"}
_SUM = r"\w{1,3}(?: ?[-+*/] ?\w{1,3}){0,3}"
_STARRED = r"\*(?:(?<=[\w)]\*)|(?<=[\w)] \*))\*? ?[-\w(]"
"""Cheap to search for: a star between two factors."""
read.add(r"(?<!\w)\$(?=[A-Za-z_])", "", r"\$")  # a variable of a shell: `$x`
read.add(r"(?<=\w)\^\{?(st|nd|rd|th)\b\}?", r"\1", r"\^")


@read.rule(
    r"(?<=[\w)\]])\^(?:\{([^{}\n]{1,60})\}|\(([^()\n]{1,60})\)"
    r"|(-?(?:\d{1,9}\.\d{1,9}|\d{0,3}[a-z]{1,2}|[A-Z]))(?!\w))",
    r"\^",
)
def _say_power(match: Match) -> str:
    """x^{n+1}; whole powers (`m^2`) are left to `quantities`."""
    exponent = match[1] or match[2] or match[3]
    if re.fullmatch(r"-?\d{1,9}", exponent):
        return f"^{exponent}"
    return f" to the power of {formula(exponent)} "


read.add(r"_\{(\w{1,8})\}", r" \1", "_{")
read.add(r"(?<![A-Za-z]{2})(?<=[\w!)]) ?/ ?(?=\()|(?<=\)) ?/ ?(?=[\w(])", " over ", r"/ ?\(|\) ?/")
read.add(r"(?<=\d)\((?=[\w ]{1,10}[-+*/×][\w ]{1,10}\))(?!\d{3}-)", " times (", r"\(")


@read.rule(
    r"""(?x)
    (?<![\w.])
    (?: ([fghpFGHPT]'{0,2}|O(?=\([\w^ ]{1,20}\)))
        \(([a-z\d](?:,[ ]?[a-z\d]){0,3}
          |[A-Z](?:[ ]?(?:\||[ ](?:union|intersection)[ ])[ ]?[A-Z])?
          |(?<=O\()[\w^ ]{1,20})\)
      | (sin|cos|tan|log|ln|exp|sqrt|max|min)\(([^()\n]{1,40})\) )""",
    r"\(",
)
def _say_call(match: Match) -> str:
    """f(x), P(A|B), sqrt(2)"""
    letter, of, function, value = match.groups()
    if letter:
        name, value = letter.replace("'", " prime"), of.replace("|", " given ")
    else:
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
read.add(r"(?<=\w) ?([-+*/])= ?(?=[\w(])", lambda m: f" {_SPOKEN[m[1]]} equals ", "=")

read.add(  # |x - 1| < 2; `| a | b |` is a row of a table
    rf"(?<![\w|])\|({_SUM})\|(?=[),.;:!?^]| ?[-+*/=<>≤≥≠]| (?:is|and|or)\b)"
    rf"|(?<=[-+=<>≤≥] )\|({_SUM})\|(?![\w|])",
    r" the absolute value of \1\2",
    r"\|[^\s|]+(?: [^|]+)?\|",
)

# --- chains of numbers, variables and operators --------------------------------------------------
_OPERAND = rf"""
    [(\[]{{0,2}}[-–]?[(\[]?
    (?: [$£€¥₹]?\d{{1,12}}(?:,\d{{3}})*(?:\.\d{{1,12}})?(?:[ ]?[A-Za-z%°]{{1,3}}\b|%)?
      | (?!{any_in("words of two letters")}\b)[A-Za-z]{{1,2}}\d? )
    (?:\^-?\w{{1,3}})?[)\]!]{{0,2}}"""
_OPERATOR = r"[ ]?(?:[<>!=]=|[-+*/×÷=<>≤≥≠≈–]|(?<=\d)x(?=\d)|(?<=\d)[ ]x[ ](?=\d))[ ]?"
_CHAIN = re.compile(
    rf"""(?x)
    (?P<asked>(?i:\b(?:what|how[ ]much)(?:[ ]is|'s)|\b(?:calculate|compute|evaluate|solve))[ ])?
    (?<![\w.,/?&=\#@%$^:-])(?P<chain>{_OPERAND}(?:{_OPERATOR}{_OPERAND}){{1,30}}+)
    (?![\w/@-]|\.\w)(?P<end>[ ]?[?.!]?)"""
)
_ASKED = re.compile("[Ww]hat|[Hh]ow much|[Cc]alc|[Cc]omp|[Ee]val|[Ss]olve")
_OPERATED = re.compile("[-+*/×÷–]|[0-9] ?x")
_RELATION = re.compile(r"[=<>≤≥≠≈]")
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d-\d+-\d{4}")
_VARIABLE = re.compile(r"(?<![A-Za-z])(?<!\d )[nxyz](?![A-Za-z])")
_CONSTANT = re.compile(r"(?<![\w.,^])\d[\d.]*(?![\w.,])")


@read.rule(r".+", "[-+*/×÷–=<>≤≥≠≈x](?:(?<!x)|(?<=[0-9]x)|(?<=[0-9] x))")
def _say_chains(line: Match) -> str:
    """8 - 5 = 3"""
    asked = _OPERATED.search(line[0]) and _ASKED.search(line[0])
    if asked or " - " in line[0] or _RELATION.search(line[0]):
        return _CHAIN.sub(_say_chain, line[0])
    return line[0]


_in_chain = Step(__name__)
"""Read the operators of a chain as words: `8 - 5 = 3` → `eight minus five equals three`."""


def _say_chain(match: Match) -> str:
    """Operators are read where the chain is an equation, a question or a term in x."""
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
def _say_quotient(match: Match) -> str:
    """`10/2 = 5`; 1/2 stays a fraction."""
    if match[3]:
        return f"{match[3]} over {match[4]}"
    divided = int(match[1]) > int(match[2])
    return f"{match[1]} divided by {match[2]}" if divided else match[0]


_in_chain.add(r"(?<=[\w)])!(?= ?[=+*/×)-])", " factorial", "!")


@_in_chain.rule(r"(?P<before>^|[(\[]|.) ?(?P<sign>[-–*/×]|(?<=\d)x(?=\d)|(?<=\d) x(?= \d)) ?")
def _say_operator(match: Match) -> str:
    before, sign = match["before"], match["sign"].strip()
    if sign == "/" and " " not in match[0]:
        return match[0]  # a fraction
    if before in "([=<>≤≥≠≈+*/×":
        return f"{before} {'minus' if sign in '-–' else sign} "
    return f"{before} {_SPOKEN[sign]} "
