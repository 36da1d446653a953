"""Names and types in the decoder's graphs, and tensor sizes as linear functions of the number of
codes.

The published graph names its inputs and its output [card]. Its random tensors and its sums over
time become inputs and outputs of the compiled graphs, under the names defined here.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Feeds = dict[str, Array]

CODES, SPEAKER, PROMPT_MEL = "speech_tokens", "speaker_embeddings", "speaker_features"
LENGTHS = "code_lengths"
"""Input, i64 [rows]: each row's number of codes; only some published graphs have it."""
WAVEFORM = "waveform"
DECLARED = {"tensor(float16)": np.float16, "tensor(float)": np.float32}


class Session(Protocol):
    """The part of onnxruntime's session that decoders use."""

    def get_inputs(self) -> Sequence[Any]:
        """Return the name, type and shape of each input."""

    def run(self, outputs: Sequence[str], feeds: Feeds) -> Sequence[Array]:
        """Run the graph. Returns the outputs in the order of their names."""


class RandomOp(NamedTuple):
    """One random tensor of a graph."""

    name: str  # of the tensor, and of the input that replaces it
    kind: Literal["normal", "uniform"]
    first: float  # mean, or the lowest value
    second: float  # standard deviation, or the highest value

    @property
    def rows(self) -> str:
        """Input, i64: row indices, if the graph looks the tensor up in a table."""
        return f"{self.name}.rows"


class PhaseSum(NamedTuple):
    """A running sum, and the names of the inputs and the output that continue it between calls."""

    name: str  # of the sum's tensor

    @property
    def carry(self) -> str:
        """Input, f64, shaped as the sum with one step: the sum at the anchor."""
        return f"{self.name}.carry"

    @property
    def anchor(self) -> str:
        """Input, i64 [1]: the step at which the sum has the value `carry`."""
        return f"{self.name}.anchor"

    @property
    def use(self) -> str:
        """Input, f64 [1]: 1 to apply `carry`, 0 to start the sum at zero."""
        return f"{self.name}.use"

    @property
    def mark(self) -> str:
        """Input, i64 [1]: the step whose sum is returned."""
        return f"{self.name}.mark"

    @property
    def carry_out(self) -> str:
        """Output, f64, shaped as `carry`: the sum at the mark."""
        return f"{self.name}.told"


def past_input(name: str) -> str:
    """Return the name of the estimator's input that is prepended to the keys or values `name`."""
    return f"{name}.past"


def cast_feeds(session: Session, feeds: Feeds) -> Feeds:
    """Convert floats to the precision of the session's inputs."""
    dtypes = {i.name: DECLARED.get(i.type) for i in session.get_inputs()}
    return {
        name: values if (dtype := dtypes[name]) is None else values.astype(dtype, copy=False)
        for name, values in feeds.items()
    }


def pad_rows(feeds: Feeds, rows: int) -> Feeds:
    """Append rows of zeros up to `rows` rows."""
    missing = rows - len(next(iter(feeds.values())))
    if not missing:
        return feeds
    return {
        name: np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)])
        for name, values in feeds.items()
    }


EQUAL_DB = 60.0
"""Signal-to-noise ratio from which two results count as the same computation. Single precision
gives 90 to 120 dB here, half precision about 60."""


def snr_db(reference: Array, other: Array) -> float:
    """Return the signal-to-noise ratio of `other` to `reference`: inf if they are equal, -inf if
    their shapes differ or `other` is not finite."""
    if reference.shape != other.shape or not np.all(np.isfinite(other)):
        return -np.inf
    wanted = np.square(reference, dtype=np.float64).sum()
    wrong = np.square(np.asarray(reference, np.float64) - other).sum()
    return float("inf") if wrong == 0 else float(10 * np.log10(wanted / wrong + 1e-30))


class ProbeLength(NamedTuple):
    """Length of a call: codes of the prompt, and codes after it."""

    prompt: int
    codes: int


class LinearDim(NamedTuple):
    """Size of one axis: `per_code × codes + per_prompt × prompt codes + fixed`."""

    per_code: int
    per_prompt: int
    fixed: int

    def at(self, length: ProbeLength) -> int:
        return self.per_code * length.codes + self.per_prompt * length.prompt + self.fixed


def time_axis(axes: Sequence[LinearDim]) -> int | None:
    """Return the axis that grows with the codes, or None. Raises ValueError if two axes do."""
    growing = [i for i, axis in enumerate(axes) if axis.per_code or axis.per_prompt]
    if len(growing) > 1:
        raise ValueError("a tensor has two axes of time")
    return growing[0] if growing else None
