"""A formula in LaTeX becomes words; what has none is read symbol by symbol. Linear time."""

import re

from chatterbox.text import lexicon
from chatterbox.text.lexicon import unit, word_set
from chatterbox.text.numbers import NUMBER, fraction, number

_TOKEN = re.compile(
    rf"\s*(\\[A-Za-z]+|\\.|{NUMBER}|(?:{'|'.join(sorted(lexicon.FUNCTIONS))}|lim|mod)(?![A-Za-z])"
    r"|[a-z]{4,}|:=|[<>!]=|[-=]>|\S)",
    re.DOTALL,
)
_FRACTIONS = word_set("frac dfrac tfrac cfrac")
_TEXTS = word_set("text textbf textit textrm mathrm mathit mathsf operatorname mbox hbox ce mathbf")
_ENVIRONMENTS = re.compile(
    r"(?:[pbBvV]?(?:small)?matrix|array|d?cases|equation|(?:fl)?align(?:ed|at)?|gather(?:ed)?|split"
    r"|multline|eqnarray)\*?"
)
_PLAIN_TEXT = re.compile(r"[^\\{}^_$]*")
_SPACED_FIGURE = re.compile(r"(?<=\d)(?:\{,\}|\\,)(?=\d{3}(?!\d))")
_UNIT = re.compile(r"([A-Za-zμΩ°%]{1,6})(?:/[A-Za-z]{1,4})?")
_CALLED = lexicon.FUNCTIONS | word_set("mathcal mathbb mathrm mathbf operatorname")
_ARGUMENTS = re.compile(r"[a-z](?: , [a-z])*|[a-z] given .*")
_MAX_DEPTH = 30
"""Braces within braces that are told apart; Python's own stack ends far below."""


def formula(body: str) -> str:
    """A formula without its dollars, in words."""
    return _Reader(_SPACED_FIGURE.sub(",", body)).sequence(None)


def command(text: str, at: int) -> tuple[str, int]:
    """The command at `at` with what it applies to, in words, and where it ends."""
    reader = _Reader(text, at)
    return reader.atom(), reader.at


