"""Refuses calls by web pages of other sites, and calls by a foreign host name (DNS rebinding).

Pure ASGI, around every route and socket. A page that a user visits can make their browser call a
server on their machine, under a name of its own or from its own site; programs send neither sign.
The pages named in `cors_origins` may call and read.
"""

import ipaddress
import re
from contextvars import ContextVar
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatterbox.config import ServerConfig
from chatterbox.errors import ChatterboxError, HostForbidden, OriginForbidden
from chatterbox.server.request_log import RESOURCE_POLICY, refuse

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


def is_address(host: str) -> bool:
    """Whether `host` is an address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def listed(setting: str) -> frozenset[str]:
    """The words of a setting with commas between."""
    return frozenset(word.strip().lower() for word in setting.split(",") if word.strip())


class OriginGuard:
    """The layer. One for each server."""

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
        policy = self._policy(headers)

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start" and policy is not None:
                MutableHeaders(scope=message)[RESOURCE_POLICY] = policy
            await send(message)

        token = foreign_page.set(self.is_foreign(headers))
        try:
            try:
                self._check(scope, headers)
            except ChatterboxError as error:
                await refuse(error, scope, receive, send)
                return
            await self._app(scope, receive, with_policy)
        finally:
            foreign_page.reset(token)

    def _policy(self, headers: Headers) -> str | None:
        """Who may embed the answer; None: nobody but our own page."""
        if self._is_named(headers):
            return "cross-origin"
        return "same-site" if self._origins else None

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host")  # HTTP/1.0 may have none; no browser sends that
        if host is not None and not self.is_ours(host_of(host)):
            raise HostForbidden(
                "This server is not called that; the setting 'allowed_hosts' names what it is."
            )
        safe = scope["type"] == "http" and scope["method"] in _SAFE_METHODS
        if not safe:
            refuse_foreign_page()

    def is_ours(self, host: str) -> bool:
        """Whether the server may be called so. Rebinding needs a name, so addresses pass."""
        local = host == "localhost" or host.endswith(".localhost")
        return self._any_name or host in self._names or local or is_address(host)

    def is_foreign(self, headers: Headers) -> bool:
        """Whether a page makes this call that is neither our own nor named. A page's sound has no
        `Origin`; browsers say from where it comes in `Sec-Fetch-Site`."""
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site == "same-origin" or self._is_named(headers):  # also behind a proxy that renames us
            return False
        if site == "cross-site" or origin is None:
            return site == "cross-site"
        host = headers.get("host", "")
        return not host or _split(origin)[1] != host.lower()

    def _is_named(self, headers: Headers) -> bool:
        scheme, authority = _split(headers.get("origin") or headers.get("referer", ""))
        return ANY in self._origins or f"{scheme}://{authority}" in self._origins


def _split(address: str) -> tuple[str, str]:
    """Its scheme, and its host and port."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "", ""
    return parts.scheme.lower(), parts.netloc.lower()


READABLE = (
    "Retry-After",
    "X-Audio-Duration",
    "X-Generation-Time",
    "X-Ignored-Params",
    "X-Request-ID",
    "X-RTF",
    "X-Sample-Rate",
    "X-Seed",
    "X-Unknown-Tags",
    "X-Tokens-Generated",
)
"""Headers that a page may read beside those that it always may."""


def add_cors(app: FastAPI, config: ServerConfig) -> None:
    """Let those pages call and read. No cookies: keys travel in a header that the page sets."""
    origins = [origin.strip() for origin in config.cors_origins.split(",") if origin.strip()]
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=READABLE,
        )
