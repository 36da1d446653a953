"""Read LaTeX as words, symbol by symbol. Linear time."""

import re

from chatterbox.text import lexicon
from chatterbox.text.lexicon import any_of, unit, word_set
from chatterbox.text.numbers import NUMBER, fraction, number

_TOKEN = re.compile(
    rf"\s*(\\[A-Za-z]+|\\.|{NUMBER}|(?:{any_of(lexicon.FUNCTIONS | {'lim', 'mod'})})(?![A-Za-z])"
    r"|[a-z]{4,}|:=|[<>!]=|[-=]>|\S)",
    re.DOTALL,
)
_FRACTIONS = word_set("frac dfrac tfrac cfrac")
_TEXTS = word_set("text textbf textit textrm mathrm mathit mathsf operatorname mbox hbox ce mathbf")
_ENVIRONMENTS = re.compile(
    r"(?:[pbBvV]?(?:small)?matrix|array|d?cases|equation|(?:fl)?align(?:ed|at)?|gather(?:ed)?|split"
    r"|multline|eqnarray)\*?"
)
_PLAIN_GROUP = re.compile(r"\s*\{([^\\{}^_$]*)\}")
_PART = re.compile(r"\s*/\s*(\d++)(?!\.\d|,\d{3})")
_SPACED_DIGITS = re.compile(r"(?<=\d)(?:\{,\}|\\,)(?=\d{3}(?!\d))")
_UNIT = re.compile(r"([A-Za-zμΩ°%]{1,6})(?:/[A-Za-z]{1,4})?")
_UNIT_POWER = re.compile(r"\s*\^\{?(-?\d)\}?")
_CALLED = lexicon.FUNCTIONS | word_set("mathcal mathbb mathrm mathbf operatorname")
_ARGUMENTS = re.compile(r"[a-z](?: , [a-z])*|[a-z] given .*")
_MAX_DEPTH = 30
"""Deepest nesting of braces that is read; deeper groups say nothing. Python's own stack would
overflow at a few hundred."""
_ROOTS = {"": "square", "two": "square", "three": "cube", "four": "fourth", "five": "fifth"}


def formula(body: str) -> str:
    """Read a formula without its dollars."""
    return _Reader(_SPACED_DIGITS.sub(",", body)).sequence(None)


def command(text: str, at: int) -> tuple[str, int]:
    """Read the command at `at` with its arguments; return the words and where the command ends."""
    reader = _Reader(text, at)
    return reader.atom(), reader.at