class _Reader:
    """Reads LaTeX from a place on, one symbol after the other."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text = text
        self.at = at
        self._depth = 0
        self._bars: list[str] = []
        self._in_set = False
        self._before = ""
        """The symbol before, "" after an operator or at the start: decides what `(` and `|` say."""
        self._of_vectors = False
        self._number = ""
        """The figure just read, as it was written: a unit may follow."""

    def sequence(self, closing: str | None) -> str:
        """All up to `closing`, which is taken too."""
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
                said[-1] = word  # a unit: the figure is left to the step that knows units
            elif word:
                said += ["and", word] if number_before and mixed and said else [word]
        return " ".join(said)

    def atom(self) -> str:
        """One symbol, group or command with its arguments, bounds and powers."""
        figure, self._number = self._number, ""
        symbol = self._take()
        before, self._before = self._before, symbol
        if symbol == "{":
            said = self._deeper("}")
        elif symbol in ("(", "["):
            said = self._bracket(before)
        elif symbol in ("|", "\\|", "\\mid"):
            said = self._bar(symbol, before)
        elif symbol[0].isdecimal():
            return self._scripts(symbol, self._figure(symbol))
        elif symbol[0] == "\\" and symbol[1:2].isalpha():
            said = self._command(symbol[1:], figure)
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
        if not match:
            self.at = len(self.text)
            return " "
        self.at = match.end()
        return match[1]

    def _deeper(self, closing: str) -> str:
        if self._depth >= _MAX_DEPTH:
            return ""
        self._depth += 1
        self._before = ""
        said = self.sequence(closing)
        self._depth -= 1
        self._before = closing
        return said

    def _argument(self) -> str:
        """What a command applies to: a group or one symbol."""
        before, self._before = self._before, ""
        symbol = self._take()
        self._depth += 1
        if symbol == "{":
            said = self._deeper("}")
        elif symbol[0] == "\\" and self._depth < _MAX_DEPTH:
            said = self._command(symbol[1:], "")
        else:
            said = _spoken(symbol)
        self._depth -= 1
        self._before, self._number = before, ""
        return said

    def _raw(self) -> str:
        """An argument in braces as it is written, where it holds no formula of its own."""
        if self._peek() != "{":
            return ""
        start = _TOKEN.match(self.text, self.at)
        match = _PLAIN_TEXT.match(self.text, start.end()) if start else None
        if match and self.text[match.end() : match.end() + 1] == "}":
            self.at = match.end() + 1
            return match[0]
        return self._argument()

    def _bracket(self, before: str) -> str:
        said = self._deeper(")")
        self._before = ")"
        if before.lstrip("\\") in _CALLED or before in tuple("fghEFGHOPT'"):
            return f"of {said}"
        if before.isalpha() and _ARGUMENTS.fullmatch(said):
            return f"of {said}"
        return f"times {said}" if before and (before[0].isalnum() or before in ")}") else said

    def _bar(self, symbol: str, before: str) -> str:
        """|x| is a value without its sign, P(A | B) a condition."""
        if symbol in self._bars:
            self._bars.remove(symbol)
            self._before = ")"
            return ""
        self._before = ""
        if self._in_set:
            return "such that"
        if before:
            return "given"
        self._bars.append(symbol)
        return "the norm of" if symbol == "\\|" else "the absolute value of"

    def _figure(self, symbol: str) -> str:
        if symbol.isdecimal() and self._peek() == "/":
            at = self.at
            self._take()
            bottom = self._peek()
            if bottom.isdecimal() and _is_simple(symbol, bottom):
                self._take()
                return fraction(int(symbol), int(bottom))
            self.at = at
        self._number = symbol
        return number(symbol)

    def _dollars(self) -> str:
        """`\\$5`: left to the step that knows sums of money."""
        return "$" + self._take() if self._peek()[:1].isdecimal() else "dollars"

    def _scripts(self, symbol: str, said: str) -> str:
        """`_` and `^` after a symbol: bounds, an index, a power."""
        low = high = ""
        while (sign := self._peek()) in ("^", "_", "'", "\\limits", "\\nolimits"):
            figure, self._number = self._number, ""
            self._take()
            if sign == "_":
                low = self._argument()
            elif sign == "^":
                high = f"{high} {self._power(symbol)}".strip()
            elif sign == "'":
                said += " prime"
            if figure and high == "degrees" and re.match(r"C|F", self._peek()):
                high += " Celsius" if self._take() == "C" else " Fahrenheit"
        name = symbol.lstrip("\\")
        low = low.replace(" is in ", " in ")
        if name in lexicon.BIG:
            return _bounded(name, said, low, high)
        if symbol in ("(", "[") and high:
            said += ","
        if low:
            said += {"log": " base", "lg": " base"}.get(
                name, " over" * (name in lexicon.FUNCTIONS)
            ) + f" {low}"
        return f"{said} {high}" if high else said

    def _power(self, symbol: str) -> str:
        at = self.at
        said = self._argument()
        written = self.text[at : self.at].strip(" {}")
        if symbol.lstrip("\\") in lexicon.FUNCTIONS and written == "-1":
            return "inverse"
        if symbol.lstrip("\\") in lexicon.BIG:
            return said
        return lexicon.RAISED.get(written) or f"to the power of {said}"

    def _command(self, name: str, figure: str) -> str:
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
            return self._text(figure)
        if name == "sqrt":
            return self._root()
        if name in ("binom", "dbinom", "tbinom"):
            return f"{self._argument()} choose {self._argument()}"
        if name in lexicon.ACCENTS:
            return f"{self._argument()} {lexicon.ACCENTS[name]}"
        if name in ("vec", "overrightarrow"):
            return f"vector {self._argument()}"
        return self._layout(name)

    def _layout(self, name: str) -> str:
        if name in lexicon.DROPPED:
            self._raw()
            return ""
        if name == "pmod":
            return f"mod {self._argument()}"
        if name == "begin":
            return self._environment()
        if name in lexicon.SILENT:
            if name in ("left", "right") and self._peek() == ".":
                self._take()
            self._before = "" if name != "right" else ")"
            return ""
        if name in ("quad", "qquad"):
            return ","
        return self._argument() if name in lexicon.STRUCTURE else name

    def _environment(self) -> str:
        name = self._raw()
        ends = self.text.find(f"\\end{{{name}}}", self.at, self.at + 4000)
        if ends < 0 or not _ENVIRONMENTS.fullmatch(name):
            return ""
        if name == "array":
            self._raw()
        rows = self._deeper("\\end")
        self._raw()
        return f"the matrix {rows}" if "matrix" in name else rows

    def _fraction(self) -> str:
        start = self.at
        top = self._argument()
        middle = self.at
        bottom = self._argument()
        written = [self.text[start:middle].strip(" {}"), self.text[middle : self.at].strip(" {}")]
        if all(part.isdecimal() for part in written) and _is_simple(*written):
            return fraction(int(written[0]), int(written[1]))
        return f"{top} over {bottom}"

    def _root(self) -> str:
        degree = ""
        if self._peek() == "[":
            self._take()
            degree = self._deeper(")")
        root = {"": "square", "two": "square", "three": "cube"}.get(degree)
        root = root or {"four": "fourth", "five": "fifth"}.get(degree) or f"{degree}-th"
        return f"the {root} root of {self._argument()}"

    def _text(self, figure: str) -> str:
        said = self._raw().strip()
        match = _UNIT.fullmatch(said)
        if figure and match and unit(match[1]):
            power = re.compile(r"\s*\^\{?(-?\d)\}?").match(self.text, self.at)
            if power:
                self.at = power.end()
            return f"{figure} {said}{'^' + power[1] if power else ''}"
        return said


def _spoken(symbol: str) -> str:
    if symbol[0].isdecimal():
        return number(symbol)
    return lexicon.GREEK.get(symbol, symbol) if symbol.isalnum() else lexicon.SIGNS.get(symbol, "")


def _is_simple(top: str, bottom: str) -> bool:
    """Whether a fraction has a name: three quarters."""
    return len(top) < 4 and len(bottom) < 4 and int(top) > 0 and 1 < int(bottom) <= 100


def _bounded(name: str, said: str, low: str, high: str) -> str:
    """the sum from i equals one to n of"""
    if name.startswith("lim"):
        return f"{said} as {low.replace(' to ', ' goes to ', 1)} of" if low else f"{said} of"
    if low and high:
        return f"{said} from {low} to {high} of"
    return f"{said}{f' over {low}' if low else ''}{f' to {high}' if high else ''} of"
