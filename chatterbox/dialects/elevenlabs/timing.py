"""When each character is spoken, as ElevenLabs' clients read it."""

import base64
from typing import Any

from chatterbox.dialects.shared.alignment import Alignment, original_pieces, spread
from chatterbox.engine.speech_stream import SpeechReport


class Timing:
    """The alignment, of the text as written and as spoken, in the order that it becomes known."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._pieces: list[str] | None = None
        self._sent = 0  # segments
        self._end_s = 0.0  # of the last segment sent

    def news(self, report: SpeechReport) -> tuple[Alignment, Alignment]:
        """What became known since the last time."""
        if self._pieces is None:
            self._pieces = original_pieces(self._text, report.segment_texts)
        original, spoken = Alignment(), Alignment()
        for nth in range(self._sent, len(report.segment_ends_s)):
            times = (self._end_s, report.segment_starts_s[nth], report.segment_ends_s[nth])
            text = report.segment_texts[nth]
            original.extend(spread(self._pieces[nth], *times))
            spoken.extend(spread(" " + text if nth else text, *times))
            self._end_s = report.segment_ends_s[nth]
        self._sent = len(report.segment_ends_s)
        return original, spoken


def timed_audio(data: bytes, alignment: Alignment, normalised: Alignment) -> dict[str, Any]:
    """Sound and times as their clients read them."""
    return {
        "audio_base64": base64.b64encode(data).decode("ascii"),
        "alignment": _times(alignment),
        "normalized_alignment": _times(normalised),
    }


def _times(alignment: Alignment) -> dict[str, Any] | None:
    if not alignment.characters:
        return None
    return {
        "characters": alignment.characters,
        "character_start_times_seconds": alignment.starts_s,
        "character_end_times_seconds": alignment.ends_s,
    }
