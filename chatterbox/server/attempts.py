"""Does somebody guess keys? Counts wrong ones by address, in a table that does not grow.

Knows no key, only its number.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from chatterbox.errors import TooManyAttempts

MOST_FAILURES = 20
"""Wrong keys of one address within the window; the next ones are not even compared (FAULTS F72)."""
WINDOW_S = 60.0
MOST_ADDRESSES = 4096
"""The address that was silent longest is forgotten."""
IPV6_PREFIX = 64
"""One customer's network: its addresses are one."""
SHOWN_CHARS = 45
"""The longest IPv6 address; a proxy may hand on anything."""


@dataclass(slots=True)
class _Address:
    since: float
    failures: int = 0
    known: set[int] = field(default_factory=set)  # numbers of the keys that it showed rightly


class Attempts:
    """One for each server; belongs to the event loop."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._addresses: OrderedDict[str, _Address] = OrderedDict()

    def __len__(self) -> int:
        return len(self._addresses)

    def note(self, address: str, key: int | None) -> None:
        """Somebody at `address` showed the key of this number; None: a wrong one.

        Raises TooManyAttempts where too many were wrong. A right key is then refused too, or
        guessing would not be slowed down; but not where that address had shown it before, or
        guessing would lock out whoever shares its address.
        """
        now = self._now()
        entry = self._entry(_network(address), now)
        if entry.failures >= MOST_FAILURES and key not in entry.known:
            raise TooManyAttempts(
                "Too many wrong keys came from this address.",
                retry_after_s=entry.since + WINDOW_S - now,
            )
        if key is None:
            entry.failures += 1
        else:
            entry.known.add(key)

    def _entry(self, address: str, now: float) -> _Address:
        entry = self._addresses.setdefault(address, _Address(now))
        self._addresses.move_to_end(address)
        if len(self._addresses) > MOST_ADDRESSES:
            self._addresses.popitem(last=False)
        if now - entry.since >= WINDOW_S:
            entry.since, entry.failures = now, 0
        return entry


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address[:SHOWN_CHARS]
    if ip.version == 4:
        return address
    return str(ipaddress.ip_network((ip.packed[: IPV6_PREFIX // 8] + bytes(8), IPV6_PREFIX)))
