"""Tables of mathematical symbols: the LaTeX commands and the characters, and what is said."""

from chatterbox.text.lexicon import listed, table

_SYMBOLS = table(
    "times ⨯ ✕ ⨉: times, cdot: times, div: divided by, pm: plus or minus, mp ∓: minus or plus, "
    "ast ∗: star, star ⋆: star, circ ∘: composed with, bullet: dot, oplus ⊕: plus, otimes ⊗: "
    "tensor, odot ⊙: dot, setminus smallsetminus ∖: minus, wedge land ∧: and, vee lor ∨: or, "
    "neg lnot ¬: not, ne neq: is not equal to, leq le leqslant ⩽: is at most, geq ge geqslant "
    "⩾: is at least, ll ≪: is much less than, gg ≫: is much greater than, lt: is less than, gt: "
    "is greater than, approx: is approximately, simeq cong ≅ ≃: is congruent to, equiv ≡: is "
    "equivalent to, sim ∼: is similar to, propto ∝: is proportional to, coloneqq ≔: is defined "
    "as, in ∈: is in, notin ∉: is not in, ni ∋: contains, subset ⊂: is a subset of, subseteq ⊆: "
    "is a subset of, supset ⊃: is a superset of, supseteq ⊇: is a superset of, cup ∪: union, "
    "cap ∩: intersection, bigcup ⋃: the union, bigcap ⋂: the intersection, emptyset varnothing "
    "∅: the empty set, forall ∀: for all, exists ∃: there exists, nexists ∄: there is no, "
    "therefore ∴: therefore, because ∵: because, to rightarrow longrightarrow: to, mapsto "
    "longmapsto ↦: maps to, leftarrow gets: from, leftrightarrow ⟷: to and from, Rightarrow "
    "implies Longrightarrow ⇒ ⟹: implies, Leftarrow impliedby ⟸: is implied by, Leftrightarrow "
    "iff Longleftrightarrow ⇔ ⟺: if and only if, uparrow: up, downarrow: down, "
    "rightleftharpoons ⇌ ⇄: is in equilibrium with, infty: infinity, partial ∂: partial, nabla "
    "∇: nabla, sum ∑: the sum, prod ∏: the product, int ∫: the integral, iint ∬: the double "
    "integral, iiint ∭: the triple integral, oint ∮: the closed integral, lim: the limit, "
    "limsup: the upper limit, liminf: the lower limit, perp bot ⊥: is perpendicular to, "
    "parallel ∥: is parallel to, angle measuredangle ∠: angle, triangle △: triangle, degree: "
    "degrees, prime: prime, dagger: dagger, hbar ℏ: h bar, ell: l, Re: the real part of, Im: "
    "the imaginary part of, aleph ℵ: aleph, ldots dots cdots dotsc dotsb vdots ddots ⋯: and so "
    "on, mid vert: given, colon: to, top: top, lfloor: the floor of, lceil: the ceiling of, "
    "vdash ⊢: proves, models ⊨: models, Box square blacksquare qed ∎: end of proof, checkmark: "
    "check, bmod mod: mod, choose: choose, over: over, sin: sine, cos: cosine, tan: tangent, "
    "cot: cotangent, sec: secant, csc: cosecant, arcsin: arc sine, arccos: arc cosine, arctan: "
    "arc tangent, sinh: hyperbolic sine, cosh: hyperbolic cosine, tanh: hyperbolic tangent, "
    "log: log, ln: natural log, lg: log, exp: exponential, max: max, min: min, sup: supremum, "
    "inf: infimum, arg: arg, det: determinant, dim: dimension, ker: kernel, gcd: greatest "
    "common divisor, Pr: probability, argmax: arg max, argmin: arg min"
)
GREEK = table(
    "Α α: alpha, Β β ϐ: beta, Γ γ: gamma, Δ δ ∆: delta, Ε ε ϵ: epsilon, Ζ ζ: zeta, Η η: eta, Θ "
    "θ ϑ: theta, Ι ι: iota, Κ κ ϰ: kappa, Λ λ: lambda, Μ μ: mu, Ν ν: nu, Ξ ξ: xi, Ο ο: omicron, "
    "Π π ϖ: pi, Ρ ρ ϱ: rho, Σ σ ς: sigma, Τ τ: tau, Υ υ: upsilon, Φ φ ϕ: phi, Χ χ: chi, Ψ ψ: "
    "psi, Ω ω: omega"
)
"""Letters that stand alone; Greek words stay as they are."""
COMMANDS = {name: said for name, said in _SYMBOLS.items() if name.isascii()} | {
    name: letter
    for letter in set(GREEK.values())
    for name in (letter, letter.capitalize(), "var" + letter)
}
"""By LaTeX command, without its backslash."""
CHARACTERS = {char: said for char, said in _SYMBOLS.items() if not char.isascii()} | {
    "♭": "flat",
    "♯": "sharp",
    "♮": "natural",
    "∛": "the cube root of",
    "∜": "the fourth root of",
}
"""By character, for those that no other step reads."""

