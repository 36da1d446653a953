"""Whom does a request take us for, and whose page sent it? Foreign names and pages are refused.

Pure ASGI, around every route and socket. A page that a user visits can make their browser call a
server on their machine, under a name of its own (DNS rebinding) or from its own site; programs
send neither sign. Knows no key.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from chatterbox.config import ServerConfig
from chatterbox.errors import ChatterboxError, HostForbidden, OriginForbidden
from chatterbox.server.errors import ShapeOf
from chatterbox.server.request_scope import refuse

_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+?))\.?(?::\d{0,5})?", re.ASCII)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing; and what they answer, a foreign page cannot read."""
ANY = "*"


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


class Hosts:
    """The layer. One for each server."""

    def __init__(self, app: ASGIApp, config: ServerConfig, shape_of: ShapeOf) -> None:
        self._app = app
        self._shape_of = shape_of
        self._names = listed(config.allowed_hosts)
        # Rebinding reaches any server that a browser does. Beyond this machine nobody can know
        # what a server is called, unless they are told.
        self._any_name = ANY in self._names or not (self._names or config.is_local)
        self._names |= {config.host.lower()}
        self._origins = listed(config.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                self._check(scope)
            except ChatterboxError as error:
                await refuse(error, self._shape_of, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host")  # HTTP/1.0 may have none; no browser sends that
        if host is not None and not self.is_ours(host_of(host)):
            raise HostForbidden(
                "This server is not called that; the setting 'allowed_hosts' names what it is."
            )
        safe = scope["type"] == "http" and scope["method"] in _SAFE_METHODS
        if not safe and not self.may_come_from(headers):
            raise OriginForbidden(
                "Pages of other sites may not do this; the setting 'cors_origins' names those"
                " that may."
            )

    def is_ours(self, host: str) -> bool:
        """Whether the server may be called so. Rebinding needs a name, so addresses pass."""
        local = host == "localhost" or host.endswith(".localhost")
        return self._any_name or host in self._names or local or is_address(host)

    def may_come_from(self, headers: Headers) -> bool:
        """Whether this is no page's call, or a call of our own page, or of one that is named."""
        origin = headers.get("origin")
        if origin is None or ANY in self._origins or origin.lower() in self._origins:
            return True
        if headers.get("sec-fetch-site") == "same-origin":  # also behind a proxy that renames us
            return True
        host = headers.get("host", "")
        return bool(host) and _authority(origin) == host.lower()


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
