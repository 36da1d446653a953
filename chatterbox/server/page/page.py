"""Sends the static files of the page and the reference, with their headers.

The files in `static/` are sent as they are: nothing is built and nothing is filled in.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from chatterbox.errors import RouteNotFound

STATIC = Path(__file__).with_name("static")
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",  # no inline script or style, no eval, no other host
        "media-src 'self' blob:",  # speech and recordings that the page itself holds
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-cache",  # kept, but asked for again: a new version shows at once
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Page:
    """The files, read once."""

    def __init__(self) -> None:
        self._files = {path.name: path.read_bytes() for path in STATIC.iterdir()}
        self._etags = {
            name: f'"{hashlib.sha256(data).hexdigest()[:16]}"' for name, data in self._files.items()
        }

    def answer(self, name: str, request: Request) -> Response:
        """One file, or 304 where the browser has it. Raises RouteNotFound."""
        if name not in self._files:
            raise RouteNotFound("The page has no such file.")
        etag = self._etags[name]
        headers = {**HEADERS, "ETag": etag, "Vary": "Accept"}
        known = request.headers.get("if-none-match", "")
        if etag in (given.strip().removeprefix("W/") for given in known.split(",")):
            return Response(status_code=304, headers=headers)
        media_type = MEDIA_TYPES[Path(name).suffix]
        return Response(self._files[name], headers=headers, media_type=media_type)

    def router(self) -> APIRouter:
        """Everything but `/`, which programs ask for too."""
        router = APIRouter(include_in_schema=False)

        async def file(request: Request, name: str) -> Response:
            return self.answer(name, request)

        async def docs(request: Request) -> Response:
            return self.answer("docs.html", request)

        methods = ["GET", "HEAD"]
        router.add_api_route("/page/{name}", file, methods=methods)
        router.add_api_route("/docs", docs, methods=methods)
        return router
