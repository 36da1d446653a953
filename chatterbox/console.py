"""Messages on the terminal: ready, demonstration model, no key set."""

import os
from pathlib import Path

from chatterbox import __version__
from chatterbox.config import ServerConfig
from chatterbox.families.model import ModelInfo

RULE = "*" * 78
HELLO = "Hello, this is Chatterbox speaking."


def ready_message(
    address: str, info: ModelInfo, elapsed_s: float, *, voices: int, data_dir: Path, needs_key: bool
) -> str:
    """Return the message that announces a ready server. Its curl line works as printed, once KEY is
    replaced by a key if the server needs one."""
    key = '-H "Authorization: Bearer KEY" ' if needs_key else ""
    device = "CPU" if info.device == "cpu" else info.device
    home, data = str(Path.home()), str(data_dir)
    if data.startswith(home + os.sep):
        data = "~" + data[len(home) :]
    facts = [
        f"Chatterbox {__version__}",
        f"{info.name} {info.precision_text}",
        device,
        f"{voices} voice{'' if voices == 1 else 's'}",
        f"data in {data}",
        f"ready in {elapsed_s:.1f} s",
    ]
    lines = [
        *model_notice(info),
        " · ".join(facts),
        f"  Open  {address}",
        f'  Try   curl --fail-with-body -o hello.wav {key}-F "text={HELLO}" -F stream=false'
        f" {address}/tts",
        f"  API   {address}/docs",
        "  Stop  Ctrl-C",
    ]
    return "\n".join(lines)


def model_notice(info: ModelInfo) -> list[str]:
    """Return warnings about the loaded model: the demonstration model, a slow form, the device."""
    lines: list[str] = []
    if info.name == "mini":
        lines = [
            RULE,
            "* This is `mini`, a small demonstration model. It is NOT Chatterbox Turbo:",
            "* it shows that everything works, but does not sound like it.",
            *([f"* Why: {info.fallback}."] if info.fallback else []),
            RULE,
        ]
    if info.slowness:
        lines += [RULE, f"* {info.slowness}", RULE]
    if info.device_note:
        lines.append(f"Note: {info.device_note}")
    return lines


def exposure_notice(config: ServerConfig) -> list[str]:
    """Return a warning if other machines can reach the server and no key is set."""
    if config.keys or config.is_local:
        return []
    return [
        RULE,
        f"* Listening on {config.host} with no key set: anyone who can reach the server can speak",
        "* in every voice and add or delete voices. Set CHATTERBOX_API_KEYS=KEY to require a key;",
        "* see docs/run/operations.md.",
        RULE,
    ]