class _Reader:
    """Read the symbols of `text` one after the other, from `at` on."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text = text
        self.at = at
        self._depth = 0
        self._bars: list[str] = []
        self._in_set = False
        self._before = ""
        """The symbol before the current one, "" after an operator or at the start: `(` and `|` are
        read by it."""
        self._of_vectors = False
        self._number = ""
        """The number just read, as it was written, in case a unit follows."""

    def sequence(self, closing: str | None) -> str:
        """Read up to the symbol `closing`, and take that as well."""
        said: list[str] = []
        while symbol := self._peek():
            if symbol == closing or (closing == ")" and symbol == "]"):
                self._take()
                break
            if symbol == "\\right" and closing == ")":
                self._take()
                continue
            number_before, mixed = self._number, symbol.removeprefix("\\") in _FRACTIONS
            word = self.atom()
            if number_before and word.startswith(number_before):
                said[-1] = word  # a number with its unit, which `quantities` reads
            elif word:
                said += ["and", word] if number_before and mixed and said else [word]
        return " ".join(said)

    def atom(self) -> str:
        """Read one symbol, group or command with its arguments, bounds and powers."""
        number_before, self._number = self._number, ""
        symbol = self._take()
        before, self._before = self._before, symbol
        if symbol == "{":
            said = self._group("}")
        elif symbol in ("(", "["):
            said = self._bracket(before)
        elif symbol in ("|", "\\|", "\\mid"):
            said = self._bar(symbol, before)
        elif symbol[0].isdecimal():
            said = self._fraction_or_number(symbol)
        elif symbol[0] == "\\" and symbol[1:2].isalpha():
            said = self._command(symbol[1:], number_before)
        elif symbol in lexicon.FUNCTIONS or symbol in ("lim", "mod"):
            said = lexicon.COMMANDS[symbol]
        elif symbol.isalnum():
            said = lexicon.GREEK.get(symbol, symbol)
        else:
            said = lexicon.SIGNS.get(symbol, "") if symbol != "\\$" else self._dollars()
            self._in_set = symbol == "\\{" or (self._in_set and symbol != "\\}")
            self._before = symbol if symbol in ("!", "'", ")", "]", "%", "\\}") else ""
        return self._scripts(symbol, said)

    def _peek(self) -> str:
        match = _TOKEN.match(self.text, self.at)
        return match[1] if match else ""

    def _take(self) -> str:
        match = _TOKEN.match(self.text, self.at)
        self.at = match.end() if match else len(self.text)
        return match[1] if match else " "

    def _group(self, closing: str) -> str:
        if self._depth >= _MAX_DEPTH:
            return ""
        self._depth += 1
        self._before = ""
        said = self.sequence(closing)
        self._depth -= 1
        self._before = closing
        return said

    def _argument(self) -> str:
        """Read the argument of a command: a group or one symbol."""
        before, self._before = self._before, ""
        symbol = self._take()
        self._depth += 1
        if symbol == "{":
            said = self._group("}")
        elif symbol[0] == "\\" and self._depth < _MAX_DEPTH:
            said = self._command(symbol[1:], "")
        elif symbol[0].isdecimal():
            said = number(symbol)
        else:
            said = lexicon.SIGNS.get(symbol, "")
            said = lexicon.GREEK.get(symbol, symbol) if symbol.isalnum() else said
        self._depth -= 1
        self._before, self._number = before, ""
        return said

    def _plain_argument(self) -> str:
        """Return an argument in braces as it is written, or its words if it contains LaTeX."""
        if group := _PLAIN_GROUP.match(self.text, self.at):
            self.at = group.end()
            return group[1]
        return self._argument() if self._peek() == "{" else ""

    def _bracket(self, before: str) -> str:
        said = self._group(")")
        self._before = ")"
        called = before.lstrip("\\") in _CALLED or before in tuple("fghEFGHOPT'")
        if called or (before.isalpha() and _ARGUMENTS.fullmatch(said)):
            return f"of {said}"
        return f"times {said}" if before and (before[0].isalnum() or before in ")}") else said

    def _bar(self, symbol: str, before: str) -> str:
        """|x| is an absolute value, P(A | B) a condition."""
        if symbol in self._bars:
            self._bars.remove(symbol)
            self._before = ")"
            return ""
        self._before = ""
        if self._in_set or before:
            return "such that" if self._in_set else "given"
        self._bars.append(symbol)
        return "the norm of" if symbol == "\\|" else "the absolute value of"

    def _fraction_or_number(self, symbol: str) -> str:
        part = _PART.match(self.text, self.at) if symbol.isdecimal() else None
        if part and _has_name(symbol, part[1]):
            self.at = part.end()
            return fraction(int(symbol), int(part[1]))
        self._number = symbol
        return number(symbol)

    def _dollars(self) -> str:
        """`\\$5` is left to `money`."""
        return "$" + self._take() if self._peek()[:1].isdecimal() else "dollars"

    def _scripts(self, symbol: str, said: str) -> str:
        """Append what `_` and `^` say behind a symbol: bounds, an index, a power."""
        low = high = ""
        while (sign := self._peek()) in ("^", "_", "'", "\\limits", "\\nolimits"):
            number_before, self._number = self._number, ""
            self._take()
            if sign == "_":
                low = self._argument()
            elif sign == "^":
                high = f"{high} {self._power(symbol)}".strip()
            elif sign == "'":
                said += " prime"
            if number_before and high == "degrees" and re.match(r"C|F", self._peek()):
                high += " Celsius" if self._take() == "C" else " Fahrenheit"
        name = symbol.lstrip("\\")
        low = low.replace(" is in ", " in ")
        if name in lexicon.BIG:
            return _bounded(name, said, low, high)
        if symbol in ("(", "[") and high:
            said += ","
        if low:
            link = " base" if name in ("log", "lg") else " over" * (name in lexicon.FUNCTIONS)
            said += f"{link} {low}"
        return f"{said} {high}" if high else said

    def _power(self, symbol: str) -> str:
        at = self.at
        said, name = self._argument(), symbol.lstrip("\\")
        written = self.text[at : self.at].strip(" {}")
        if name in lexicon.FUNCTIONS and written == "-1":
            return "inverse"
        if name in lexicon.BIG:
            return said
        return lexicon.RAISED.get(written) or f"to the power of {said}"

    def _command(self, name: str, number_before: str) -> str:
        if name in ("cdot", "times") and self._of_vectors:
            return "dot" if name == "cdot" else "cross"
        self._of_vectors = name in ("nabla", "vec")
        if name in lexicon.COMMANDS:
            if name not in lexicon.FUNCTIONS and name not in lexicon.GREEK.values():
                self._before = ""
            return lexicon.COMMANDS[name]
        if name in _FRACTIONS:
            return self._fraction()
        if name in _TEXTS:
            return self._text(number_before)
        if name in lexicon.ACCENTS:
            return f"{self._argument()} {lexicon.ACCENTS[name]}"
        match name:
            case "sqrt":
                return self._root()
            case "binom" | "dbinom" | "tbinom":
                return f"{self._argument()} choose {self._argument()}"
            case "vec" | "overrightarrow":
                return f"vector {self._argument()}"
            case "pmod":
                return f"mod {self._argument()}"
            case "begin":
                return self._environment()
        return self._layout(name)

    def _layout(self, name: str) -> str:
        if name in lexicon.DROPPED:
            self._plain_argument()
            return ""
        if name in lexicon.SILENT:
            if name in ("left", "right") and self._peek() == ".":
                self._take()
            self._before = "" if name != "right" else ")"
            return ""
        if name in ("quad", "qquad"):
            return ","
        return self._argument() if name in lexicon.STRUCTURE else name

    def _environment(self) -> str:
        name = self._plain_argument()
        ends = self.text.find(f"\\end{{{name}}}", self.at, self.at + 4000)
        if ends < 0 or not _ENVIRONMENTS.fullmatch(name):
            return ""
        if name == "array":
            self._plain_argument()
        rows = self._group("\\end")
        self._plain_argument()
        return f"the matrix {rows}" if "matrix" in name else rows

    def _fraction(self) -> str:
        start = self.at
        top = self._argument()
        middle = self.at
        bottom = self._argument()
        written = [self.text[start:middle].strip(" {}"), self.text[middle : self.at].strip(" {}")]
        if all(part.isdecimal() for part in written) and _has_name(*written):
            return fraction(int(written[0]), int(written[1]))
        return f"{top} over {bottom}"

    def _root(self) -> str:
        degree = ""
        if self._peek() == "[":
            self._take()
            degree = self._group(")")
        return f"the {_ROOTS.get(degree, f'{degree}-th')} root of {self._argument()}"

    def _text(self, number_before: str) -> str:
        said = self._plain_argument().strip()
        match = _UNIT.fullmatch(said)
        if not (number_before and match and unit(match[1])):
            return said
        if power := _UNIT_POWER.match(self.text, self.at):
            self.at = power.end()
        return f"{number_before} {said}{'^' + power[1] if power else ''}"


def _has_name(top: str, bottom: str) -> bool:
    """Whether a fraction has a name, as three quarters has."""
    return len(top) < 4 and len(bottom) < 4 and int(top) > 0 and 1 < int(bottom) <= 100


def _bounded(name: str, said: str, low: str, high: str) -> str:
    """Return a sum, an integral or a limit: the sum from i equals one to n of."""
    if name.startswith("lim"):
        return f"{said} as {low.replace(' to ', ' goes to ', 1)} of" if low else f"{said} of"
    if low and high:
        return f"{said} from {low} to {high} of"
    return f"{said}{f' over {low}' if low else ''}{f' to {high}' if high else ''} of"
