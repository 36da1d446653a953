"""The size of a tensor as a linear function of the number of codes."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProbeLength:
    """How much a graph was given: codes of the prompt, and codes behind it."""

    prompt: int
    codes: int


@dataclass(frozen=True, slots=True)
class LinearDim:
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
