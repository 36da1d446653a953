"""Decodes windows by a decoder that could not be cut.

The last resort: every window goes through the whole graph, prompt and left context included. Its
draws are inputs, where it has any, so that the same seed gives the same samples; its running
sums, where it has any, go on from window to window.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from chatterbox.families.base import DecodeJob, Rendered, Voice
from chatterbox.runtime.decoder.graph_io import (
    CODES,
    LENGTHS,
    PROMPT_MEL,
    SPEAKER,
    WAVEFORM,
    Feeds,
    LinearDim,
    PhaseSum,
    ProbeLength,
    RandomOp,
    Session,
    as_declared,
)
from chatterbox.runtime.decoder.s3gen import (
    CODEC,
    MEL_FRAMES_PER_CODE,
    SAMPLES_PER_CODE,
    SILENCE_CODE,
)
from chatterbox.runtime.decoder.split_decoder import StreamSettings
from chatterbox.runtime.decoder.stream_inputs import NoiseInputs, PhaseInputs, Place


@dataclass(slots=True, eq=False)
class WholeStream:
    """What is kept of a stream between two windows."""

    voice: Voice
    seed: int
    carry: Feeds | None = None


class WholeDecoder:
    """A `StreamingDecoder` of one graph, one row a call."""

    codec = replace(CODEC, left_context_frames=16)
    """Further than the embedded model's decoder looks back."""
    window_frames = ()  # no two rows ever meet
    max_rows = 1

    def __init__(
        self,
        session: Session,
        draws: Mapping[RandomOp, list[LinearDim]],
        sums: Mapping[PhaseSum, list[LinearDim]],
        settings: StreamSettings,
    ) -> None:
        self._session = session
        self._draws = NoiseInputs(draws, first_stream=0)
        self._sums = PhaseInputs(sums)
        self._settings = settings
        self._ragged = any(i.name == LENGTHS for i in session.get_inputs())

    def open(self, voice: Voice, seed: int) -> WholeStream:
        """A new stream."""
        return WholeStream(voice, seed)

    def warm(self, voice: Voice) -> None:
        """Nothing is kept."""

    def bucket(self, job: DecodeJob) -> Hashable:
        """Every job goes alone."""
        return id(job)

    def start(self, jobs: Sequence[DecodeJob]) -> Callable[[], list[Rendered]]:
        """Nothing yet: one graph has no parts."""
        return partial(self.run, jobs)

    def run(self, jobs: Sequence[DecodeJob]) -> list[Rendered]:
        """Decode jobs one after the other."""
        return [self._run(job) for job in jobs]

    def _run(self, job: DecodeJob) -> Rendered:
        stream, window = job.stream, job.window
        assert isinstance(stream, WholeStream), "a stream goes back to the decoder that opened it"
        voice = stream.voice.data
        prompt = min(len(voice.prompt_codes), self._settings.prompt_codes)
        length = ProbeLength(prompt, window.fed_frames)
        codes = np.full(prompt + length.codes, SILENCE_CODE, np.int64)
        codes[:prompt] = voice.prompt_codes[:prompt]
        codes[prompt : prompt + len(job.tokens)] = job.tokens
        feeds: Feeds = {
            CODES: codes[None],
            SPEAKER: voice.speaker[None],
            PROMPT_MEL: voice.prompt_mel[None, : prompt * MEL_FRAMES_PER_CODE],
        }
        if self._ragged:
            feeds[LENGTHS] = np.array([codes.size], np.int64)
        at = window.begin * SAMPLES_PER_CODE
        feeds |= self._draws.feeds([stream.seed], [Place(length, window.begin)])
        feeds |= self._sums.feeds([stream.carry], length, job.next_sample - at, job.next_from - at)
        outputs = [WAVEFORM, *self._sums.outputs]
        wave, *told = self._session.run(outputs, as_declared(self._session, feeds))
        stream.carry = self._sums.told(told, 0)
        return Rendered(np.asarray(wave[0, : window.end_sample - at], np.float32), at)
