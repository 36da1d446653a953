"""What is spoken to nobody, so that the first listener need not wait for cold memory?

Knows requests and streams; knows no model.
"""

import asyncio

from chatterbox.engine.sampler import Sampling
from chatterbox.engine.speech_stream import SpeechRequest, SpeechStream
from chatterbox.runtime.contract import Voice

REHEARSED = "Hello there."
REHEARSED_CODES = 60
REHEARSALS = 2
"""The first touches all weights and memory, so that only the second tells what windows cost."""
REHEARSAL_S = 60
"""A device that hangs is the watchdog's."""


def rehearsed(voice: Voice, sampling: Sampling, most_codes: int) -> SpeechRequest:
    """A short sentence in `voice`, of `most_codes` at most."""
    codes = min(REHEARSED_CODES, most_codes)
    return SpeechRequest(REHEARSED, voice, sampling, seed=0, max_new_tokens=codes)


async def unheard(stream: SpeechStream) -> None:
    """Speak all of it. Raises TimeoutError after `REHEARSAL_S`, and what the stream raises."""
    async with asyncio.timeout(REHEARSAL_S), stream:
        async for _ in stream:
            pass
