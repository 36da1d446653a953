"""The figures of one level, from the outcomes of its requests."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request. Times count from the moment it was due."""

    started_s: float  # on the client's clock
    ended_s: float
    error: str | None = None  # a code; None where the whole audio arrived
    audio_s: float = 0.0
    first_audible_s: float | None = None  # after the start; None: nothing audible
    silences_s: tuple[float, ...] = ()  # while it was played as it came, each underrun's length
    server_rtf: float | None = None  # X-RTF, where the server knew it before sending

    @property
    def latency_s(self) -> float:
        """From due to the last byte."""
        return self.ended_s - self.started_s

    @property
    def rtf(self) -> float:
        """Wall time over audio time, as the client lived it, waiting in queues included."""
        return self.latency_s / self.audio_s


@dataclass(frozen=True, slots=True)
class Spread:
    """How one quantity is distributed over the requests of a level."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Level:
    """One row of the report: everything measured at one concurrency or one rate."""

    concurrency: int | None  # closed loop: so many requests always under way
    rate_hz: float | None  # open loop: so many arrivals a second
    requests: int
    succeeded: int
    errors: dict[str, int]  # code → count
    wall_s: float  # from the first start to the last end
    in_flight_max: int
    audio_s: float
    throughput_hz: float  # requests done a second
    audio_per_s: float  # seconds of audio made a second
    rtf: Spread | None  # of the requests that succeeded, like all that follows
    latency_s: Spread | None
    first_audible_s: Spread | None
    silent_replies: int  # succeeded without one audible sample
    underruns: int
    replies_with_underruns: int
    underrun_s: float
    longest_underrun_s: float
    server_rtf_mean: float | None

    @property
    def load(self) -> float:
        """The concurrency or the rate, whichever this level has."""
        value = self.concurrency if self.rate_hz is None else self.rate_hz
        assert value is not None, "a level has a concurrency or a rate"
        return value

    @property
    def realtime_p95(self) -> bool:
        """No errors, and 95 % of the requests were done faster than their audio lasts."""
        return not self.errors and self.rtf is not None and self.rtf.p95 < 1

    @property
    def realtime_mean(self) -> bool:
        """Mean RTF below 1, whatever failed."""
        return self.rtf is not None and self.rtf.mean < 1


def summarise(
    outcomes: Sequence[Outcome], *, concurrency: int | None = None, rate_hz: float | None = None
) -> Level:
    """One level from the outcomes (at least one) of its requests."""
    good = [o for o in outcomes if o.error is None]
    wall_s = max(o.ended_s for o in outcomes) - min(o.started_s for o in outcomes)
    audio_s = sum(o.audio_s for o in good)
    silences_s = [silence_s for o in good for silence_s in o.silences_s]
    server_rtfs = [o.server_rtf for o in good if o.server_rtf is not None]
    return Level(
        concurrency=concurrency,
        rate_hz=rate_hz,
        requests=len(outcomes),
        succeeded=len(good),
        errors=dict(Counter(o.error for o in outcomes if o.error is not None).most_common()),
        wall_s=wall_s,
        in_flight_max=_in_flight_max(outcomes),
        audio_s=audio_s,
        throughput_hz=len(good) / wall_s,
        audio_per_s=audio_s / wall_s,
        rtf=_spread([o.rtf for o in good]),
        latency_s=_spread([o.latency_s for o in good]),
        first_audible_s=_spread([o.first_audible_s for o in good if o.first_audible_s is not None]),
        silent_replies=sum(o.first_audible_s is None for o in good),
        underruns=len(silences_s),
        replies_with_underruns=sum(bool(o.silences_s) for o in good),
        underrun_s=sum(silences_s),
        longest_underrun_s=max(silences_s, default=0.0),
        server_rtf_mean=float(np.mean(server_rtfs)) if server_rtfs else None,
    )


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return Spread(float(np.mean(values)), float(p50), float(p95), float(p99))


def _in_flight_max(outcomes: Sequence[Outcome]) -> int:
    edges = [(o.started_s, 1) for o in outcomes] + [(o.ended_s, -1) for o in outcomes]
    return int(np.max(np.cumsum([step for _, step in sorted(edges)])))
