"""Does a thread get on with its work? It says when it begins something and when it rests.

Knows no thread and no clock: a watcher looks at regular intervals and counts the looks, so that
neither a changed clock nor a process that was stopped for a while is taken for a thread that hangs.
"""

from collections.abc import Iterable


class Heartbeat:
    """Written by one thread, read by the watcher."""

    __slots__ = ("_beats", "_resting", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._beats = 0
        self._resting = True

    def beat(self) -> None:
        """Something new is begun."""
        self._beats += 1
        self._resting = False

    def idle(self) -> None:
        """There is nothing to do."""
        self._resting = True

    @property
    def state(self) -> int | None:
        """Changes with every beat; None while resting."""
        return None if self._resting else self._beats


class Watch:
    """Finds the heartbeat that stood still for too many looks."""

    def __init__(self, looks: int) -> None:
        self._looks = looks
        self._still: dict[Heartbeat, tuple[int | None, int]] = {}  # state seen last, looks since

    def look(self, heartbeats: Iterable[Heartbeat]) -> str | None:
        """The name of one that was the same in `looks` looks after the first, if there is one."""
        self._still = {heartbeat: self._seen(heartbeat) for heartbeat in heartbeats}
        for heartbeat, (_, count) in self._still.items():
            if count >= self._looks:
                return heartbeat.name
        return None

    def _seen(self, heartbeat: Heartbeat) -> tuple[int | None, int]:
        before, count = self._still.get(heartbeat, (None, 0))
        now = heartbeat.state
        return now, count + 1 if now is not None and now == before else 0
