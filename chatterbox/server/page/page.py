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


_FILES = {path.name: path.read_bytes() for path in STATIC.iterdir()}
_ETAGS = {name: f'"{hashlib.sha256(data).hexdigest()[:16]}"' for name, data in _FILES.items()}

router = APIRouter(include_in_schema=False)
"""Everything but `/`, which programs ask for too."""


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def page_file(request: Request, name: str) -> Response:
    """One file, or 304 where the browser has it. Raises RouteNotFound."""
    if name not in _FILES:
        raise RouteNotFound("The page has no such file.")
    headers = {**HEADERS, "ETag": _ETAGS[name], "Vary": "Accept"}
    known = request.headers.get("if-none-match", "")
    if _ETAGS[name] in (given.strip().removeprefix("W/") for given in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(_FILES[name], headers=headers, media_type=MEDIA_TYPES[Path(name).suffix])


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request) -> Response:
    """The reference."""
    return await page_file(request, "docs.html")
