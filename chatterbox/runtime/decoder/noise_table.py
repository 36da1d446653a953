"""Puts a graph's noise together from rows of a table of random numbers.

On a GPU a graph holds the table and is told row numbers: drawing 9 numbers for each sample on the
host takes longer than the window does there, and copying them as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.runtime.decoder.graph_io import RandomOp
from chatterbox.runtime.decoder.s3gen import MEL_FRAMES_PER_CODE
from chatterbox.runtime.decoder.shape_laws import LinearDim
from chatterbox.runtime.noise import Noise

TABLE_NUMBERS = 1 << 21
"""8 MB: 26,214 rows of 80 bands, or 4,369 of the 480 samples of a mel frame."""
TABLE_SEED = 0


@dataclass(frozen=True, slots=True)
class RowLayout:
    """How one random tensor is put together. A row of the table is one step of all the tensor's
    numbers, or, where a mel frame has many steps, one number's steps of a frame."""

    steps: int  # in a row
    width: int  # numbers of a step

    @classmethod
    def of(cls, law: Sequence[LinearDim]) -> "RowLayout | None":
        """For [rows, time, width] or [rows, width, time]; None for others, which are fed."""
        growing = [i for i, dim in enumerate(law) if dim.per_code or dim.per_prompt]
        if len(law) != 3 or len(growing) != 1 or growing[0] == 0:
            return None
        rate, width = law[growing[0]], law[3 - growing[0]].fixed
        steps = rate.per_code // MEL_FRAMES_PER_CODE
        whole = rate.per_code == steps * MEL_FRAMES_PER_CODE and steps > 0 and rate.fixed == 0
        return cls(steps, width) if whole and rate.per_prompt in (0, rate.per_code) else None

    @property
    def row_numbers(self) -> int:
        """Numbers in a row of the table."""
        return self.width if self.steps == 1 else self.steps

    @property
    def table_rows(self) -> int:
        """Rows of the table."""
        return TABLE_NUMBERS // self.row_numbers

    def table(self, op: RandomOp) -> F32:
        """[table_rows, row_numbers]: the same everywhere."""
        noise, shape = Noise(TABLE_SEED, 0), (0, self.table_rows, self.row_numbers)
        if op.kind == "uniform":
            return noise.uniform(*shape, op.first, op.second)
        return (op.first + op.second * noise.normal(*shape)).astype(np.float32)

    def rows(self, noise: Noise, first: int, frames: int, prompt: int) -> I64:
        """Of one row of the call: [1, frames], or [1, width, frames] where a row of the table is
        one number's. `first`: the mel frame of the stream behind the prompt's frames."""
        width = 1 if self.steps == 1 else self.width
        places = [(-prompt, prompt)] if prompt else []
        places.append((first, frames - prompt))
        found = [noise.choices(start, count, width, self.table_rows) for start, count in places]
        rows = np.concatenate(found)
        return rows[None, :, 0] if self.steps == 1 else np.ascontiguousarray(rows.T[None])
