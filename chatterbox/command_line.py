"""Argument parser of the `chatterbox` command: subcommands, flags, help and spelling hints."""

import argparse
import difflib
import itertools
import re
import types
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from chatterbox import __version__
from chatterbox.config import ClusterConfig, ServerConfig, Settings, TTSConfig
from chatterbox.config.sources import OLD_NAMES

HELP_ALL = "--help-all"
NO_COMMAND = ("--help", "--version")
BASIC_SETTINGS = ("model", "model_dtype", "data_dir", "device", "temperature")
"""Settings in the `--help` of commands that run without a server, besides their own flags."""
EXAMPLES = {
    "serve": (
        "serve",
        "serve --port 9000 --model mini",
        "serve --device cuda --max-concurrent-requests 32",
    ),
    "cluster": (
        "cluster --replicas 4 --gpus-per-replica 1",
        "cluster --replicas 2 --max-replicas 8 --gpus-per-replica 1 --cluster-address auto",
    ),
    "say": (
        'say "Hello there."',
        'say "Hello there." --voice me.wav --out hello.mp3',
        "say - --seed 7 < text.txt",
    ),
    "voices": (
        "voices",
        "voices add me.wav --name me",
        "voices export me me.voice",
    ),
}
GROUPS = {
    "Replicas": "replicas max_replicas gpus_per_replica cpus_per_replica cluster_address dashboard",
    "Network": "host port api_keys allowed_hosts cors_origins wyoming_port log_level log_format",
    "Model and device": "model models model_dtype data_dir device gpu_device_id threads",
    "Voices": "default_voice max_voices max_reference_s max_voice_file_size apply_watermark",
    "Limits": "max_concurrent_requests max_queued_requests max_text_length request_timeout_s "
    "first_audio_timeout_s drain_timeout_s max_requests_per_key max_connections",
    "Sampling": "temperature top_k top_p min_p repetition_penalty max_new_tokens",
}
"""Settings that `--help` shows, by group. `--help-all` also shows all others, as "Expert"."""
EXPERT = "Expert"
GROUPED_SETTINGS = frozenset(name for names in GROUPS.values() for name in names.split())
TRANSCRIPT_HELP = "the words spoken in the recording, for models that need them"
HELP_ALL_HELP = "list all flags with full descriptions"


