"""The flags of each command, its help and its examples; what a misspelt flag may have meant."""

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
FEW = ("model", "model_dtype", "data_dir", "device", "temperature")
"""Settings that commands without a server show in `--help`, beside their own flags."""
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
TRANSCRIPT_HELP = "what is said in the recording, for models that need to know"


class Parser(argparse.ArgumentParser):
    """A wrong word is answered with the one that may have been meant."""

    def error(self, message: str) -> NoReturn:
        """One line after the usage, and exit code 2."""
        if wrong := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            message += _meant(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        super().error(message)


def _meant(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _parsers(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Of its commands or actions."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The flags. They may stand anywhere: before the command, between it and its action, behind.
    Without a command they are those of `serve`."""
    at = 0
    while at < len(words) and words[at].startswith("--") and words[at] not in NO_COMMAND:
        at += 1 if "=" in words[at] or words[at] == HELP_ALL else 2
    command = words[at : at + 1] or ["serve"] * bool(words)
    words = [*command, *words[:at], *words[at + 1 :]]
    if made := _parsers(parser).get(words[0] if words else ""):
        known = {
            flag for p in (made, *_parsers(made).values()) for flag in p._option_string_actions
        }
        for word in itertools.takewhile(lambda word: word != "--", words):
            flag = word.split("=")[0]
            if flag.startswith("--") and " " not in flag and flag not in known:
                made.error(f"unrecognized arguments: {flag}{_meant(flag, known)}")
    return parser.parse_args(words)


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
                "--" + name.replace("_", "-"),
                dest=name,
                default=argparse.SUPPRESS,
                metavar=_metavar(field),
                help=said if full else said.split(";")[0] if name in shown else argparse.SUPPRESS,
            )
            if old:
                flag = "--" + old.replace("_", "-")
                group.add_argument(flag, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


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


def command_line(
    runs: Mapping[str, Callable[[argparse.Namespace], int]], *, full: bool = False
) -> argparse.ArgumentParser:
    """The parser. `runs`: what each command does with its flags. `full`: help shows every flag."""
    parser = Parser(
        prog="chatterbox",
        description="Text and a few seconds of a voice in, that voice speaking out.",
        epilog="Every setting is also read from CHATTERBOX_<NAME> and from a file `.env`.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"chatterbox {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        usage: str, said: str, *configs: type[Settings], shown: Container[str] = EVERYTHING
    ) -> argparse.ArgumentParser:
        name = usage.split()[0]
        examples = "".join(f"\n  chatterbox {example}" for example in EXAMPLES.get(name, ()))
        made = commands.add_parser(
            name,
            help=said,
            usage=f"chatterbox {usage}",
            description=said[0].upper() + said[1:] + "." + examples,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        made.set_defaults(run=runs[name])
        made.add_argument(HELP_ALL, action="help", help="every flag, with what it does")
        if ServerConfig in configs:
            add_flags(made, *configs, TTSConfig, shown=shown, full=full)
        else:
            add_flags(made, TTSConfig, shown=FEW, full=full)
        return made

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
    say.add_argument("text", help="what to say; - reads it from standard input")
    say.add_argument("--voice", metavar="FILE|NAME", help="a recording, or a voice's id or name")
    say.add_argument("--transcript", metavar="TEXT", help=TRANSCRIPT_HELP)
    say.add_argument(
        "--out",
        type=Path,
        default=Path("speech.wav"),
        metavar="FILE (speech.wav)",
        help="its ending is the format",
    )
    say.add_argument("--seed", type=int, metavar="N", help="equal seeds, equal speech")

    voices = command(
        "voices [FLAGS] [list | add | delete | export | import]", "list and manage voices"
    )
    voices.set_defaults(action="list")
    actions = voices.add_subparsers(metavar="ACTION", dest="action", prog="chatterbox voices")

    def action(name: str, said: str) -> argparse.ArgumentParser:
        made = actions.add_parser(
            name, help=said, formatter_class=HelpFormatter, allow_abbrev=False
        )
        made.add_argument(HELP_ALL, action="help", help="every flag, with what it does")
        add_flags(made, TTSConfig, shown=(), full=full)
        return made

    action("list", "all voices (the default action)")
    add = action("add", "register a recording")
    add.add_argument("file", type=Path)
    add.add_argument("--name")
    add.add_argument("--transcript", metavar="TEXT", help=TRANSCRIPT_HELP)
    delete = action("delete", "forget a voice")
    delete.add_argument("voice", metavar="ID|NAME")
    export = action("export", "write a voice to one file")
    export.add_argument("voice", metavar="ID|NAME")
    export.add_argument("file", type=Path)
    take = action("import", "read a voice that was exported")
    take.add_argument("file", type=Path)

    command("compile [FLAGS]", "compile the model now, so that the first start need not")
    health = command(
        "health [--pid PID] [FLAGS]",
        "ask whether a server is alive: exit code 0 or 1",
        ServerConfig,
        shown=("host", "port", "api_keys"),
    )
    health.add_argument(
        "--pid", type=int, metavar="PID", help="a process with the server's flags (Linux)"
    )
    return parser
