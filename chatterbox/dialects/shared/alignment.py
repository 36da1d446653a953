"""Character and word timestamps of speech.

The engine reports when each segment (one or more sentences) starts and ends. A segment's time is
divided evenly among its characters. While a segment is still being generated, its length is
estimated from its text; the estimate is corrected when the segment ends.
"""

import math
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.engine.speech_stream import SpeechReport

CHARS_PER_S = 15.0
"""Rate of English speech, to estimate the length of a segment that is still being generated."""
MAX_SHARE = 0.8
"""Largest share of a segment's characters that count as spoken while its end is unknown."""
_SAMPLE_S = 1 / SAMPLE_RATE_HZ
"""Tolerance when comparing two sums of the same durations, which may round differently."""
MAX_SKIPPED_WORDS = 8
"""Most consecutive written words without an equal spoken word (figures, addresses)."""
MAX_ADDED_WORDS = 120
"""Most spoken words that such words can become: a long number, read digit by digit."""
MAX_LONE_WORDS = 12
"""Most words that are skipped to reach a single equal word. For two equal words in a row the limit
is MAX_ADDED_WORDS."""
_WORD = re.compile(r"\S+")


@dataclass(slots=True)
class Alignment:
    """A text and the times at which its characters are spoken. Character `n` lasts from
    `bounds_s[n]` to `bounds_s[n + 1]`; there is one bound more than characters (none for no text).
    """

    text: str = ""
    bounds_s: list[float] = field(default_factory=list)

    def extend(self, later: "Alignment", offset_s: float = 0.0) -> None:
        """Append `later`, which starts at the end of this alignment. Its times count from
        `offset_s`."""
        if later.text:
            self.text += later.text
            self.bounds_s[-1:] = [offset_s + bound_s for bound_s in later.bounds_s]

    def scale(self, factor: float) -> None:
        """Multiply all times by `factor`, after a change of tempo. They stay correct to 50 ms."""
        self.bounds_s = [_floor_ms(bound_s * factor) for bound_s in self.bounds_s]

    def end_at(self, end_s: float) -> None:
        """Extend the last character to `end_s`, over the silence after it."""
        if self.text:
            self.bounds_s[-1] = max(self.bounds_s[-1], _floor_ms(end_s))


def spread(text: str, pause_s: float, start_s: float, end_s: float) -> Alignment:
    """Spread the characters of `text` evenly from `start_s` to `end_s`. Leading whitespace fills
    the pause before the text, which begins at `pause_s`."""
    blanks = len(text) - len(text.lstrip())
    spoken = len(text) - blanks
    bounds = [pause_s + (start_s - pause_s) * nth / blanks for nth in range(blanks)]
    bounds += [start_s + (end_s - start_s) * nth / spoken for nth in range(spoken)]
    return Alignment(text, [_floor_ms(bound) for bound in (*bounds, end_s)])


def _floor_ms(time_s: float) -> float:
    """Round down to a millisecond, so that no time is after the end of the audio."""
    return math.floor(time_s * 1000) / 1000


class Word(NamedTuple):
    text: str
    start_s: float
    end_s: float


class Timing:
    """Assigns times to a text as its audio is sent.

    `pieces[n]` is the part of the text that segment `n` speaks (`original_pieces`); `lead_s` is the
    silence before the first segment. Times count from the start of the audio, silence included:

        >>> timing = Timing(["Hi.", " Bye."], report)  # spoken from 0 to 0.3 s and 0.4 to 0.8 s
        >>> timing.until(0.6).text
        'Hi. B'
        >>> timing.until(0.8, last=True).text
        'ye.'
    """

    def __init__(self, pieces: Sequence[str], report: SpeechReport, lead_s: float = 0.0) -> None:
        self._report = report
        self._lead_s = lead_s
        self._pieces = pieces
        self._segment = 0
        self._emitted = 0  # characters of that segment already returned
        self._emitted_until_s = 0.0
        self._open_word = Alignment()  # a word whose end is not known yet

    def until(self, now_s: float, *, last: bool = False) -> Alignment:
        """Return the characters spoken between the last call and `now_s`; if there are any, they
        cover that time without a gap. `last` means that the audio ends at `now_s`: all remaining
        characters are returned."""
        found = Alignment()
        ends_s = self._report.segment_ends_s
        started = len(self._pieces if last else self._report.segment_starts_s)
        while (nth := self._segment) < min(started, len(self._pieces)):
            end_s = self._lead_s + ends_s[nth] if nth < len(ends_s) else None
            if end_s is None or end_s > now_s + _SAMPLE_S:
                if not last:
                    self._emit(found, self._spoken_chars(nth, now_s, end_s), now_s)
                    break
                end_s = now_s
            self._emit(found, len(self._pieces[nth]), end_s)
            self._segment, self._emitted = nth + 1, 0
        if last:
            found.end_at(now_s)
        return found

    def words(self, now_s: float, *, last: bool = False, offset_s: float = 0.0) -> list[Word]:
        """Return the words completed since the last call; the arguments are those of `until`.
        `offset_s` is added to the times."""
        found = self._open_word
        found.extend(self.until(now_s, last=last))
        text = found.text
        spans = [match.span() for match in _WORD.finditer(text)]
        self._open_word = Alignment()
        if spans and spans[-1][1] == len(text) and not last:
            start, _ = spans.pop()
            self._open_word = Alignment(text[start:], found.bounds_s[start:])
        times_s = [round(offset_s + bound_s, 3) for bound_s in found.bounds_s]
        return [Word(text[start:end], times_s[start], times_s[end]) for start, end in spans]

    def _start_s(self, nth: int) -> float:
        starts_s = self._report.segment_starts_s
        return self._lead_s + starts_s[nth] if nth < len(starts_s) else self._emitted_until_s

    def _spoken_chars(self, nth: int, now_s: float, end_s: float | None) -> int:
        """Return how many characters of segment `nth` are spoken by `now_s`; never all of them.
        `end_s` is None while the segment's end is unknown."""
        chars, spoken_s = len(self._pieces[nth]), now_s - self._start_s(nth)
        if spoken_s <= 0:
            return self._emitted
        if end_s is None:
            total_s = max(chars / CHARS_PER_S, spoken_s / MAX_SHARE)
        else:
            total_s = end_s - self._start_s(nth)
        return max(self._emitted, min(chars - 1, int(chars * spoken_s / total_s)))

    def _emit(self, found: Alignment, until: int, now_s: float) -> None:
        """Append the segment's characters before index `until` to `found`; they end at `now_s`."""
        piece = self._pieces[self._segment][self._emitted : until]
        if not piece:
            return
        pause_s = self._emitted_until_s
        start_s = min(max(pause_s, self._start_s(self._segment)), now_s)
        if not piece.strip():
            start_s = now_s
        elif self._emitted or not piece[0].isspace():
            start_s = pause_s  # without leading blanks, the first character covers the pause
        found.extend(spread(piece, pause_s, start_s, now_s))
        self._emitted, self._emitted_until_s = until, now_s