BIG = listed("sum prod int iint iiint oint lim limsup liminf bigcup bigcap")
"""Have bounds, below and above."""
FUNCTIONS = listed(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp max min sup inf arg "
    "det dim ker gcd Pr argmax argmin"
)
"""Are said with `of` before a bracket."""
SIGNS = {
    "+": "plus",
    "-": "minus",
    "*": "times",
    "/": "over",
    "=": "equals",
    "<": "is less than",
    ">": "is greater than",
    "%": "percent",
    "−": "minus",
    "–": "minus",
    "×": "times",
    "·": "times",
    "⋅": "times",
    "÷": "divided by",
    "±": "plus or minus",
    "≤": "is at most",
    "≥": "is at least",
    "≠": "is not equal to",
    "≈": "is approximately",
    "∞": "infinity",
    "→": "to",
    "°": "degrees",
    "√": "the square root of",
    "'": "prime",
    "′": "prime",
    "!": "factorial",
    ":=": "is defined as",
    "<=": "is at most",
    ">=": "is at least",
    "!=": "is not equal to",
    "->": "to",
    "=>": "implies",
    ",": ",",
    ";": ",",
    ":": ",",
    ".": ".",
    "?": "?",
    "\\%": "percent",
    "\\#": "number",
    "\\&": "and",
    "\\{": "the set",
    "\\\\": ",",
    "\\quad": ",",
    "\\qquad": ",",
}
"""By character, inside a formula."""
RAISED = {
    "2": "squared",
    "3": "cubed",
    "\\circ": "degrees",
    "°": "degrees",
    "\\prime": "prime",
    "T": "transpose",
    "\\top": "transpose",
    "*": "star",
    "+": "plus",
    "-": "minus",
    "\\dagger": "dagger",
    "th": "th",
}
"""By what is written as an exponent; any other is a power."""
ACCENTS = {"hat": "hat", "bar": "bar", "overline": "bar", "dot": "dot", "tilde": "tilde"} | {
    "widehat": "hat",
    "ddot": "double dot",
    "widetilde": "tilde",
}
STRUCTURE = listed(
    "frac dfrac tfrac cfrac sqrt binom dbinom tbinom text textbf textit textrm mathrm mathbf "
    "mathit mathsf mathbb mathcal mathfrak mathscr boldsymbol bm operatorname mbox hbox ce boxed "
    "vec hat widehat bar overline dot ddot tilde widetilde underline underbrace overbrace left "
    "right big Big bigl bigr Bigl Bigr bigg Bigg displaystyle textstyle limits nolimits quad qquad "
    "begin end label tag pmod xrightarrow overset underset stackrel textcolor color cancel phantom "
    "hspace not overrightarrow"
)
"""Commands that arrange others: read with what they apply to."""
DROPPED = listed("end label tag hspace vspace color textcolor phantom")
"""Commands that say nothing, nor does what they apply to."""
SILENT = listed(
    "left right big Big bigl bigr Bigl Bigr bigg Bigg displaystyle textstyle limits nolimits "
    "nonumber hline rfloor rceil langle rangle lvert rvert"
)
"""Commands that only set type."""
