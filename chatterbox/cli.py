"""The `chatterbox` command: runs a subcommand and returns its exit code.

Each subcommand imports the packages it needs when it runs, so that `--help` is quick.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chatterbox import __version__
from chatterbox.command_line import HELP_ALL, command_line, parse
from chatterbox.config import (
    ServerConfig,
    TTSConfig,
    configs_of,
    load,
    prepare_ray,
    renamed_settings,
    unknown_environment,
)
from chatterbox.errors import (
    EXIT_BAD_CONFIG,
    EXIT_BAD_MODEL,
    ChatterboxError,
    ConfigError,
    ModelError,
    VoiceNotFound,
)
from chatterbox.hardening import deny_inspection, make_files_private

if TYPE_CHECKING:
    from chatterbox.engine.engine import TTSEngine
    from chatterbox.engine.speech_stream import SpeechReport
    from chatterbox.families.base import Voice

EXIT_FAILED = 1
"""The command is valid but failed, for example on a bad recording or an unknown voice."""
EXIT_INTERRUPTED = 130
EXIT_SIGNAL_BASE = 128
"""Exit code 128 + n means that signal n stopped the process."""
HEALTH_TIMEOUT_S = 4.0
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `serve` exits the process instead."""
    arguments = sys.argv[1:] if argv is None else argv
    flags = parse(command_line(COMMANDS, full=HELP_ALL in arguments), arguments)
    try:
        code: int = flags.run(flags)
    except ConfigError as fault:
        code = _fail(str(fault), EXIT_BAD_CONFIG)
    except ModelError as fault:
        code = _fail(str(fault), EXIT_BAD_MODEL)
    except ChatterboxError as fault:
        code = _fail(fault.message)
    except OSError as fault:
        code = _fail(f"{fault.filename}: {fault.strerror}" if fault.filename else str(fault))
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    if flags.run is _serve:
        # Threads may still be inside a download, a driver or a graph. A normal interpreter exit
        # could hang or crash on them and lose the exit code.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _fail(message: str, code: int = EXIT_FAILED) -> int:
    """Print an error message and return the exit code."""
    print(f"chatterbox: {message}", file=sys.stderr)
    return code


def _warn_about_settings(flags: argparse.Namespace) -> None:
    """Warn about settings that do not exist and settings given by their old name."""
    for line in renamed_settings(vars(flags)):
        print(f"chatterbox: warning: {line}; the next version drops the old name", file=sys.stderr)
    for name in unknown_environment():
        print(f"chatterbox: warning: there is no setting {name}; ignored", file=sys.stderr)


def _serve(flags: argparse.Namespace) -> int:
    started = time.monotonic()
    make_files_private()
    deny_inspection()
    tts_config = load(TTSConfig, vars(flags))
    server_config = load(ServerConfig, vars(flags))
    configs = configs_of(tts_config, server_config.models)
    _warn_about_settings(flags)

    from chatterbox.logs import log_formatter

    handler = logging.StreamHandler()
    handler.setFormatter(log_formatter(server_config.log_format, tty=sys.stderr.isatty()))
    logging.basicConfig(level=server_config.log_level.upper(), handlers=[handler])
    for name in ("uvicorn.error", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)

    from chatterbox.server.run import address_of, bind

    sock = bind(server_config.host, server_config.port)
    print(f"Chatterbox {__version__}: loading at {address_of(sock)} (Ctrl-C stops)", flush=True)

    from chatterbox.console import exposure_notice, ready_message
    from chatterbox.dialects.registry import DIALECTS
    from chatterbox.server.model_pool import ModelPool
    from chatterbox.server.run import serve

    for line in exposure_notice(server_config):
        print(line, file=sys.stderr, flush=True)
    models = ModelPool(configs, server_config)

    def announce(address: str) -> None:
        engine = models.default.engine
        assert engine is not None, "the server is ready, so the default model is loaded"
        for note in engine.info.notes:
            logging.debug("%s", note)
        _print(
            ready_message(
                address,
                engine.info,
                time.monotonic() - started,
                voices=len(engine.voices.list()),
                data_dir=tts_config.data_dir,
                needs_key=bool(server_config.keys),
            )
        )

    code = serve(models, server_config, DIALECTS, sock, announce)
    if code > EXIT_SIGNAL_BASE:
        _print("Stopped.")
    return code


def _print(text: str) -> None:
    """Print `text`, escaping characters that the encoding of standard output lacks."""
    encoding = sys.stdout.encoding or "ascii"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def _cluster(flags: argparse.Namespace) -> int:
    make_files_private()
    _warn_about_settings(flags)
    prepare_ray()
    try:
        from chatterbox.cluster.application import run
    except ModuleNotFoundError as fault:
        if fault.name != "ray":
            raise
        raise ConfigError("Ray is missing: pip install -r requirements-cluster.txt") from None
    return run(vars(flags), _print)


