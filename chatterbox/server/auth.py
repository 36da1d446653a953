"""API keys, and protection against requests made by pages of other sites. Pure ASGI middleware.

If keys are configured, every request needs a key, even for a path that does not exist, unless it is
public (`is_public`). Keys travel in headers, never in URLs, which proxies log.

A web page can make its visitor's browser call a server on the visitor's machine, either across
sites or through a host name that resolves to that machine (DNS rebinding). Browsers mark these
requests; other programs send no marks. Sites in `cors_origins` may call and read.
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

MAX_FAILURES = 20
"""Wrong keys allowed within WINDOW_S from one address or with the same beginning; 429 above it
(FAULTS F72, F103)."""
WINDOW_S = 60.0
MAX_COUNTED = 4096
"""Limit for the addresses and key beginnings counted; above it, the least recent is dropped."""
IPV6_PREFIX = 64
"""IPv6 addresses are counted by this prefix: one customer's network."""
MAX_ADDRESS_CHARS = 45
"""Length of the longest IPv6 address. A proxy may pass on any text as an address."""
BEGINNING_BYTES = 8
"""Length of a key's beginning. Counting by it slows a client that knows the beginning and guesses
the rest from many addresses."""


class LoginThrottle:
    """Counts wrong keys. One per server; used only from the event loop."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._counts: dict[str, tuple[float, int]] = {}  # start of the window, failures

    def __len__(self) -> int:
        return len(self._counts)

    def note_wrong(self, addresses: Iterable[str], key: bytes) -> None:
        """Count a wrong key. `addresses` are the client's address as a proxy reports it, and the
        connection's remote address, which a client cannot choose.

        Raises TooManyAttempts if too many keys were wrong. Valid keys are never passed here, so
        clients with a valid key are never locked out.
        """
        now = self._now()
        beginning = hashlib.sha256(key[:BEGINNING_BYTES]).hexdigest()
        counts = {name: self._count(name, now) for name in {*map(_network, addresses), beginning}}
        full = [since for since, failures in counts.values() if failures >= MAX_FAILURES]
        if full:
            raise TooManyAttempts(
                "Too many wrong keys came from this address.",
                retry_after_s=max(full) + WINDOW_S - now,
            )
        for name, (since, failures) in counts.items():
            self._counts[name] = since, failures + 1

    def _count(self, name: str, now: float) -> tuple[float, int]:
        since, failures = self._counts.pop(name, (now, 0))
        if now - since >= WINDOW_S:
            since, failures = now, 0
        self._counts[name] = since, failures  # keeps the dict in order of last use
        if len(self._counts) > MAX_COUNTED:
            del self._counts[next(iter(self._counts))]
        return since, failures


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address[:MAX_ADDRESS_CHARS]
    if ip.version == 4:
        return address
    return str(ipaddress.ip_network((ip.packed[: IPV6_PREFIX // 8] + bytes(8), IPV6_PREFIX)))


SCHEMES = (b"bearer", b"token")
"""Schemes of `Authorization` that hold a key. Others are meant for a proxy, and are ignored."""
KEY_HEADERS = (b"xi-api-key", b"kyutai-api-key")
"""Key headers of ElevenLabs' and Kyutai's clients."""
SUBPROTOCOL = b"openai-insecure-api-key."
"""Prefix of a key in `Sec-WebSocket-Protocol`, as OpenAI's browser clients send it: a browser's
WebSocket can set no header."""
PAGE_FILES = "/page/"
PAGES = ("/", "/docs")
"""Public for browsers, which cannot send a key when they open a URL. The page asks for the key."""

current_key: ContextVar[int | None] = ContextVar("current_key", default=None)
"""Number of the API key that the current request or socket uses. None: no key is configured."""


class Keyring:
    """The configured API keys, as hashes."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._hashes = tuple(_hash(key.encode("utf-8")) for key in dict.fromkeys(keys))

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, offered: bytes) -> int | None:
        """Return the key's number, or None. Always compares all keys, in constant time."""
        hashed, match = _hash(offered), None
        for number, key_hash in enumerate(self._hashes):
            if hmac.compare_digest(hashed, key_hash):
                match = number
        return match


def _hash(key: bytes) -> bytes:
    """Plain SHA-256 is enough: no dictionary attack succeeds against random keys."""
    return hashlib.sha256(key).digest()


