"""How many codes may a text take? A cap that stops a runaway, far above any honest reading.

Knows no model: characters in, codes out.
"""

from chatterbox.model.contract import CODE_RATE_HZ

CHARS_PER_S = 15.0
"""Usual English speaking rate, as other servers of this model assume it."""
LEAD_CODES = 10
RUNAWAY_FACTOR = 4
RUNAWAY_MARGIN_CODES = 64


def expected_codes(chars: int) -> float:
    """Codes that a text of `chars` characters usually takes."""
    return chars / CHARS_PER_S * CODE_RATE_HZ + LEAD_CODES


def code_cap(chars: int, ceiling: int) -> int:
    """The most codes a text of `chars` characters may take, never above `ceiling`."""
    return min(ceiling, int(RUNAWAY_FACTOR * expected_codes(chars)) + RUNAWAY_MARGIN_CODES)
