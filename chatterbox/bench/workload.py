"""The requests of a benchmark: texts, voice and seeds.

Request n is the same at every level, so that levels can be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SEEDS = 2**32
"""Seeds are 0 ≤ seed < 2**32."""

SHORT_TEXTS = (
    "Please leave your message after the tone, and we will call you back today.",
    "The kettle had just begun to sing when somebody knocked twice at the kitchen door.",
    "If you take the first left after the bridge, the library is straight ahead of you.",
    "We measured it three times, and each time the answer was a little smaller than before.",
    "Good morning! Your table is booked for half past seven, by the window, as you asked.",
    "She read the letter slowly, folded it along the old creases, and put it back in the drawer.",
    "Most of the work is done before anyone notices that there was any work to do at all.",
    "No, the other one; the small blue box on the shelf, next to the radio.",
)
"""Written for this benchmark: one or two sentences each, 4 to 8 seconds when spoken."""

LONG_TEXT = (
    "The ferry left an hour late, because the engineer had gone ashore to look for a spare belt "
    "and come back with two loaves of bread. Nobody minded; the harbour was as flat as a plate, "
    "and a boy at the rail was telling anyone who listened about the whale he meant to see. By the "
    "time we passed the second lighthouse he had fallen asleep against a coil of rope, and it was "
    "his grandmother who saw it first and decided not to wake him."
)
"""Three segments, about 30 seconds when spoken: only a longer text shows whether a listener runs
out of sound between segments."""

DEFAULT_TEXTS = (*SHORT_TEXTS, LONG_TEXT)


@dataclass(frozen=True, slots=True)
class Workload:
    """The requests of every level."""

    texts: Sequence[str]
    voice_id: str | None  # None: the server's default voice
    seed: int
    stream: bool

    def form(self, number: int) -> dict[str, str]:
        """The form fields of request `number`."""
        fields = {
            "text": self.texts[number % len(self.texts)],
            "seed": str((self.seed + number) % SEEDS),
            "response_format": "wav",
            "stream": "true" if self.stream else "false",
        }
        return fields if self.voice_id is None else fields | {"voice_id": self.voice_id}
