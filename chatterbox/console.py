"""What does a person read when a command is ready to work?

Knows what was loaded; prints nothing itself.
"""

from chatterbox.model.load import ModelInfo

HELLO = "Hello, this is Chatterbox speaking."


def ready_message(address: str, info: ModelInfo, took_s: float) -> str:
    """What a person reads when the server is ready; the curl line works as printed."""
    lines = [
        *model_notice(info),
        f"Ready at {address} after {took_s:.1f} s: "
        f"{info.name}, {info.precision_text}, {info.device}",
        "",
        f'  curl -f -o hello.wav -F "text={HELLO}" {address}/tts',
        "",
        f"Calls: {address}/docs   Health: {address}/health",
    ]
    return "\n".join(lines)


def model_notice(info: ModelInfo) -> list[str]:
    """Loud, where what speaks is not what a person may think it is."""
    lines: list[str] = []
    if info.name == "mini":
        rule = "*" * 78
        lines = [
            rule,
            "* This is `mini`, a small demonstration model. It is NOT Chatterbox Turbo:",
            "* it shows that everything works, but does not sound like it.",
            *([f"* Why: {info.fallback}."] if info.fallback else []),
            rule,
        ]
    return [*lines, *(f"Note: {note}" for note in info.notes)]