def _health(flags: argparse.Namespace) -> int:
    import http.client

    arguments: Sequence[str] = []
    if flags.pid is not None:  # the arguments after `chatterbox` of the server's command line
        command = Path(f"/proc/{flags.pid}/cmdline").read_text("utf-8", "replace").split("\0")
        arguments = command[command.index("chatterbox") + 1 : -1] if "chatterbox" in command else []
    server_flags = vars(parse(command_line(COMMANDS), arguments)) if arguments else {}
    config = load(ServerConfig, {**server_flags, **vars(flags)})
    host = ANY_ADDRESS.get(config.host, config.host)
    connection = http.client.HTTPConnection(host, config.port, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/health/live")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as fault:
        return _fail(f"{host}:{config.port} does not answer: {fault or type(fault).__name__}")
    finally:
        connection.close()
    return 0 if status == http.HTTPStatus.OK else _fail(f"{host}:{config.port} answers {status}")


def _say(flags: argparse.Namespace) -> int:
    from chatterbox.audio.encode import FORMATS
    from chatterbox.console import model_notice

    out: Path = flags.out
    if out.suffix.lstrip(".").lower() not in FORMATS:
        raise ConfigError(f"--out {out}: the file must end in .{' or .'.join(FORMATS)}")
    if flags.seed is not None and not 0 <= flags.seed < 2**32:
        raise ConfigError(f"--seed {flags.seed}: from 0 to {2**32 - 1}")
    text = sys.stdin.read() if flags.text == "-" else flags.text
    with _engine(flags) as engine:
        for line in model_notice(engine.info):
            print(line, file=sys.stderr)
        started = time.monotonic()
        voice = _find_voice(engine, flags.voice, flags.transcript)
        report = asyncio.run(_speak(engine, text, voice, flags.seed, out))
        elapsed_s = time.monotonic() - started
        print(
            f"{out}: {report.audio_s:.1f} s of speech in {elapsed_s:.1f} s "
            f"({engine.info.name}, {engine.info.precision_text}, {engine.info.device})"
        )
    return 0


async def _speak(
    engine: "TTSEngine", text: str, voice: "Voice", seed: int | None, out: Path
) -> "SpeechReport":
    import secrets

    import numpy as np

    from chatterbox.audio.encode import audio_format
    from chatterbox.engine.speech_stream import SpeechRequest

    request = SpeechRequest(
        text=text,
        voice=voice,
        sampling=engine.sampling(),
        seed=secrets.randbits(32) if seed is None else seed,
        deterministic=True,
    )
    async with engine.speak(request) as stream:
        samples = [piece async for piece in stream]
    encoder = audio_format(out.suffix.lstrip(".").lower())
    await asyncio.to_thread(out.write_bytes, encoder.encode_whole(np.concatenate(samples)))
    return stream.report


def _find_voice(engine: "TTSEngine", name: str | None, transcript: str | None) -> "Voice":
    """Return the voice for `--voice`: a recording's path, a voice's id or name, or None for the
    default voice. Raises ConfigError if there is no such file or voice."""
    if name is not None and Path(name).is_file():
        voice, report = engine.voices.temporary_voice(Path(name).read_bytes(), transcript)
        for warning in report.warnings:
            print(f"{name}: {warning}", file=sys.stderr)
        return voice
    if name is None:
        engine.voices.check_default()
    try:
        return engine.voices.get(name)
    except VoiceNotFound:
        raise ConfigError(
            f"--voice {name}: neither a file nor a voice; `chatterbox voices` lists the voices"
        ) from None


def _voices(flags: argparse.Namespace) -> int:
    from chatterbox.voices.command import run

    with _engine(flags) as engine:
        run(engine.voices, flags)
    return 0


def _compile(flags: argparse.Namespace) -> int:
    make_files_private()
    config = _model_config(flags)

    from chatterbox.families.load import compile_model

    started = time.monotonic()
    for model_config in configs_of(config, load(ServerConfig, vars(flags)).models).values():
        for line in compile_model(model_config, logging.warning):
            print(line)
    print(
        f"Compiled in {time.monotonic() - started:.1f} s; cached in {config.data_dir / 'compiled'}"
    )
    return 0


def _model_config(flags: argparse.Namespace) -> TTSConfig:
    """Load the settings of a command that runs without a server; log warnings to the console."""
    config = load(TTSConfig, vars(flags))
    _warn_about_settings(flags)
    logging.basicConfig(level=logging.WARNING, format="chatterbox: %(message)s")
    return config


@contextlib.contextmanager
def _engine(flags: argparse.Namespace) -> "Iterator[TTSEngine]":
    """Load an engine for one command and close it afterwards."""
    config = _model_config(flags)

    from chatterbox.engine.engine import TTSEngine

    engine = TTSEngine(config)
    try:
        engine.load()
        yield engine
    finally:
        engine.close()


COMMANDS = {
    "serve": _serve,
    "cluster": _cluster,
    "say": _say,
    "voices": _voices,
    "compile": _compile,
    "health": _health,
}
