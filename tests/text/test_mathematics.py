"""Mathematics is read in words; prose with the same signs is left alone."""

import pytest

from chatterbox.text import normalise

LATEX = [
    ("The sum is $40$.", "The sum is forty."),
    (r"Add $\frac{1}{4}$ tsp and $3$ kg", "Add one quarter of a teaspoon and three kilograms."),
    (r"1\frac{1}{2} tbsp oil", "One and a half tablespoons oil."),
    (r"$F = ma$", "F equals m a."),
    (r"Take $a_1 + 3b_2 \geq 10$ here.", "Take a one plus three b two is at least ten here."),
    (r"$\frac{2}{5}$ and \frac{x-1}{y}", "two fifths and x minus one over y."),
    (r"$$\sum_{k=0}^{n} k^2$$", "the sum from k equals zero to n of k squared."),
    (r"\[ \int_a^b f(x)\,dx \]", "the integral from a to b of f of x d x."),
    (r"\( \lim_{h \to 0} g(h) \)", "the limit as h goes to zero of g of h."),
    (r"$\sqrt{2}$, $\sqrt[3]{8}$", "the square root of two, the cube root of eight."),
    (r"$|y| < 3$, $P(A|B)$", "the absolute value of y is less than three, P of A given B."),
    (r"$\{n \mid n > 1\}$", "the set n such that n is greater than one."),
    (r"$A \cap B = \emptyset$", "A intersection B equals the empty set."),
    (r"$\theta = 45^\circ$", "theta equals forty-five degrees."),
    (r"$e^{-t/2}$", "e to the power of minus t over two."),
    (r"$\log_{10} x$, $\sin(2x)$", "log base ten x, sine of two x."),
    (r"$\begin{bmatrix} 1 & 0 \\ 0 & 1 \end{bmatrix}$", "the matrix one zero, zero one."),
    (r"$v = 3 \text{ m/s}$", "v equals three meters per second."),
    (r"4 \times 5 \leq 20", "Four times five is at most twenty."),
    (r"$\foo + \alpha'$", "foo plus alpha prime."),
    (r"the $n$th term, the $y$-axis", "the n th term, the y axis."),
    (r"$\frac{1", "one over."),
]
PLAIN = [
    ("|x - 1| < 2", "the absolute value of x minus one is less than two."),
    ("2 = |x - 3|", "Two equals the absolute value of x minus three."),
    (
        "|x| + |y| = 1, |1|7|",
        "the absolute value of x plus the absolute value of y equals one, one, seven.",
    ),
    ("3x + 1 = 10", "Three x plus one equals ten."),
    ("7y^2, 4x^3, z**2", "Seven y squared, four x cubed, z squared."),
    ("2*x - 5 and 4*(1+1)", "Two times x minus five and four times, one plus one."),
    ("9-2=7", "Nine minus two equals seven."),
    ("What is 12-7?", "What is twelve minus seven?"),
    ("t = 3 m/s, K⁺, Mg²⁺, F⁻", "t equals three meters per second, K plus, Mg two plus, F minus."),
    ("≥ 18 years, n ≥ 3", "at least eighteen years, n is at least three."),
    ("10^-9 and y⁻²", "Ten to the power of minus nine and y to the power of minus two."),
    ("3^k, a^{m+1}", "Three to the power of k, a to the power of m plus one."),
    ("1.6×10^-19", "One point six times ten to the power of minus nineteen."),
    ("give or take +/- 3%", "give or take plus or minus three percent."),
    ("$90 - $25 = $65", "Ninety dollars minus twenty-five dollars equals sixty-five dollars."),
    ("X ∪ Y, a ∈ S, ∛27", "X union Y, a is in S, the cube root of twenty-seven."),
    (
        "8/2=4 but 1/4 + 1/4 = 1/2",
        "Eight divided by two equals four but one quarter plus one quarter equals one half.",
    ),
    ("g(x) = sqrt(9)", "g of x equals the square root of nine."),
    ("y += 2; i++", "y plus equals two; i plus plus."),
    ("α-particles, Δv, 2π", "alpha-particles, delta v, two pi."),
    ("λόγος", "λόγος."),
    (
        "∑ₖ₌₁ⁿ k, P(A ∩ B), g'(t)",
        "the sum from k equals one to n of k, P of A intersection B, g prime of t.",
    ),
    ("(n+1)/2, V = 4/3", "n plus one, over two, V equals four thirds."),
    (
        "3(1+4)=15, 1/x, dz/dt",
        "Three times, one plus four, equals fifteen, one over x, dz over dt.",
    ),
    ("How much is 8/4?", "How much is eight divided by four?"),
    ("3! = 6, a = b/c", "Three factorial equals six, a equals b over c."),
    ("$y = $x * 2;", "y equals x times two."),
]
NO_MATHEMATICS = [
    ("They paid $40$ for it.", "They paid forty dollars for it."),
    ("The bag cost me $25$.", "The bag cost me twenty-five dollars."),
    (r"grep '\(cat\|dog\)'", "grep, cat, dog."),
    (r"\[a-z\] and \(.*\)", "a-z and."),
    ("It costs $7 and $8.", "It costs seven dollars and eight dollars."),
    ("It was $5, not 6$.", "It was five dollars, not six dollars."),
    (
        "$30-$40 or US$9 (A$12)",
        "Thirty to forty dollars or nine dollars, twelve Australian dollars.",
    ),
    (r"C:\delta\times", "C colon backslash delta backslash times."),
    ("my $a = $b->{c}; echo $x-$y", "my a equals b to c; echo x-y."),
    (r"re.match(r'\(\d+\)', s)", r"re dot match, r, backslash d plus, s."),
    ("He said - I was 5 - no.", "He said — I was five — no."),
    ("**bold** and *5* stars", "bold and five stars."),
    ("pages 3-5, a 5-year-old", "pages three to five, a five-year-old."),
]
TABLE = LATEX + PLAIN + NO_MATHEMATICS


@pytest.mark.parametrize(("written", "said"), TABLE, ids=[row[0][:32] for row in TABLE])
def test_reads_as(written: str, said: str) -> None:
    assert normalise(written) == said


@pytest.mark.parametrize("unit", ["$", r"\(", r"\[", "$a ", "\\frac{", "x^", "1=1-", r"\begin{a}"])
def test_endless_notation_is_read_to_its_end(unit: str) -> None:
    normalise("a " + unit * (20_000 // len(unit)))
