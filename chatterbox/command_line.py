"""The flags of each command, its help and its examples; what a misspelt flag may have meant."""

import argparse
import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from chatterbox import __version__
from chatterbox.config import (
    ClusterConfig,
    HelpFormatter,
    ServerConfig,
    Settings,
    TTSConfig,
    add_flags,
)

HELP_ALL = "--help-all"
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
TRANSCRIPT_HELP = "what is said in the recording, for models that need to know"


def not_understood(parser: argparse.ArgumentParser, words: Sequence[str]) -> str:
    """What was not understood, and what may have been meant."""
    wrong = next((word.split("=")[0] for word in words if word.startswith("--")), "")
    known = [flag for action in parser._actions for flag in action.option_strings]
    near = difflib.get_close_matches(wrong, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"unrecognized arguments: {' '.join(words)}{hint}"


def command_line(
    runs: Mapping[str, Callable[[argparse.Namespace], int]], *, full: bool = False
) -> argparse.ArgumentParser:
    """The parser. `runs`: what each command does with its flags. `full`: help shows every flag."""
    parser = argparse.ArgumentParser(
        prog="chatterbox",
        description="Text and a few seconds of a voice in, that voice speaking out.",
        epilog="Every setting is also read from CHATTERBOX_<NAME> and from a file `.env`.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"chatterbox {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(usage: str, said: str, *configs: type[Settings]) -> argparse.ArgumentParser:
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
        made.set_defaults(run=runs[name], parser=made)
        made.add_argument(HELP_ALL, action="help", help="every flag, with what it does")
        if ServerConfig in configs:
            add_flags(made, *configs, TTSConfig, full=full)
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
    )
    health.add_argument(
        "--pid", type=int, metavar="PID", help="a process with the server's flags (Linux)"
    )
    return parser
