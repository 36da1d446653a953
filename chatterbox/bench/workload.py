"""What is asked of the server: which texts, which voice, which seeds.

Knows no network; request n is the same at every level, so that levels can be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SEEDS = 2**32
"""Seeds are 0 ≤ seed < 2**32."""

DEFAULT_TEXTS = (
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
