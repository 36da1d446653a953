"""Routes for health, probes, metrics, the web page, `/`, and models.

Only the routes that load and unload models wait for an engine. No route takes a place.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from chatterbox import __version__
from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.errors import EngineDead, OperatorOnly, RouteNotFound
from chatterbox.server.admission_control import RESTART_RETRY_S, Lifecycle
from chatterbox.server.auth import current_key, wants_page
from chatterbox.server.metrics import Metrics, wants_prometheus
from chatterbox.server.model_pool import ModelPool

STATIC = Path(__file__).parent / "page" / "static"
TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",  # no inline script or style, no eval, no other host
        "media-src 'self' blob:",  # audio in the page's memory
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
PAGE_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-cache",  # cached, but always revalidated
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
}

MINI_NOTICE = (
    "This is the embedded demonstration model, not Chatterbox Turbo: it shows that the server "
    "works, but sounds nothing like Turbo."
)
REFERENCE = "reference"
"""Query of `/` that shows `/docs`, so that the page can link to it by a relative URL."""
MAX_SKIPPED = 100
"""Limit for the skipped voices listed in `/health`, which is polled often."""
DIRECTORIES = re.compile(r"(?<![\w:/.])(?:/[^/\s'\":]+)+/|\b[A-Za-z]:\\(?:[^\\\s]+\\)*")
"""Matches the directories of absolute paths, on Unix and Windows."""
NO_STORE = {"Cache-Control": "no-store"}

_FILES = {path.name: path.read_bytes() for path in STATIC.iterdir()}
_ETAGS = {name: f'"{hashlib.sha256(data).hexdigest()[:16]}"' for name, data in _FILES.items()}

page_router = APIRouter(include_in_schema=False)
"""The web page, except `/`, which also serves programs."""


@page_router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def page_file(request: Request, name: str) -> Response:
    """Return a file of the page, or 304 if the browser has it. Raises RouteNotFound."""
    if name not in _FILES:
        raise RouteNotFound("The page has no such file.")
    headers = {**PAGE_HEADERS, "ETag": _ETAGS[name], "Vary": "Accept"}
    etags = request.headers.get("if-none-match", "").split(",")
    if _ETAGS[name] in (etag.strip().removeprefix("W/") for etag in etags):
        return Response(status_code=304, headers=headers)
    return Response(_FILES[name], headers=headers, media_type=TYPES[name.rpartition(".")[2]])


@page_router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request) -> Response:
    """Return the API reference."""
    return await page_file(request, "docs.html")


def status_router(models: ModelPool, lifecycle: Lifecycle, metrics: Metrics) -> APIRouter:
    """Return the routes that work in every phase of the server's life."""
    router = APIRouter(tags=["server"])

    async def health() -> Response:
        """Get the server's state. Always 200; probes use `/health/live` and `/health/ready`."""
        return JSONResponse(health_body(models, lifecycle), headers=NO_STORE)

    async def live() -> Response:
        """Liveness probe: 200, or 503 `engine_dead` once the process should be restarted."""
        if lifecycle.phase == "dead":
            raise EngineDead("The engine stopped on a fault.", retry_after_s=RESTART_RETRY_S)
        return JSONResponse({"status": "live"}, headers=NO_STORE)

    async def ready() -> Response:
        """Readiness probe: 200, or 503 while loading, draining or dead, or if the queue is full."""
        lifecycle.check_ready()
        return JSONResponse({"status": "ready"}, headers=NO_STORE)

    async def get_metrics(request: Request) -> Response:
        """Get metrics as JSON, or as Prometheus text if `Accept` asks for it."""
        accept = ",".join(request.headers.getlist("accept"))
        if wants_prometheus(accept):
            body, content_type = metrics.as_text(accept)
            return Response(body, headers={**NO_STORE, "Content-Type": content_type})
        return JSONResponse(metrics.as_json(), headers=NO_STORE)

    async def root(request: Request) -> Response:
        """List the server's calls; for browsers, the web page."""
        if wants_page(request.headers.getlist("accept")):
            name = "docs.html" if REFERENCE in request.query_params else "index.html"
            return await page_file(request, name)
        paths = request.app.openapi()["paths"]
        calls = [
            {"method": method.upper(), "path": path, "does": call["description"].splitlines()[0]}
            for path, methods in paths.items()
            for method, call in methods.items()
        ]
        body = {"name": "chatterbox", "version": __version__, "docs": "/docs", "calls": calls}
        return JSONResponse(body, headers={"Vary": "Accept"})

    for path, endpoint in (
        ("/", root),
        ("/health", health),
        ("/health/live", live),
        ("/health/ready", ready),
        ("/metrics", get_metrics),
    ):
        router.add_api_route(path, endpoint, methods=["GET"], response_class=JSONResponse)
        router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)
    return router


