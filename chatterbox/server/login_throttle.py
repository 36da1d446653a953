"""Does somebody guess keys? Counts wrong ones by address and by how they begin, in a table that
does not grow.

Knows no key but wrong ones, and of those a digest.
"""

import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from chatterbox.errors import TooManyAttempts

MOST_FAILURES = 20
"""Wrong keys of one address, or of one beginning, within the window (FAULTS F72, F103)."""
WINDOW_S = 60.0
MOST_COUNTED = 4096
"""What was silent longest is forgotten."""
IPV6_PREFIX = 64
"""One customer's network: its addresses are one."""
SHOWN_CHARS = 45
"""The longest IPv6 address; a proxy may hand on anything."""
BEGINNING_BYTES = 8
"""Of a key: whoever knows some of it and guesses the rest may have many addresses."""


@dataclass(slots=True)
class _Count:
    since: float
    failures: int = 0


class LoginThrottle:
    """One for each server; belongs to the event loop."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def note_wrong(self, addresses: Iterable[str], key: bytes) -> None:
        """Somebody showed a wrong key. `addresses`: theirs, as far as it is known, and that of the
        proxy that says so: what a client may choose itself does not count alone.

        Raises TooManyAttempts where too many were wrong. Right keys are not asked for here: nobody
        who has one is locked out, however many wrong ones come from where they are.
        """
        now = self._now()
        beginning = hashlib.sha256(key[:BEGINNING_BYTES]).hexdigest()
        counts = [self._count(what, now) for what in {*map(_network, addresses), beginning}]
        full = [count.since for count in counts if count.failures >= MOST_FAILURES]
        if full:
            raise TooManyAttempts(
                "Too many wrong keys came from this address.",
                retry_after_s=max(full) + WINDOW_S - now,
            )
        for count in counts:
            count.failures += 1

    def _count(self, what: str, now: float) -> _Count:
        count = self._counts.setdefault(what, _Count(now))
        self._counts.move_to_end(what)
        if len(self._counts) > MOST_COUNTED:
            self._counts.popitem(last=False)
        if now - count.since >= WINDOW_S:
            count.since, count.failures = now, 0
        return count


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address[:SHOWN_CHARS]
    if ip.version == 4:
        return address
    return str(ipaddress.ip_network((ip.packed[: IPV6_PREFIX // 8] + bytes(8), IPV6_PREFIX)))
