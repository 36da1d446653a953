"""Finds the speech in a recording, and the best stretch of it for a reference.

Frame levels in, sample positions out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import F32, SAMPLE_RATE_HZ

FRAME_SAMPLES = SAMPLE_RATE_HZ // 50
"""20 ms, the usual step of speech activity: a pitch period fits in, a syllable does not."""
FRAMES_AT_ONCE = 3000
"""One minute: an hour at once would need gigabytes in between."""
FLOOR_DB = -60.0
"""Frames below this are silence whatever the rest is; quiet rooms record near -60 dBFS."""
BELOW_LOUD_DB = 35.0
"""Frames this far below the loud ones are pauses: consonants lie up to 30 dB below vowels."""
QUIET, LOUD = 5, 95  # percentiles of the levels
LEAD_FRAMES = 3
"""Kept before the first sound: an onset's quiet beginning."""
TAIL_FRAMES = 10
"""Kept after the last sound: its decay."""
PAUSE_FRAMES = 6
"""A pause between words or clauses; closures inside a word are shorter than 120 ms."""
END_SEARCH_FRAMES = 75
"""A window may end up to 1.5 s early to end in a pause."""
SILENCE_DB = -200.0
"""Stands for the level of digital silence."""


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """Which 20 ms frames of a recording carry sound."""

    level_db: F32  # [frames]
    active: NDArray[np.bool_]  # [frames]

    @property
    def silence_share(self) -> float:
        """Share of frames without sound."""
        return 1.0 - float(self.active.mean()) if self.active.size else 1.0

    @property
    def sound_s(self) -> float:
        """Seconds with sound."""
        return int(self.active.sum()) * FRAME_SAMPLES / SAMPLE_RATE_HZ

    @property
    def contrast_db(self) -> float:
        """How far the quiet frames lie below the loud ones: small where there is noise."""
        quiet, loud = np.percentile(self.level_db, [QUIET, LOUD])
        return float(loud - quiet)


def find_activity(audio: F32) -> Activity:
    """Levels and activity of `audio` [samples]; a rest shorter than a frame is left out."""
    count = len(audio) // FRAME_SAMPLES
    frames = audio[: count * FRAME_SAMPLES].reshape(count, FRAME_SAMPLES)
    power = np.zeros(count)
    for first in range(0, count, FRAMES_AT_ONCE):
        some = slice(first, first + FRAMES_AT_ONCE)
        # The variance leaves out a constant offset.
        power[some] = frames[some].var(axis=1, dtype=np.float64)
    level_db = 10 * np.log10(np.maximum(power, 10 ** (SILENCE_DB / 10)))
    loud_db = float(np.percentile(level_db, LOUD)) if count else SILENCE_DB
    active = level_db > max(FLOOR_DB, loud_db - BELOW_LOUD_DB)
    return Activity(level_db.astype(np.float32), active)


def choose_window(activity: Activity, *, max_frames: int, min_frames: int) -> tuple[int, int]:
    """First frame and end of the best stretch of `min_frames` to `max_frames`.

    Silence at both ends is left out. What is still too long gives the stretch with the most
    sound among those that begin after a pause; it ends in a pause where one is near its end.
    """
    count = len(activity.active)
    sounding = np.flatnonzero(activity.active)
    if not sounding.size:
        return 0, min(count, max_frames)
    first = max(int(sounding[0]) - LEAD_FRAMES, 0)
    end = min(int(sounding[-1]) + 1 + TAIL_FRAMES, count)
    if end - first > max_frames:
        first = _best_start(activity.active, first, end, max_frames)
        end = _end_in_pause(activity.active, min(first + max_frames, end))
    if end - first < min_frames:  # one short sound: keep some of the silence around it
        first = max(min(first, count - min_frames), 0)
        end = min(first + min_frames, count)
    return first, end


def _best_start(active: NDArray[np.bool_], first: int, end: int, max_frames: int) -> int:
    """The start, `first` or the end of a pause, whose window holds the most sound."""
    sounding = np.flatnonzero(active[first:end]) + first
    onsets = sounding[1:][np.diff(sounding) > PAUSE_FRAMES]
    starts = np.concatenate(([first], onsets - LEAD_FRAMES))
    total = np.concatenate(([0], np.cumsum(active)))
    sound = total[np.minimum(starts + max_frames, end)] - total[starts]
    return int(starts[np.argmax(sound)])  # the earliest of equals


def _end_in_pause(active: NDArray[np.bool_], end: int) -> int:
    """The middle of the last pause within END_SEARCH_FRAMES before `end`, or `end`."""
    run = 0
    for frame in range(end - 1, max(end - END_SEARCH_FRAMES, 0), -1):
        run = 0 if active[frame] else run + 1
        if run == PAUSE_FRAMES:
            return frame + PAUSE_FRAMES // 2
    return end
