"""Where do requests' ids and seeds come from? The interpreter's own generator.

Nobody is hurt who guesses them. Asking the system instead gives the interpreter's lock away, and
the event loop gets it back behind every thread that computes: milliseconds, where a refusal has 20.
"""

import random

ID_BITS = 64
SEED_LIMIT = 2**32
"""Seeds are below it: what every client language can hold and a header can show."""


def new_request_id() -> str:
    """For a request that brings none."""
    return f"req-{random.getrandbits(ID_BITS):0{ID_BITS // 4}x}"


def random_seed() -> int:
    """For a request that names none."""
    return random.randrange(SEED_LIMIT)
