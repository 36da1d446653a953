"""Which of a call's parameters change nothing? Named in the answer, never passed over in silence.

Native calls refuse what they cannot honour; dialects whose clients insist take it in and say so.
"""

from collections.abc import Iterable

from chatterbox.errors import shown

HEADER = "X-Ignored-Params"
MAX_NAMED = 16
"""A header has its bounds; a call has no more parameters than this to ignore."""


def ignored_header(names: Iterable[str]) -> dict[str, str]:
    """The header that names them, in their order; no header where there are none."""
    named = [_word(name) for name in dict.fromkeys(names)]
    if len(named) > MAX_NAMED:
        named[MAX_NAMED - 1 :] = ["..."]
    return {HEADER: ", ".join(named)} if named else {}


def _word(name: str) -> str:
    """No comma, which parts them; and no blank or nothing at an end, which no header may have."""
    return shown(name).replace(",", "\\x2c").replace(" ", "\\x20") or '""'
