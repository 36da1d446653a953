"""The settings as flags of a command: in groups, with defaults and choices, few at first sight."""

import argparse
import types
from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from chatterbox.config.sources import OLD_NAMES, Settings

GROUPS = {
    "Replicas": "replicas max_replicas gpus_per_replica cpus_per_replica cluster_address dashboard",
    "Where it listens": "host port api_keys allowed_hosts cors_origins wyoming_port log_level "
    "log_format",
    "Model and device": "model models model_dtype data_dir device gpu_device_id threads",
    "Voices": "default_voice max_voices max_reference_s max_voice_file_size apply_watermark",
    "Limits": "max_concurrent_requests max_queued_requests max_text_length request_timeout_s "
    "first_audio_timeout_s drain_timeout_s max_requests_per_key max_connections",
    "Sampling": "temperature top_k top_p min_p repetition_penalty max_new_tokens",
}
"""What `--help` shows; `--help-all` shows all others too, as "Expert"."""
EXPERT = "Expert"
EVERYTHING = frozenset(name for names in GROUPS.values() for name in names.split())


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wide enough for one line a flag."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=46, width=120)


def add_flags(
    parser: argparse.ArgumentParser,
    *configs: type[Settings],
    shown: Container[str] = EVERYTHING,
    full: bool = False,
) -> None:
    """One `--flag-name` for each field; values are checked by the config class, not here. `--help`
    names those in `shown`, in few words; with `full`, all of them in all words."""
    fields = {name: field for config in configs for name, field in config.model_fields.items()}
    listed = {title: [n for n in names.split() if n in fields] for title, names in GROUPS.items()}
    listed[EXPERT] = [name for name in fields if name not in EVERYTHING]
    for title, names in listed.items():
        if not names:
            continue
        group = parser.add_argument_group(title) if full or shown is EVERYTHING else parser
        for name in names:
            field, old = fields[name], OLD_NAMES.get(name)
            said = " ".join((field.description or "").split()).replace("%", "%%")
            group.add_argument(
                _flag(name),
                dest=name,
                default=argparse.SUPPRESS,
                metavar=_metavar(field),
                help=said if full else said.split(";")[0] if name in shown else argparse.SUPPRESS,
            )
            if old:
                group.add_argument(
                    _flag(old), dest=old, default=argparse.SUPPRESS, help=argparse.SUPPRESS
                )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(field: FieldInfo) -> str:
    """What the value is, and in brackets what it is where not given."""
    kind, default = _value(field.annotation), field.default
    plain = isinstance(default, str | int | float) and str(default) != ""
    return (
        f"{kind} ({str(default).lower() if isinstance(default, bool) else default})" * plain or kind
    )


def _value(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(each for each in get_args(kind) if each is not type(None))
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    return {bool: "{true,false}", int: "N", float: "X", Path: "DIR"}.get(kind, "VALUE")
