"""Which characters belong to the audio that is being sent, and which words they complete.

Pure. Where a segment begins and ends is exact once known. Until its end is known, its length is
estimated from its text, and the error is corrected at its end.
"""

from dataclasses import dataclass

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.dialects.shared.alignment import Alignment, original_pieces, spread
from chatterbox.engine.speech_stream import SpeechReport

CHARS_PER_S = 15.0
"""English speech: the estimate for a segment that is still being generated."""
MOST_SHARE = 0.8
"""While a segment's end is unknown, at most this share of its characters counts as spoken."""
_SAMPLE_S = 1 / SAMPLE_RATE_HZ  # two sums of the same pieces may differ by less


class Timing:
    """Times of one text's characters, counted from its audio's start (`lead_s` of silence)."""

    def __init__(self, text: str, report: SpeechReport, lead_s: float = 0.0) -> None:
        self._report = report
        self._lead_s = lead_s
        self._pieces = original_pieces(text, report.segment_texts)
        self._segment = 0
        self._emitted = 0  # characters of the segment
        self._emitted_until_s = 0.0

    def until(self, now_s: float) -> Alignment:
        """The characters from where the last call left off to the moment `now_s` of the sound;
        where there are any, they fill that time from end to end."""
        found = Alignment()
        report = self._report
        while self._segment < len(self._pieces):
            nth = self._segment
            if nth >= len(report.segment_starts_s):
                break
            end_s = None
            if nth < len(report.segment_ends_s):
                end_s = self._lead_s + report.segment_ends_s[nth]
            if end_s is None or end_s > now_s + _SAMPLE_S:
                self._emit(found, self._share(nth, now_s, end_s), now_s)
                break
            self._emit(found, len(self._pieces[nth]), end_s)
            self._segment, self._emitted = nth + 1, 0
        return found

    def rest(self, now_s: float) -> Alignment:
        """The remaining characters, when the audio is complete and `now_s` long."""
        found = self.until(now_s)
        while self._segment < len(self._pieces):
            self._emit(found, len(self._pieces[self._segment]), now_s)
            self._segment, self._emitted = self._segment + 1, 0
        found.end_at(now_s)
        return found

    def _start_s(self, nth: int) -> float:
        starts_s = self._report.segment_starts_s
        return self._lead_s + starts_s[nth] if nth < len(starts_s) else self._emitted_until_s

    def _share(self, nth: int, now_s: float, end_s: float | None) -> int:
        """How many characters of the segment have been spoken by now; never all of them."""
        start_s = self._start_s(nth)
        chars = len(self._pieces[nth])
        spoken_s = now_s - start_s
        if spoken_s <= 0:
            return self._emitted
        if end_s is None:
            whole_s = max(chars / CHARS_PER_S, spoken_s / MOST_SHARE)
        else:
            whole_s = end_s - start_s
        return max(self._emitted, min(chars - 1, int(chars * spoken_s / whole_s)))

    def _emit(self, found: Alignment, until: int, now_s: float) -> None:
        piece = self._pieces[self._segment][self._emitted : until]
        if not piece:
            return
        since_s = self._emitted_until_s
        start_s = self._start_s(self._segment)
        start_s = min(max(since_s, start_s), now_s)
        if self._emitted or piece[:1].strip():
            start_s = since_s  # no blank leads it: the pause before it is its own
        if piece.strip():
            found.extend(spread(piece, since_s, start_s, now_s))
        else:
            found.extend(_evenly(piece, since_s, now_s))
        self._emitted = max(self._emitted, until)
        self._emitted_until_s = now_s


def _evenly(text: str, since_s: float, now_s: float) -> Alignment:
    step_s = (now_s - since_s) / len(text)
    bounds = [since_s + step_s * nth for nth in range(len(text))]
    return Alignment(list(text), bounds, [*bounds[1:], now_s])


@dataclass(frozen=True, slots=True)
class Word:
    """A word and when it is spoken."""

    text: str
    start_s: float
    end_s: float


class Words:
    """Characters in pieces become whole words."""

    def __init__(self) -> None:
        self._text = ""
        self._start_s = 0.0
        self._end_s = 0.0

    def feed(self, alignment: Alignment, offset_s: float = 0.0) -> list[Word]:
        """The words that these characters complete."""
        words = []
        for character, start_s, end_s in zip(
            alignment.characters, alignment.starts_s, alignment.ends_s, strict=True
        ):
            if character.isspace():
                words += self.flush()
                continue
            if not self._text:
                self._start_s = offset_s + start_s
            self._text += character
            self._end_s = offset_s + end_s
        return words

    def flush(self) -> list[Word]:
        """The word that was begun, if one was."""
        if not self._text:
            return []
        word = Word(self._text, round(self._start_s, 3), round(self._end_s, 3))
        self._text = ""
        return [word]
