"""Names and value types of the decoder's graphs: inputs, outputs, random tensors, phase sums; and
sizes as linear functions of the number of codes.

The published graph names its inputs and its output [card]; what it draws at random and what it sums
up become inputs and outputs of the compiled graphs, under the names that are made here.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Feeds = dict[str, Array]

CODES, SPEAKER, PROMPT_MEL = "speech_tokens", "speaker_embeddings", "speaker_features"
LENGTHS = "code_lengths"
"""Each row's own number of codes, where a published graph asks for it."""
WAVEFORM = "waveform"
DECLARED = {"tensor(float16)": np.float16, "tensor(float)": np.float32}


class Session(Protocol):
    """What is used of onnxruntime's session, and of what stands in for it."""

    def get_inputs(self) -> Sequence[Any]:
        """Name, type and shape of each input."""

    def run(self, outputs: Sequence[str], feeds: Feeds) -> Sequence[Array]:
        """The outputs, in that order."""


class RandomOp(NamedTuple):
    """One random tensor of a graph."""

    name: str  # of the tensor, and of the input it becomes
    kind: Literal["normal", "uniform"]
    first: float  # mean, or the lowest value
    second: float  # standard deviation, or the highest value

    @property
    def rows(self) -> str:
        """The input in its place where the graph makes it from a table: i64, which rows."""
        return f"{self.name}.rows"


class PhaseSum(NamedTuple):
    """One sum over time, and what the graph calls its new inputs and output."""

    name: str  # of the sum's tensor

    @property
    def carry(self) -> str:
        """Input, f64, shaped as the sum with one step: its value at the anchor."""
        return f"{self.name}.carry"

    @property
    def anchor(self) -> str:
        """Input, i64 [1]: the step that gets that value."""
        return f"{self.name}.anchor"

    @property
    def use(self) -> str:
        """Input, f64 [1]: 1 to set the value, 0 to let the sum begin by itself."""
        return f"{self.name}.use"

    @property
    def mark(self) -> str:
        """Input, i64 [1]: the step whose value is put out."""
        return f"{self.name}.mark"

    @property
    def told(self) -> str:
        """Output, f64, shaped as the carry: the sum at the mark."""
        return f"{self.name}.told"


def past(name: str) -> str:
    """The estimator's input that stands before the keys or values `name`."""
    return f"{name}.past"


def as_declared(session: Session, feeds: Feeds) -> Feeds:
    """The same numbers in the precision that the session's inputs have."""
    kinds = {i.name: DECLARED.get(i.type) for i in session.get_inputs()}
    return {
        name: values if (kind := kinds[name]) is None else values.astype(kind, copy=False)
        for name, values in feeds.items()
    }


EQUAL_DB = 60.0
"""Two results are the same computation when their difference is this far below them: single
precision gives 90 to 120 dB here, half precision about 60."""


def snr_db(reference: Array, other: Array) -> float:
    """Signal-to-noise ratio of `other` as a rendering of `reference`; infinite when equal."""
    if reference.shape != other.shape or not np.all(np.isfinite(other)):
        return -np.inf
    wanted = np.square(reference, dtype=np.float64).sum()
    wrong = np.square(np.asarray(reference, np.float64) - other).sum()
    return float("inf") if wrong == 0 else float(10 * np.log10(wanted / wrong + 1e-30))


class ProbeLength(NamedTuple):
    """How much a graph was given: codes of the prompt, and codes behind it."""

    prompt: int
    codes: int


class LinearDim(NamedTuple):
    """One axis: `per_code × codes + per_prompt × prompt codes + fixed`."""

    per_code: int
    per_prompt: int
    fixed: int

    def at(self, length: ProbeLength) -> int:
        """Its size for a given length."""
        return self.per_code * length.codes + self.per_prompt * length.prompt + self.fixed


def time_axis(axes: Sequence[LinearDim]) -> int | None:
    """The one axis that grows with the codes, None if none does."""
    growing = [i for i, axis in enumerate(axes) if axis.per_code or axis.per_prompt]
    if len(growing) > 1:
        raise ValueError("a tensor has two axes of time")
    return growing[0] if growing else None
