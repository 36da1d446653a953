"""API keys: who shows a known one is let in; who guesses too often has to wait.

Pure ASGI, around every route and socket. Every path needs a key, whether it exists or not, unless
it is public (`is_public`). Keys travel in headers, never in addresses, which are logged.
"""

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from chatterbox.errors import ChatterboxError, InvalidApiKey, TooManyAttempts
from chatterbox.server.page.page import wants_page
from chatterbox.server.request_log import refuse

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


SCHEMES = (b"bearer", b"token")
"""Of `Authorization`. Others are a proxy's business and pass unread."""
KEY_HEADERS = (b"xi-api-key", b"kyutai-api-key")
"""ElevenLabs' clients and Kyutai's."""
SUBPROTOCOL = b"openai-insecure-api-key."
"""What pages of OpenAI's put before a key: a browser's sockets can send no header."""
PROBES = ("/health/live", "/health/ready", "/healthz")
PAGE_FILES = "/page/"
PAGES = ("/", "/docs")
"""For browsers, which can send no key with an address: the page asks for it."""
PEER = "chatterbox.peer"
"""In a scope: who is at the other end of the connection, whatever a proxy's headers say."""

current_key: ContextVar[int | None] = ContextVar("current_key", default=None)
"""Which key the current request or socket came in with: its number, never the key."""


class Keyring:
    """The keys, as hashes."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._hashes = tuple(_hash(key.encode("utf-8")) for key in dict.fromkeys(keys))

    def __len__(self) -> int:
        return len(self._hashes)

    def numbers(self, keys: Sequence[str]) -> frozenset[int | None]:
        """Of these keys."""
        own = {self.find(key.encode("utf-8")) for key in keys}
        return frozenset(own)

    def find(self, offered: bytes) -> int | None:
        """The number of this key. Every key is compared, in constant time, found or not."""
        hashed = _hash(offered)
        found = None
        for number, known in enumerate(self._hashes):
            if hmac.compare_digest(hashed, known):
                found = number
        return found


def _hash(key: bytes) -> bytes:
    """Plain SHA-256: a key is drawn, not chosen, so there is no dictionary to slow down."""
    return hashlib.sha256(key).digest()


def offered_keys(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """Whatever a client presents as its key. Never from the address: those are logged."""
    found = set()
    for name, value in headers:
        match name.lower():
            case b"authorization":
                scheme, _, key = value.partition(b" ")
                if scheme.lower() in SCHEMES:
                    found.add(key)
            case b"sec-websocket-protocol":
                words = [word.strip() for word in value.split(b",")]
                found |= {w.removeprefix(SUBPROTOCOL) for w in words if w.startswith(SUBPROTOCOL)}
            case other if other in KEY_HEADERS:
                found.add(value)
    return found


def is_public(scope: Scope) -> bool:
    """Probes and the page's own files, which hold nothing of this server."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    path: str = scope["path"]
    if path in PAGES:
        return wants_page(Headers(scope=scope).getlist("accept"))
    return path in PROBES or path.startswith(PAGE_FILES)


class Auth:
    """The layer. One for each server."""

    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring
        self._attempts = LoginThrottle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._keyring or is_public(scope):
            await self._app(scope, receive, send)
            return
        try:
            key = self._key(scope)
        except ChatterboxError as error:
            await refuse(error, scope, receive, send)
            return
        token = current_key.set(key)
        try:
            await self._app(scope, receive, send)
        finally:
            current_key.reset(token)

    def _key(self, scope: Scope) -> int:
        """The number of the client's key. Raises InvalidApiKey and TooManyAttempts."""
        offered = offered_keys(scope["headers"])
        if not offered:
            raise InvalidApiKey("A key is needed: send it as 'Authorization: Bearer KEY'.")
        key = min(offered)
        # Two different ones are nobody's: a layer before us may have read the other.
        found = self._keyring.find(key) if len(offered) == 1 else None
        if found is None:
            addresses = (scope.get(of) or ("",) for of in ("client", PEER))
            self._attempts.note_wrong((address[0] for address in addresses), key)
            raise InvalidApiKey("This key is not known here.")
        return found
