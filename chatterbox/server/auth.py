"""Who may call: those with a key, under a name of ours, and no pages of other sites.

Pure ASGI, around every route and socket. Every path needs a key, whether it exists or not, unless
it is public (`is_public`). Keys travel in headers, never in addresses, which are logged.

A page that a user visits can make their browser call a server on their machine, under a name of its
own (DNS rebinding) or from its own site; programs send neither sign. The pages named in
`cors_origins` may call and read.
"""

import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatterbox.config import ServerConfig
from chatterbox.errors import (
    ChatterboxError,
    HostForbidden,
    InvalidApiKey,
    OriginForbidden,
    TooManyAttempts,
)
from chatterbox.server.request_log import PEER, PROBES, RESOURCE_POLICY, refuse

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


class LoginThrottle:
    """One for each server; belongs to the event loop."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._counts: dict[str, tuple[float, int]] = {}  # since when, how many

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
        counts = {what: self._count(what, now) for what in {*map(_network, addresses), beginning}}
        full = [since for since, failures in counts.values() if failures >= MOST_FAILURES]
        if full:
            raise TooManyAttempts(
                "Too many wrong keys came from this address.",
                retry_after_s=max(full) + WINDOW_S - now,
            )
        for what, (since, failures) in counts.items():
            self._counts[what] = since, failures + 1

    def _count(self, what: str, now: float) -> tuple[float, int]:
        since, failures = self._counts.pop(what, (now, 0))
        if now - since >= WINDOW_S:
            since, failures = now, 0
        self._counts[what] = since, failures  # the newest is the last
        if len(self._counts) > MOST_COUNTED:
            del self._counts[next(iter(self._counts))]
        return since, failures


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
PAGE_FILES = "/page/"
PAGES = ("/", "/docs")
"""For browsers, which can send no key with an address: the page asks for it."""

current_key: ContextVar[int | None] = ContextVar("current_key", default=None)
"""Which key the current request or socket came in with: its number, never the key."""


class Keyring:
    """The keys, as hashes."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._hashes = tuple(_hash(key.encode("utf-8")) for key in dict.fromkeys(keys))

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, offered: bytes) -> int | None:
        """The number of this key. Every key is compared, in constant time, found or not."""
        hashed, found = _hash(offered), None
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


def wants_page(accept: Iterable[str]) -> bool:
    """Browsers name HTML in `Accept`; programs say `*/*` or nothing."""
    return any("text/html" in value for value in accept)


class Auth:
    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring
        self._attempts = LoginThrottle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._keyring and not is_public(scope):
                current_key.set(self._key(scope))
        except ChatterboxError as error:
            await refuse(error, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _key(self, scope: Scope) -> int:
        """The number of the client's key. Raises InvalidApiKey and TooManyAttempts."""
        if not (offered := offered_keys(scope["headers"])):
            raise InvalidApiKey("A key is needed: send it as 'Authorization: Bearer KEY'.")
        key = min(offered)
        # Two different ones are nobody's: a layer before us may have read the other.
        found = self._keyring.find(key) if len(offered) == 1 else None
        if found is None:
            addresses = (scope.get("client"), scope.get("state", {}).get(PEER))
            self._attempts.note_wrong((known[0] if known else "" for known in addresses), key)
            raise InvalidApiKey("This key is not known here.")
        return found


_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+?))\.?(?::\d{0,5})?", re.ASCII)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing, and what they answer a foreign page cannot read. Those that take a place are
refused all the same (`KeyQuotas`): a page could play any text, and keep the server busy."""
ANY = "*"

foreign_page: ContextVar[bool] = ContextVar("foreign_page", default=False)
"""Whether a page of another site makes the current request."""


def refuse_foreign_page() -> None:
    """Raises OriginForbidden where such a page makes the current request."""
    if foreign_page.get():
        raise OriginForbidden(
            "Pages of other sites may not do this; the setting 'cors_origins' names those that may."
        )


def host_of(authority: str) -> str:
    """The name or address in a `Host` header, without its port; empty where it is none."""
    match = _AUTHORITY.fullmatch(authority.strip().lower())
    return (match[1] or match[2]) if match else ""


def listed(setting: str) -> frozenset[str]:
    """The words of a setting with commas between."""
    return frozenset(word.strip().lower() for word in setting.split(",") if word.strip())


class OriginGuard:
    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._names = listed(config.allowed_hosts)
        # Rebinding reaches any server that a browser does. Beyond this machine nobody can know
        # what a server is called, unless they are told.
        self._any_name = ANY in self._names or not (self._names or config.is_local)
        self._names |= {config.host.lower()}
        self._origins = listed(config.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        named = self._is_named(headers)
        policy = "cross-origin" if named else "same-site" if self._origins else None

        async def with_policy(message: Message) -> None:
            """Who may embed the answer beside our own page."""
            if message["type"] == "http.response.start" and policy is not None:
                MutableHeaders(scope=message)[RESOURCE_POLICY] = policy
            await send(message)

        foreign_page.set(not named and _is_foreign(headers))
        try:
            self._check(scope, headers)
        except ChatterboxError as error:
            await refuse(error, scope, receive, send)
        else:
            await self._app(scope, receive, with_policy)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host")  # HTTP/1.0 may have none; no browser sends that
        if host is not None and not self.is_ours(host_of(host)):
            raise HostForbidden(
                "This server is not called that; the setting 'allowed_hosts' names what it is."
            )
        if scope["type"] != "http" or scope["method"] not in _SAFE_METHODS:
            refuse_foreign_page()

    def is_ours(self, host: str) -> bool:
        """Whether the server may be called so. Rebinding needs a name, so addresses pass."""
        if self._any_name or host in self._names or f".{host}".endswith(".localhost"):
            return True
        try:
            return bool(ipaddress.ip_address(host))
        except ValueError:
            return False

    def _is_named(self, headers: Headers) -> bool:
        scheme, authority = _split(headers.get("origin") or headers.get("referer", ""))
        return ANY in self._origins or f"{scheme}://{authority}" in self._origins


def _is_foreign(headers: Headers) -> bool:
    """Whether a page that is not our own makes this call. A page's sound has no `Origin`; browsers
    say from where it comes in `Sec-Fetch-Site`, also behind a proxy that renames us."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("same-origin", "cross-site") or origin is None:
        return site == "cross-site"
    host = headers.get("host", "")
    return not host or _split(origin)[1] != host.lower()


def _split(address: str) -> tuple[str, str]:
    """Its scheme, and its host and port."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "", ""
    return parts.scheme.lower(), parts.netloc.lower()
