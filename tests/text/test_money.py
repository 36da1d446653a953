"""Sums of money, by kind."""

import pytest

from chatterbox.text import normalise

SUMS = [
    ("£3/1M words", "Three pounds per one million words."),
    ("only 45c, 75c each", "only forty-five cents, seventy-five cents each."),
    ("Gate 12c opens", "Gate twelve c opens."),
    (
        "$10,000s of loans, $1,000,000s",
        "Tens of thousands of dollars of loans, millions of dollars.",
    ),
    ("$30k-$40k, $2m–$3m", "Thirty to forty thousand dollars, two to three million dollars."),
    ("$700k-$2m", "Seven hundred thousand to two million dollars."),
    (
        "$9.99-$14.99",
        "Nine dollars and ninety-nine cents to fourteen dollars and ninety-nine cents.",
    ),
    ("$6.00-$8.00, £2.50–£4", "Six to eight dollars, two pounds and fifty pence to four pounds."),
    ("$1 = €0.85", "One dollar equals eighty-five cents."),
    (
        "₺75 ₫20000 ฿90 ₦800 ₱45 ₪12",
        "Seventy-five Turkish lira twenty thousand dong ninety baht "
        "eight hundred naira forty-five pesos twelve shekels.",
    ),
    (
        "R$ 30, HK$90, S$15, NZ$8",
        "thirty reais, ninety Hong Kong dollars, fifteen Singapore "
        "dollars, eight New Zealand dollars.",
    ),
    (
        "EUR 70, CHF 35, GBP 9.20",
        "seventy euros, thirty-five Swiss francs, nine pounds and twenty pence.",
    ),
    (
        "Rs. 300, Rs 45, ₹8 lakh, ₹3.5 crore",
        "Three hundred rupees, forty-five rupees, eight lakh "
        "rupees, three point five crore rupees.",
    ),
    ("₹2,50,000", "Two hundred and fifty thousand rupees."),
    (
        "$3T, $80USD, $7mil, $9bil",
        "Three trillion dollars, eighty US dollars, seven million dollars, nine billion dollars.",
    ),
    (
        "a $50 bill, a $3 million home, my $200 bike",
        "a fifty dollar bill, a three million dollar home, my two hundred dollar bike.",
    ),
    ("a $2.5-million deal, $10 bills", "a two point five million dollar deal, ten dollar bills."),
    (
        "the $50 was hers, a sum of $9 more",
        "the fifty dollars was hers, a sum of nine dollars more.",
    ),
    (
        "$8 / month, $15/hr, $9-an-hour",
        "Eight dollars per month, fifteen dollars per hour, nine dollar-an-hour.",
    ),
    (
        "$3/seat/month, a $2 million-dollar idea",
        "Three dollars per seat per month, a two million dollar idea.",
    ),
    (
        "20€-30€, a $3m-a-year job",
        "Twenty to thirty euros, a three million dollar-a-year job.",
    ),
    ("$30 + $12 = $42", "Thirty dollars plus twelve dollars equals forty-two dollars."),
    (
        "€2,75 and 3,20 € and 1.500,75 EUR",
        "Two euros and seventy-five cents and three euros and "
        "twenty cents and one thousand five hundred euros and seventy-five cents.",
    ),
    ("profit: –$4m, -€3", "profit: minus four million dollars, minus three euros."),
    ("in $ terms, the ₹", "in dollar terms, the rupee."),
    ("TRY 5 times; PHP 8", "TRY five times; PHP eight."),
    ("$5 T-shirts and 5€ 3 times", "Five dollars T-shirts and five euros three times."),
    ("80p a bag", "Eighty pence a bag."),
]


@pytest.mark.parametrize(("written", "said"), SUMS, ids=[row[0][:32] for row in SUMS])
def test_reads_as(written: str, said: str) -> None:
    assert normalise(written) == said
