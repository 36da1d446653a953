"""What a person reads when a command is ready to work."""

from chatterbox.config import ServerConfig, key_list
from chatterbox.families.model import ModelInfo

RULE = "*" * 78
HELLO = "Hello, this is Chatterbox speaking."


def ready_message(address: str, info: ModelInfo, took_s: float) -> str:
    """What a person reads when the server is ready; the curl line works as printed."""
    lines = [
        *model_notice(info),
        f"Ready at {address} after {took_s:.1f} s: "
        f"{info.name}, {info.precision_text}, {info.device}",
        "",
        f'  curl --fail-with-body -o hello.wav -F "text={HELLO}" -F stream=false {address}/tts',
        "",
        f"Calls: {address}/docs   Health: {address}/health",
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
    return [*lines, *(f"Note: {note}" for note in info.notes)]


def exposure_notice(config: ServerConfig) -> list[str]:
    """Loud, where people elsewhere may use this server without being asked who they are."""
    if key_list(config.api_keys) or config.is_local:
        return []
    return [
        RULE,
        f"* Listening on {config.host}, and no key is set: whoever reaches it can speak in every",
        "* voice, and add and delete voices. CHATTERBOX_API_KEYS=KEY lets in who knows the key;",
        "* docs/operations.md says more.",
        RULE,
    ]
