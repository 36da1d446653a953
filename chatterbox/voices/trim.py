"""Finds the speech in a recording, and the stretch that is best as a reference."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import F32, SAMPLE_RATE_HZ

FRAME_SAMPLES = SAMPLE_RATE_HZ // 50
"""Frames of 20 ms, as usual in speech detection: longer than a pitch period, shorter than a
syllable."""
FRAMES_AT_ONCE = 3000
"""Frames processed at once, one minute; an hour would need gigabytes of temporary arrays."""
FLOOR_DB = -60.0
"""Frames below this level are silence in any recording; quiet rooms have noise near -60 dBFS."""
BELOW_LOUD_DB = 35.0
"""Frames this far below the loud frames are pauses; consonants are up to 30 dB below vowels."""
QUIET, LOUD = 5, 95  # percentiles of the levels
LEAD_FRAMES = 3
"""Frames kept before the first sound, for its quiet onset."""
TAIL_FRAMES = 10
"""Frames kept after the last sound, for its decay."""
PAUSE_FRAMES = 6
"""Shortest pause between words or clauses; closures within words are shorter than 120 ms."""
END_SEARCH_FRAMES = 75
"""Most frames by which a window is shortened to end in a pause: 1.5 s."""
SILENCE_DB = -200.0
"""Level assigned to digital silence."""


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """Levels of a recording's 20 ms frames, and which of them contain sound."""

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
        """Level difference between loud and quiet frames; small in noisy recordings."""
        quiet, loud = np.percentile(self.level_db, [QUIET, LOUD])
        return float(loud - quiet)


def find_activity(audio: F32) -> Activity:
    """Measure the frames of `audio` [samples]; ignores an incomplete last frame."""
    count = len(audio) // FRAME_SAMPLES
    frames = audio[: count * FRAME_SAMPLES].reshape(count, FRAME_SAMPLES)
    power = np.zeros(count)
    for first in range(0, count, FRAMES_AT_ONCE):
        part = slice(first, first + FRAMES_AT_ONCE)
        # The variance ignores a constant offset.
        power[part] = frames[part].var(axis=1, dtype=np.float64)
    level_db = 10 * np.log10(np.maximum(power, 10 ** (SILENCE_DB / 10)))
    loud_db = float(np.percentile(level_db, LOUD)) if count else SILENCE_DB
    active = level_db > max(FLOOR_DB, loud_db - BELOW_LOUD_DB)
    return Activity(level_db.astype(np.float32), active)


def choose_window(activity: Activity, *, max_frames: int, min_frames: int) -> tuple[int, int]:
    """Return the first frame and the end of the best stretch of `min_frames` to `max_frames`.

    Drops silence at both ends. If the rest is too long, chooses the stretch with the most sound
    that begins after a pause, and ends it in a pause if one is near its end.
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
    """Return `first` or the end of a pause: the start of the window with the most sound."""
    sounding = np.flatnonzero(active[first:end]) + first
    onsets = sounding[1:][np.diff(sounding) > PAUSE_FRAMES]
    starts = np.concatenate(([first], onsets - LEAD_FRAMES))
    total = np.concatenate(([0], np.cumsum(active)))
    sound = total[np.minimum(starts + max_frames, end)] - total[starts]
    return int(starts[np.argmax(sound)])  # the earliest of equal windows


def _end_in_pause(active: NDArray[np.bool_], end: int) -> int:
    """Return the middle of the last pause within END_SEARCH_FRAMES before `end`, else `end`."""
    run = 0
    for frame in range(end - 1, max(end - END_SEARCH_FRAMES, 0), -1):
        run = 0 if active[frame] else run + 1
        if run == PAUSE_FRAMES:
            return frame + PAUSE_FRAMES // 2
    return end