class Parser(argparse.ArgumentParser):
    """Argument parser that suggests the closest valid spelling of a misspelt command."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message with a suggestion, then exit with code 2."""
        if wrong := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            message += _suggestion(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        super().error(message)


def _suggestion(word: str, choices: Iterable[str]) -> str:
    closest = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean {closest[0]}?" if closest else ""


def _subparsers(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the parsers of a parser's commands or actions, by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line. Flags may stand before the command, between the command and its action,
    or at the end. Flags without a command belong to `serve`."""
    at = 0
    while (
        at < len(arguments) and arguments[at].startswith("--") and arguments[at] not in NO_COMMAND
    ):
        at += 1 if "=" in arguments[at] or arguments[at] == HELP_ALL else 2
    command = arguments[at : at + 1] or ["serve"] * bool(arguments)
    arguments = [*command, *arguments[:at], *arguments[at + 1 :]]
    if sub := _subparsers(parser).get(arguments[0] if arguments else ""):
        known = {
            flag for p in (sub, *_subparsers(sub).values()) for flag in p._option_string_actions
        }
        for argument in itertools.takewhile(lambda argument: argument != "--", arguments):
            flag = argument.split("=")[0]
            if flag.startswith("--") and " " not in flag and flag not in known:
                sub.error(f"unrecognized arguments: {flag}{_suggestion(flag, known)}")
    return parser.parse_args(arguments)


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help formatter wide enough to show each flag on one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=46, width=120)


def add_flags(
    parser: argparse.ArgumentParser,
    *configs: type[Settings],
    visible: Container[str] = GROUPED_SETTINGS,
    full: bool = False,
) -> None:
    """Add one `--flag-name` for each setting of `configs`, which validate the values later.

    Help lists the settings in `visible` with the first clause of their description; if `full`, all
    settings with the whole description.
    """
    fields = {name: field for config in configs for name, field in config.model_fields.items()}
    groups = {title: [n for n in names.split() if n in fields] for title, names in GROUPS.items()}
    groups[EXPERT] = [name for name in fields if name not in GROUPED_SETTINGS]
    for title, names in groups.items():
        if not names:
            continue
        grouped = full or visible is GROUPED_SETTINGS
        group = parser.add_argument_group(title) if grouped else parser
        for name in names:
            field, old = fields[name], OLD_NAMES.get(name)
            text = " ".join((field.description or "").split()).replace("%", "%%")
            if not full:
                text = text.split(";")[0] if name in visible else argparse.SUPPRESS
            group.add_argument(
                "--" + name.replace("_", "-"),
                dest=name,
                default=argparse.SUPPRESS,
                metavar=_metavar(field),
                help=text,
            )
            if old:
                flag = "--" + old.replace("_", "-")
                group.add_argument(flag, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _metavar(field: FieldInfo) -> str:
    """Return a placeholder for a setting's value, such as `N (8000)`: the kind and the default."""
    kind, default = _kind_of_value(field.annotation), field.default
    if not isinstance(default, str | int | float) or default == "":
        return kind
    return f"{kind} ({str(default).lower() if isinstance(default, bool) else default})"


def _kind_of_value(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(option for option in get_args(kind) if option is not type(None))
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    return {bool: "{true,false}", int: "N", float: "X", Path: "DIR"}.get(kind, "VALUE")


def command_line(
    runs: Mapping[str, Callable[[argparse.Namespace], int]], *, full: bool = False
) -> argparse.ArgumentParser:
    """Build the parser. `runs` maps commands to functions; `full` lists every flag in the help."""
    parser = Parser(
        prog="chatterbox",
        description="A speech server that clones a voice from a few seconds of audio.",
        epilog="Every setting is also read from CHATTERBOX_<NAME> and from a file `.env`.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"chatterbox {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        usage: str,
        summary: str,
        *configs: type[Settings],
        visible: Container[str] = GROUPED_SETTINGS,
    ) -> argparse.ArgumentParser:
        name = usage.split()[0]
        examples = "".join(f"\n  chatterbox {example}" for example in EXAMPLES.get(name, ()))
        sub = commands.add_parser(
            name,
            help=summary,
            usage=f"chatterbox {usage}",
            description=summary[0].upper() + summary[1:] + "." + examples,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(run=runs[name])
        sub.add_argument(HELP_ALL, action="help", help=HELP_ALL_HELP)
        add_flags(
            sub, *configs, TTSConfig, visible=visible if configs else BASIC_SETTINGS, full=full
        )
        return sub

    command("serve [FLAGS]", "run the server", ServerConfig)
    command(
        "cluster [FLAGS]",
        "run several servers behind one address, on one machine or many",
        ClusterConfig,
        ServerConfig,
    )
    say = command(
        "say TEXT [--voice FILE|NAME] [--out FILE] [--seed N] [FLAGS]",
        "speak into a file, without a server",
    )
    say.add_argument("text", help="the text to speak; - reads it from standard input")
    say.add_argument("--voice", metavar="FILE|NAME", help="a recording, or a voice's id or name")
    say.add_argument("--transcript", metavar="TEXT", help=TRANSCRIPT_HELP)
    say.add_argument(
        "--out",
        type=Path,
        default=Path("speech.wav"),
        metavar="FILE (speech.wav)",
        help="output file; its extension selects the format",
    )
    say.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same speech")

    voices = command(
        "voices [FLAGS] [list | add | delete | export | import]", "list and manage voices"
    )
    voices.set_defaults(action="list")
    actions = voices.add_subparsers(metavar="ACTION", dest="action", prog="chatterbox voices")

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(
            name, help=summary, formatter_class=HelpFormatter, allow_abbrev=False
        )
        sub.add_argument(HELP_ALL, action="help", help=HELP_ALL_HELP)
        add_flags(sub, TTSConfig, visible=(), full=full)
        return sub

    action("list", "list all voices (the default action)")
    add = action("add", "register a recording")
    add.add_argument("file", type=Path)
    add.add_argument("--name")
    add.add_argument("--transcript", metavar="TEXT", help=TRANSCRIPT_HELP)
    delete = action("delete", "delete a voice")
    delete.add_argument("voice", metavar="ID|NAME")
    export = action("export", "write a voice to one file")
    export.add_argument("voice", metavar="ID|NAME")
    export.add_argument("file", type=Path)
    import_ = action("import", "add a voice from an exported file")
    import_.add_argument("file", type=Path)

    command("compile [FLAGS]", "compile the model ahead of the first start")
    health = command(
        "health [--pid PID] [FLAGS]",
        "check whether a server is alive; exit code 0 or 1",
        ServerConfig,
        visible=("host", "port", "api_keys"),
    )
    health.add_argument(
        "--pid",
        type=int,
        metavar="PID",
        help="process id of the server, whose flags are used (Linux)",
    )
    return parser