def offered_keys(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """Return all keys in a request's headers."""
    keys = set()
    for name, value in headers:
        match name.lower():
            case b"authorization":
                scheme, _, key = value.partition(b" ")
                if scheme.lower() in SCHEMES:
                    keys.add(key)
            case b"sec-websocket-protocol":
                words = [word.strip() for word in value.split(b",")]
                keys |= {w.removeprefix(SUBPROTOCOL) for w in words if w.startswith(SUBPROTOCOL)}
            case other if other in KEY_HEADERS:
                keys.add(value)
    return keys


def is_public(scope: Scope) -> bool:
    """Return whether a request needs no key: probes, and the web page's files, which reveal nothing
    about this server."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    path: str = scope["path"]
    if path in PAGES:
        return wants_page(Headers(scope=scope).getlist("accept"))
    return path in PROBES or path.startswith(PAGE_FILES)


def wants_page(accept: Iterable[str]) -> bool:
    """Return whether `Accept` names HTML. Browsers name HTML; programs send `*/*` or nothing."""
    return any("text/html" in value for value in accept)


class Auth:
    """Middleware that requires an API key, if any is configured, and sets `current_key`."""

    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring
        self._throttle = LoginThrottle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._keyring and not is_public(scope):
                current_key.set(self._check(scope))
        except ChatterboxError as error:
            await refuse(error, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> int:
        """Return the number of the client's key. Raises InvalidApiKey and TooManyAttempts."""
        if not (offered := offered_keys(scope["headers"])):
            raise InvalidApiKey("An API key is required: send it as 'Authorization: Bearer KEY'.")
        key = min(offered)
        # Two different keys are refused: a proxy may have checked only one of them.
        number = self._keyring.find(key) if len(offered) == 1 else None
        if number is None:
            addresses = (scope.get("client"), scope.get("state", {}).get(PEER))
            self._throttle.note_wrong((each[0] if each else "" for each in addresses), key)
            raise InvalidApiKey("This API key is not valid.")
        return number


_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+?))\.?(?::\d{0,5})?", re.ASCII)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods allowed to pages of other sites: they change nothing, and the browser hides the response
from the page. Requests that take a place are still refused (`KeyQuotas.check`): a page could
otherwise play any text and keep the server busy."""
ANY = "*"

foreign_page: ContextVar[bool] = ContextVar("foreign_page", default=False)
"""Whether a page of another site makes the current request."""


def refuse_foreign_page() -> None:
    """Raises OriginForbidden if a page of another site makes the current request."""
    if foreign_page.get():
        raise OriginForbidden(
            "Pages of other sites may not do this; add the site to the setting 'cors_origins'."
        )


def host_of(authority: str) -> str:
    """Return the name or address in a `Host` header without its port, or "" if it is malformed."""
    match = _AUTHORITY.fullmatch(authority.strip().lower())
    return (match[1] or match[2]) if match else ""


def split_list(setting: str) -> frozenset[str]:
    """Split a comma-separated setting into words in lower case."""
    return frozenset(word.strip().lower() for word in setting.split(",") if word.strip())


class OriginGuard:
    """Middleware that refuses foreign host names and pages, and sets `foreign_page`."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._names = split_list(config.allowed_hosts)
        # On a public address, any name is accepted unless names are configured.
        self._allows_any_name = ANY in self._names or not (self._names or config.is_local)
        self._names |= {config.host.lower()}
        self._origins = split_list(config.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        is_allowed = self._is_allowed_origin(headers)
        policy = "cross-origin" if is_allowed else "same-site" if self._origins else None

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start" and policy is not None:
                MutableHeaders(scope=message)[RESOURCE_POLICY] = policy
            await send(message)

        foreign_page.set(not is_allowed and _is_foreign(headers))
        try:
            self._check(scope, headers)
        except ChatterboxError as error:
            await refuse(error, scope, receive, send)
        else:
            await self._app(scope, receive, send_with_policy)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host")  # browsers always send it; HTTP/1.0 may omit it
        if host is not None and not self._is_our_name(host_of(host)):
            raise HostForbidden(
                "This server does not have that name; add it to the setting 'allowed_hosts'."
            )
        if scope["type"] != "http" or scope["method"] not in _SAFE_METHODS:
            refuse_foreign_page()

    def _is_our_name(self, host: str) -> bool:
        """Whether `host` is accepted. Addresses always are: DNS rebinding needs a name."""
        if self._allows_any_name or host in self._names or f".{host}".endswith(".localhost"):
            return True
        try:
            return bool(ipaddress.ip_address(host))
        except ValueError:
            return False

    def _is_allowed_origin(self, headers: Headers) -> bool:
        scheme, authority = _split_url(headers.get("origin") or headers.get("referer", ""))
        return ANY in self._origins or f"{scheme}://{authority}" in self._origins


def _is_foreign(headers: Headers) -> bool:
    """Return whether a page of another site makes the request. Media elements send no `Origin`, but
    browsers send `Sec-Fetch-Site`, which stays correct if a proxy changes the host name."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("same-origin", "cross-site") or origin is None:
        return site == "cross-site"
    host = headers.get("host", "")
    return not host or _split_url(origin)[1] != host.lower()


def _split_url(url: str) -> tuple[str, str]:
    """Return the scheme, and the host with its port; empty if the URL is malformed."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.scheme.lower(), parts.netloc.lower()