def model_router(models: ModelPool, operators: frozenset[int | None]) -> APIRouter:
    """Return the routes for models. Only `operators`, key numbers, may load and unload models; if
    empty, all keys may."""
    router = APIRouter(tags=["server"])

    def check_operator() -> None:
        if operators and current_key.get() not in operators:
            raise OperatorOnly("Only keys in the setting 'operator_keys' may do this.")

    @router.get("/models")
    async def list_models() -> Response:
        """List the server's models, and which of them are in memory."""
        body = {
            "models": [model.as_json() for model in models.models],
            "default_model": models.default.name,
        }
        return JSONResponse(body, headers=NO_STORE)

    @router.post("/models/{name:path}/load")
    async def load_model(name: str) -> Response:
        """Load a model now. Others are unloaded if there is no room."""
        check_operator()
        return JSONResponse((await models.load(name)).as_json())

    @router.post("/models/{name:path}/unload")
    async def unload_model(name: str) -> Response:
        """Unload a model once no request uses it. The next request loads it again."""
        check_operator()
        return JSONResponse((await models.unload(name)).as_json())

    return router


def health_body(models: ModelPool, lifecycle: Lifecycle) -> dict[str, Any]:
    """Return the body of `/health`. The console's ready message uses the same facts."""
    phase, engine, admission = lifecycle.phase, models.default.engine, models.admission
    body: dict[str, Any] = {
        "status": "ok" if phase == "ready" else phase,
        "ready": lifecycle.is_ready,
        "loading": asdict(models.loading) if lifecycle.is_loading else None,
        "version": __version__,
        "model": None,
        "precision": None,
        "device": None,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "active": admission.active,
        "places": admission.capacity,
        "queued": admission.queued,
    }
    if len(models.models) > 1:
        body["models"] = [model.as_json() for model in models.models]
    # Report facts about the model even after a fault.
    if engine and engine.state in ("ready", "dead", "unloaded"):
        info, data_dir = engine.info, engine.config.data_dir
        body |= {
            "model": info.name,
            "family": engine.family.title,
            "languages": list(engine.family.languages),
            "precision": info.precision_text,
            "graphs": dict(info.precision),
            "device": info.device,
            "machine": info.machine,
            "fallback": info.fallback and without_directories(info.fallback, data_dir),
            "notice": MINI_NOTICE if info.name == "mini" else info.slowness,
            "expected_rtf": info.expected_rtf and float(f"{info.expected_rtf:.2g}"),
            "notes": [without_directories(note, data_dir) for note in info.notes],
            "default_voice": engine.voices.default_voice,
            "cloning": engine.cloning,
            "skipped_voices": [
                {"voice": name, "reason": reason}
                for name, reason in engine.voices.skipped[:MAX_SKIPPED]
            ],
        }
    return body


def without_directories(text: str, data_dir: Path) -> str:
    """Reduce paths in a text to file names: clients need not know the server's directories."""
    return DIRECTORIES.sub("", text.replace(f"{data_dir}{os.sep}", ""))
