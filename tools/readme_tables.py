"""Which calls, settings, errors and metrics are there? Writes README's tables from the code.

`python tools/readme_tables.py` rewrites the blocks between `<!-- name -->` and `<!-- /name -->`;
tests/test_readme.py fails when that would change anything.
"""

import functools
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fastapi import FastAPI
from fastapi.routing import APIWebSocketRoute
from starlette.routing import BaseRoute

from chatterbox.config import CONFIGS, ServerConfig, TTSConfig, default_data_dir
from chatterbox.engine.engine import TTSEngine
from chatterbox.errors import error_table
from chatterbox.server.app import create_app

README = Path(__file__).resolve().parent.parent / "README.md"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in [header, *rows]]
    lines.insert(1, "|" + "---|" * len(header))
    return "\n".join(lines)


def settings() -> str:
    rows = []
    for config in CONFIGS:
        for name, field in config.model_fields.items():
            default = field.get_default(call_default_factory=True)
            shown = "(user data)" if default == default_data_dir() else str(default)
            said = (field.description or "").replace("|", "\\|")
            rows.append([f"`{name}`", f"`{shown}`", said])
    return table(["setting", "default", "what it is"], rows)


def errors() -> str:
    rows = [
        [f"`{code}`", str(cls.status), (cls.__doc__ or "").split("\n")[0]]
        for code, cls in error_table().items()
    ]
    return table(["code", "status", "meaning"], rows)


def calls() -> str:
    rows = []
    for path, methods in app().openapi()["paths"].items():
        for method, call in methods.items():
            said = call.get("description", "").split("\n\n")[0].replace("\n", " ")
            rows.append([f"`{method.upper()} {path}`", said.replace("|", "\\|")])
    rows += [[f"`WS {r.path}`", inspect.getdoc(r.endpoint) or ""] for r in sockets(app().routes)]
    return table(["call", "what it does"], rows)


def sockets(routes: list[BaseRoute]) -> Iterator[APIWebSocketRoute]:
    """The WebSockets, which OpenAPI does not know."""
    for route in routes:
        if isinstance(route, APIWebSocketRoute):
            yield route
        elif (router := getattr(route, "original_router", None)) is not None:
            yield from sockets(router.routes)


def metrics() -> str:
    families = app().state.metrics.families()
    rows = [[f"`{f.name}`", f.type, f.documentation] for f in families]
    return table(["metric", "type", "meaning"], rows)


@functools.cache
def app() -> FastAPI:
    engine = TTSEngine(TTSConfig(model="mini"))
    try:
        return create_app(engine, ServerConfig())
    finally:
        engine.close()


BLOCKS = {"calls": calls, "settings": settings, "errors": errors, "metrics": metrics}


def rewritten(text: str) -> str:
    """README with its tables as the code has them."""
    for name, make in BLOCKS.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda m, make=make: m[1] + make() + "\n" + m[2], text)
        assert count == 1, f"README has no block {name}"
    return text


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text(encoding="utf-8")), encoding="utf-8")