def original_pieces(text: str, segments: Sequence[str]) -> list[str]:
    """Cut `text`, as the client wrote it, into the pieces that `segments` speak.

        >>> original_pieces("Pay $5. Go.", ["Pay five dollars.", "Go."])
        ['Pay $5.', ' Go.']

    Joining the pieces gives `text`. Whitespace between two segments belongs to the later piece. A
    cut is exact where `text` and `segments` have the same words beside it, and interpolated
    elsewhere. Takes time roughly linear in the length of the text.
    """
    written = _words(text)
    spoken = [_words(segment) for segment in segments]
    keys = [key for words in spoken for _, key in words]
    spoken_chars = np.cumsum([0, *map(len, keys)])  # before word n
    written_chars = np.cumsum([0, *(len(key) for _, key in written)])
    spoken_anchors, written_anchors = [0], [0]  # equal positions in both forms
    for nth, at in _anchors([key for _, key in written], keys):
        spoken_anchors += [spoken_chars[nth], spoken_chars[nth + 1]]
        written_anchors += [written_chars[at], written_chars[at + 1]]
    firsts = np.cumsum([len(words) for words in spoken[:-1]], dtype=int)
    targets = np.interp(
        spoken_chars[firsts],
        [*spoken_anchors, spoken_chars[-1]],
        [*written_anchors, written_chars[-1]],
    )
    after = np.searchsorted(written_chars, targets)
    before = np.maximum(after - 1, 0)
    is_before = targets - written_chars[before] <= written_chars[after] - targets
    starts = [*(start for start, _ in written), len(text)]
    cuts = [0]
    for nearest in np.where(is_before, before, after):
        cuts.append(cuts[-1] + len(text[cuts[-1] : starts[nearest]].rstrip()))
    return [text[left:right] for left, right in pairwise([*cuts, len(text)])]


def _words(text: str) -> list[tuple[int, str]]:
    """Return the start of each word, and its letters and digits in lower case. Words without
    letters and digits are left out."""
    found = (
        (match.start(), "".join(filter(str.isalnum, match[0].casefold())))
        for match in _WORD.finditer(text)
    )
    return [(start, key) for start, key in found if key]


def _anchors(written: Sequence[str], spoken: Sequence[str]) -> list[tuple[int, int]]:
    """Match equal words in order. Returns their (spoken, written) indices, both ascending. After a
    difference, the next match is the one that skips the fewest words."""
    places: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(spoken):
        places[key].append(index)
    found: list[tuple[int, int]] = []
    at, nth = 0, 0  # next written and spoken word
    while at < len(written) and nth < len(spoken):
        matches = [(0, at, nth)] if written[at] == spoken[nth] else []
        ahead = range(at, min(at + MAX_SKIPPED_WORDS + 1, len(written)))
        for later_at in ahead if not matches else ():
            same = places.get(written[later_at], [])
            if (index := bisect_left(same, nth)) < len(same):
                later_nth = same[index]
                cost = (later_at - at) + (later_nth - nth)
                next_written = written[later_at + 1 : later_at + 2]
                is_pair = next_written == spoken[later_nth + 1 : later_nth + 2]
                if cost <= (MAX_ADDED_WORDS if is_pair else MAX_LONE_WORDS):
                    matches.append((cost, later_at, later_nth))
        if matches:
            _, at, nth = min(matches)
            found.append((nth, at))
            nth += 1
        at += 1
    return found
