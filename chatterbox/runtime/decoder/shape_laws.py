"""How does the size of a tensor follow from the number of codes?

Knows no graph: sizes seen in a few runs, and the straight line through them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chatterbox.compile.decoder.errors import NotSplittable

Shape = tuple[int, ...]


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


PROBES = (ProbeLength(5, 6), ProbeLength(5, 9), ProbeLength(8, 6), ProbeLength(9, 8))
"""Three to find an extent, one more to check it. Small, since each is a run of the decoder."""


def fit_dims(seen: Mapping[ProbeLength, Shape]) -> list[LinearDim]:
    """The law of every axis. Raises NotSplittable where sizes follow none."""
    base, longer, prompted, check = (seen[p] for p in PROBES)
    if len({len(shape) for shape in seen.values()}) != 1:
        raise NotSplittable("a tensor's rank depends on its length")
    made = []
    for a, b, c, d in zip(base, longer, prompted, check, strict=True):
        per_code = (b - a) // (PROBES[1].codes - PROBES[0].codes)
        per_prompt = (c - a) // (PROBES[2].prompt - PROBES[0].prompt)
        fixed = a - per_code * PROBES[0].codes - per_prompt * PROBES[0].prompt
        extent = LinearDim(per_code, per_prompt, fixed)
        if [extent.at(p) for p in PROBES] != [a, b, c, d]:
            raise NotSplittable("a tensor's size does not follow from its number of codes")
        made.append(extent)
    return made


def time_axis(axes: Sequence[LinearDim]) -> int | None:
    """The one axis that grows with the codes, None if none does. Raises NotSplittable if several
    do."""
    growing = [i for i, e in enumerate(axes) if e.per_code or e.per_prompt]
    if len(growing) > 1:
        raise NotSplittable("a tensor has two axes of time")
    return growing[0] if growing else None
