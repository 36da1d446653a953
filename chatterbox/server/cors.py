"""Which web pages of other addresses may call? Those of the setting; without it, none.

Knows no route. SillyTavern's providers, for one, call from the page itself.
"""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from chatterbox.config import ServerConfig

READABLE = (
    "Retry-After",
    "X-Audio-Duration",
    "X-Generation-Time",
    "X-Ignored-Params",
    "X-Request-ID",
    "X-RTF",
    "X-Sample-Rate",
    "X-Seed",
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
