"""Who may come in? Those who know a key, where keys are set; who guesses too often waits.

Pure ASGI, around every route and socket: what is not named here as public needs a key, whether it
exists or not. Knows no dialect but for the headers that its clients send their keys in.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from contextvars import ContextVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from chatterbox.errors import ChatterboxError, InvalidApiKey
from chatterbox.server.errors import ShapeOf
from chatterbox.server.login_throttle import LoginThrottle
from chatterbox.server.page.page import wants_page
from chatterbox.server.request_log import refuse

SCHEMES = (b"bearer", b"token")
"""Of `Authorization`. Others are a proxy's business and pass unread."""
KEY_HEADERS = (b"xi-api-key", b"kyutai-api-key")
"""ElevenLabs' clients and Kyutai's."""
SUBPROTOCOL = b"openai-insecure-api-key."
"""What pages of OpenAI's put before a key: a browser's sockets can send no header."""
PROBES = ("/health/live", "/health/ready", "/healthz")
PAGE_FILES = "/page/"
PEER = "chatterbox.peer"
"""In a scope: who is at the other end of the connection, whatever a proxy's headers say."""

holder: ContextVar[int | None] = ContextVar("holder", default=None)
"""Which key the current request or socket came in with: its number, never the key."""


class Keyring:
    """The keys, as hashes."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._hashes = tuple(_hash(key.encode("utf-8")) for key in dict.fromkeys(keys))

    def __len__(self) -> int:
        return len(self._hashes)

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
    if path == "/":
        return wants_page(Headers(scope=scope).getlist("accept"))
    return path in PROBES or path.startswith(PAGE_FILES)


class Auth:
    """The layer. One for each server."""

    def __init__(self, app: ASGIApp, keyring: Keyring, shape_of: ShapeOf) -> None:
        self._app = app
        self._keyring = keyring
        self._shape_of = shape_of
        self._attempts = LoginThrottle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._keyring or scope["type"] not in ("http", "websocket") or is_public(scope):
            await self._app(scope, receive, send)
            return
        try:
            key = self._key(scope)
        except ChatterboxError as error:
            await refuse(error, self._shape_of, scope, receive, send)
            return
        token = holder.set(key)
        try:
            await self._app(scope, receive, send)
        finally:
            holder.reset(token)

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
