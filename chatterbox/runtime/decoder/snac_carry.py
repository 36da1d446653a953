"""Goes on where a stream's last window ended: no step of any layer of SNAC is computed twice.

For a CPU, where rows gain nothing from sharing a call: what is carried is half a megabyte a stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chatterbox.arrays import F32
from chatterbox.families.base import DecodeJob, Rendered
from chatterbox.runtime.decoder.flow import stream_of
from chatterbox.runtime.decoder.graph_io import DECLARED, Array, Session, as_declared
from chatterbox.runtime.decoder.snac import (
    AUDIO,
    BLOCKS,
    EDGE_REACH,
    LATENTS,
    PLACES,
    SNAC,
    UNITS_REACH,
    Draw,
    code_feeds,
    noise_name,
)


def given_name(place: int) -> str:
    """Input, [1, channels, steps]: what a layer keeps of the call before."""
    return f"carry.{place}.given"


def told_name(place: int) -> str:
    """Output: the same for the next call."""
    return f"carry.{place}.told"


def start_name(block: int) -> str:
    """Input, i64 [1]: where the new steps begin in what a transposed convolution makes."""
    return f"carry.start.{block}"


@dataclass(frozen=True, slots=True, eq=False)
class Carry:
    """What a stream's next window goes on from."""

    frames: int  # fed so far
    layers: Sequence[Array]
    sound: F32  # that is asked for again
    at: int  # its first sample


class CarryingGraph:
    """All windows of a stream but the last, which hears the end."""

    def __init__(self, session: Session, at_start: Sequence[int], draw: Draw) -> None:
        """`at_start`: the steps of zeros that each layer begins with."""
        self._session, self._draw = session, draw
        inputs = {i.name: i for i in session.get_inputs()}
        self._given = [given_name(place) for place in range(len(at_start))]
        self._outputs = [AUDIO, *(told_name(place) for place in range(len(at_start)))]
        zeros = [
            np.zeros((1, inputs[name].shape[1], steps), DECLARED[inputs[name].type])
            for name, steps in zip(self._given, at_start, strict=True)
        ]
        self._begin = Carry(0, zeros, np.zeros(0, np.float32), 0)

    def goes_on(self, job: DecodeJob) -> bool:
        """Whether the job's window follows on what was kept."""
        carry, window = stream_of(job).carry or self._begin, job.window
        fed = 0 if window.fresh == 0 else window.fresh + SNAC.look_ahead_frames
        return not window.last and bool(carry.frames == fed)

    def run(self, jobs: Sequence[DecodeJob]) -> list[Rendered]:
        """Decode jobs that go on, one after the other. Raising, it has moved no stream on."""
        made = [self._run(job) for job in jobs]
        for job, (_, carry) in zip(jobs, made, strict=True):
            stream_of(job).carry = carry
        return [rendered for rendered, _ in made]

    def _run(self, job: DecodeJob) -> tuple[Rendered, Carry]:
        stream, window = stream_of(job), job.window
        carry: Carry = stream.carry or self._begin
        feeds = code_feeds(job.tokens[None, (carry.frames - window.begin) * PLACES :])
        feeds |= zip(self._given, carry.layers, strict=True)
        steps = zip(_steps_made(carry.frames), _steps_made(window.stop), strict=True)
        for block, (begin, end) in enumerate(steps):
            noise = self._draw(stream.seed, block, begin, end - begin)
            feeds[noise_name(block)] = noise[None, None]
            before = 0 if carry.frames else BLOCKS[block][0] // 2  # the stream's first sample
            feeds[start_name(block)] = np.array([before], np.int64)
        wave, *layers = self._session.run(self._outputs, as_declared(self._session, feeds))
        sound = np.concatenate([carry.sound, np.asarray(wave[0, 0], np.float32)])
        again = sound[job.next_from - carry.at :]
        rendered = Rendered(sound[job.next_sample - carry.at :], job.next_sample)
        return rendered, Carry(window.stop, layers, again, job.next_from)


def _steps_made(frames: int) -> list[int]:
    """How many steps each block's transposed convolution has made of so many frames: three or more,
    or none yet."""
    if not frames:
        return [0] * len(BLOCKS)
    made, known = [], LATENTS * frames - EDGE_REACH
    for stride, _ in BLOCKS:
        made.append(known * stride - stride // 2)
        known = made[-1] - UNITS_REACH
    return made
