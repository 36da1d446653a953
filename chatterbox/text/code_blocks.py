"""Fenced code in Markdown (``` or ~~~): where it begins and ends, and how it is skipped."""

import re
from typing import Literal

from chatterbox.text.markup import pause_mark

CodeBlocks = Literal["skip", "speak"]

SKIPPED_PAUSE_S = 0.3
"""What is heard of a block that is skipped."""

_OPENS = re.compile(r"[ \t>]*+(?:[-*+] |\d{1,3}[.)] )?+[ \t]*+(`{3,}+(?![^\n]*`)|~{3,}+)")


def opened_fence(line: str) -> str:
    """The fence with which `line` opens a block of code, or nothing. Inside a list or a quotation,
    too; but ```` ```this``` ```` is code inside a sentence."""
    found = _OPENS.match(line)
    return found[1] if found else ""


def closes_fence(line: str, fence: str) -> bool:
    """Whether `line` ends the block that `fence` opened."""
    written = line.strip().lstrip("> \t")
    return len(written) >= len(fence) and not written.strip(fence[0])


def skipped(text: str) -> str:
    """`text` with a short pause for each block of code; one that is not closed goes to the end."""
    if "```" not in text and "~~~" not in text:
        return text
    kept: list[str] = []
    fence = ""
    for line in text.splitlines(keepends=True):
        if fence:
            fence = "" if closes_fence(line, fence) else fence
        elif fence := opened_fence(line):
            kept.append(f"\n{pause_mark(SKIPPED_PAUSE_S)}\n")
        else:
            kept.append(line)
    return "".join(kept)
