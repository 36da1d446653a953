"""Generates the pages in docs/reference/: calls, sockets, settings, errors and metrics.

`python tools/reference_tables.py` rewrites them; tests/test_readme.py fails when that would change
anything.
"""

import functools
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fastapi import FastAPI

from chatterbox.command_line import GROUPED_SETTINGS, GROUPS
from chatterbox.config import CONFIGS, ClusterConfig, ServerConfig, Settings, TTSConfig
from chatterbox.config.tts import default_data_dir
from chatterbox.dialects.registry import DIALECTS
from chatterbox.engine.engine import TTSEngine
from chatterbox.server.app import create_app

DIRECTORY = Path(__file__).resolve().parent.parent / "docs" / "reference"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in [header, *rows]]
    lines.insert(1, "|" + "---|" * len(header))
    return "\n".join(lines)


UNITS = {"_s": "s", "_ms": "ms", "_mb": "MB", "_gb": "GB", "_hz": "Hz"}
EXPERT = {
    TTSConfig: "Expert: model and engine",
    ServerConfig: "Expert: server",
    ClusterConfig: "Expert: replicas",
}
"""Groups of the settings that `--help` omits."""
REPLICAS = "Replicas"


def settings() -> str:
    """Return a table for each group of `--help`, then for all other settings."""
    fields = {name: config for config in CONFIGS for name in config.model_fields}
    groups = {title: names.split() for title, names in GROUPS.items() if title != REPLICAS}
    groups[REPLICAS] = GROUPS[REPLICAS].split()
    for config, title in EXPERT.items():
        groups[title] = [n for n in fields if fields[n] is config and n not in GROUPED_SETTINGS]
    header = ["setting", "values", "default", "description"]
    return "\n\n".join(
        f"## {title}\n\n" + table(header, [setting(fields[name], name) for name in names])
        for title, names in groups.items()
        if names
    )


def setting(config: type[Settings], name: str) -> list[str]:
    field = config.model_fields[name]
    default = field.get_default(call_default_factory=True)
    text = str(default).lower() if isinstance(default, bool) else str(default)
    text = "(user data)" if default == default_data_dir() else text
    description = " ".join((field.description or "").split()).replace("|", "\\|")
    shown_default = "" if text in ("None", "") else f"`{text}`"
    return [f"`{name}`", values(config, name), shown_default, description]


def values(config: type[Settings], name: str) -> str:
    """Return a setting's choices, or its bounds with their unit."""
    schema = config.model_json_schema(mode="serialization")["properties"][name]
    schema |= next((kind for kind in schema.get("anyOf", ()) if kind.get("type") != "null"), {})
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    unit = next((unit for end, unit in UNITS.items() if name.endswith(end)), "")
    least, most = (
        plain(schema.get(inclusive, schema.get(exclusive)))
        for inclusive, exclusive in (
            ("minimum", "exclusiveMinimum"),
            ("maximum", "exclusiveMaximum"),
        )
    )
    bounds = {
        (True, True): f"{least} to {most}",
        (True, False): f"from {least}",
        (False, True): f"up to {most}",
    }.get((least is not None, most is not None), "")
    kind = {"boolean": "`true`, `false`"}.get(schema.get("type", ""), "")
    return kind or f"{bounds} {unit}".strip()


def plain(bound: float | None) -> float | None:
    """Turn 0.0 into 0."""
    return int(bound) if bound is not None and bound == int(bound) else bound


def errors() -> str:
    rows = [
        [f"`{row['code']}`", str(row["status"]), row["description"], row["do"]]
        for row in app().openapi()["x-errors"]
    ]
    return table(["code", "status", "meaning", "what to do"], rows)


def calls() -> str:
    rows = []
    for path, methods in app().openapi()["paths"].items():
        for method, call in methods.items():
            said = call.get("description", "").split("\n\n")[0].replace("\n", " ")
            rows.append([f"`{method.upper()} {path}`", said.replace("|", "\\|")])
    rows += [[f"`WS {s['path']}`", s["description"]] for s in app().openapi()["x-sockets"]]
    return table(["call", "what it does"], rows)


def sockets() -> str:
    return "\n\n".join(map(socket, app().openapi()["x-sockets"]))


def socket(said: dict[str, Any]) -> str:
    """Return the section of one WebSocket: the messages of both sides and an example."""
    parts = [f"## `{said['path']}`", f"{said['description']} {said['encoding']}."]
    if said["query"]["properties"]:
        parts.append(f"Query parameters: {fields(said['query'])}.")
    for side in ("client", "server"):
        rows = [
            [f"`{row['name']}`", row["description"], fields(row["schema"])] for row in said[side]
        ]
        parts.append(table([side, "meaning", "fields"], rows))
    lines = [f"{line['from']} {shown(line['message'])}" for line in said["example"]]
    parts.append("\n".join(["```text", *lines, "```"]))
    return "\n\n".join(parts)


def shown(message: Any) -> str:
    return message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)


def fields(schema: dict[str, Any]) -> str:
    """List fields as `name` (description), …"""
    return ", ".join(
        f"`{name}`" + (f" ({said})" if (said := field.get("description")) else "")
        for name, field in schema.get("properties", {}).items()
    )


def metrics() -> str:
    families = app().metrics.families()
    ends = {"counter": "_total", "info": "_info"}
    rows = [[f"`{f.name}{ends.get(f.type, '')}`", f.type, f.documentation] for f in families]
    return table(["metric", "type", "meaning"], rows)


@functools.cache
def app() -> FastAPI:
    engine = TTSEngine(TTSConfig(model="mini"))
    try:
        return create_app(engine, ServerConfig(), DIALECTS)
    finally:
        engine.close()


PAGES = {
    "calls": (
        "Calls",
        "Every route and WebSocket. `/docs` on a running server documents their fields.",
        calls,
    ),
    "settings": (
        "Settings",
        "Set by flag (`./run.sh --max-sequences 8`), environment "
        "(`CHATTERBOX_MAX_SEQUENCES=8`) or `.env`, in that order of precedence.\n"
        "An invalid value prints one line on standard error and exits with code 2. The groups are "
        "those of `--help`; `--help-all` lists all settings.",
        settings,
    ),
    "sockets": (
        "Sockets",
        "The messages on each WebSocket. In the examples, `>` marks the client's messages and `<` "
        "the server's.\n`/docs` on a running server lists types, bounds and defaults of fields. "
        "For limits, close codes and\nwhere text is split, see [dialects.md](dialects.md#sockets).",
        sockets,
    ),
    "errors": (
        "Errors",
        "Native calls return errors as "
        '`{"error": {"message", "type", "code", "param", "request_id"}}`;\n'
        "each dialect uses the shape that its clients expect, with the same status and code.",
        errors,
    ),
    "metrics": (
        "Metrics",
        "`/metrics` returns JSON, or Prometheus text if `Accept` requests `text/plain`.\n"
        "The names are Prometheus names; histograms end in `_bucket`, `_sum` and `_count`.\n"
        "[monitoring.md](../run/monitoring.md) has a scrape config, alerts and a dashboard.",
        metrics,
    ),
}


def pages() -> dict[Path, str]:
    """Return the content of each page by path."""
    note = "<!-- Made by tools/reference_tables.py. -->"
    return {
        DIRECTORY / f"{name}.md": f"{note}\n# {title}\n\n{lead}\n\n{table_of()}\n"
        for name, (title, lead, table_of) in PAGES.items()
    }


if __name__ == "__main__":
    for path, content in pages().items():
        path.write_text(content, encoding="utf-8")
