"""The server's phase (loading, ready, draining or dead), and what a request is told in each."""

from typing import Literal

from chatterbox.engine.engine import TTSEngine
from chatterbox.errors import Draining, EngineDead, NotReady, Overloaded

Phase = Literal["loading", "ready", "draining", "dead"]

READY_QUEUE_SHARE = 0.95
"""A queue this full makes readiness fail, so that a balancer looks elsewhere (FAULTS: health)."""
LOADING_RETRY_S = 2.0
RESTART_RETRY_S = 10.0
"""When a supervisor will have started the process again."""


class Lifecycle:
    """One for each server. Draining begins once and never ends."""

    def __init__(self, engine: TTSEngine) -> None:
        self._engine = engine
        self.draining = False
        self.warming_up = False
        """Requests are taken, but nobody should be sent here yet."""

    @property
    def phase(self) -> Phase:
        """Where the process stands."""
        if self._engine.state == "dead":
            return "dead"
        if self.draining or self._engine.state == "closed":
            return "draining"
        return "ready" if self._engine.state == "ready" else "loading"

    @property
    def ready(self) -> bool:
        """Whether new work should be sent here."""
        return self.phase == "ready" and not self.warming_up and not self._crowded

    @property
    def _crowded(self) -> bool:
        admission = self._engine.admission
        return (
            admission.queue_capacity > 0
            and admission.queued >= READY_QUEUE_SHARE * admission.queue_capacity
        )

    def drain(self) -> None:
        """No new work from here on; what is running goes on."""
        self.draining = True
        self._engine.admission.close()

    def check_open(self) -> None:
        """Raises NotReady, Draining or EngineDead unless requests are taken."""
        match self.phase:
            case "loading":
                raise NotReady("The model is still loading.", retry_after_s=LOADING_RETRY_S)
            case "draining":
                raise Draining("The server is shutting down.", retry_after_s=RESTART_RETRY_S)
            case "dead":
                raise EngineDead(
                    "The engine stopped on a fault; the server is about to restart.",
                    retry_after_s=RESTART_RETRY_S,
                )

    def check_ready(self) -> None:
        """Raises NotReady, Draining or EngineDead unless new work should be sent here."""
        self.check_open()
        if self.warming_up:
            raise NotReady("The server is warming up.", retry_after_s=LOADING_RETRY_S)
        if self._crowded:
            retry_s = self._engine.admission.retry_after_s()
            raise NotReady("The queue is nearly full.", retry_after_s=retry_s)

    def check_room(self) -> None:
        """As `check_open`, and Overloaded where a permit could not even be waited for: said
        before a body is read, so that a refusal costs next to nothing."""
        self.check_open()
        admission = self._engine.admission
        if admission.active >= admission.capacity and admission.queued >= admission.queue_capacity:
            raise Overloaded(
                "All places are taken and the queue is full; try again shortly.",
                retry_after_s=admission.retry_after_s(),
            )
