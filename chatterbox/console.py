"""What a person reads when a command is ready to work."""

import os
from pathlib import Path

from chatterbox import __version__
from chatterbox.config import ServerConfig
from chatterbox.families.model import ModelInfo

RULE = "*" * 78
HELLO = "Hello, this is Chatterbox speaking."


def ready_message(
    address: str, info: ModelInfo, took_s: float, *, voices: int, data_dir: Path, keyed: bool
) -> str:
    """What a person reads when the server is ready; the curl line works as printed, with a key in
    place of KEY where there are any."""
    key = '-H "Authorization: Bearer KEY" ' if keyed else ""
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
        f"ready in {took_s:.1f} s",
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
    """Loud, where what speaks is not what a person may think it is."""
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
    """Loud, where people elsewhere may use this server without being asked who they are."""
    if config.keys or config.is_local:
        return []
    return [
        RULE,
        f"* Listening on {config.host}, and no key is set: whoever reaches it can speak in every",
        "* voice, and add and delete voices. CHATTERBOX_API_KEYS=KEY lets in who knows the key;",
        "* docs/run/operations.md says more.",
        RULE,
    ]
