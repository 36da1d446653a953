"""Fit tensor sizes, seen in a few runs, as linear functions of the number of codes."""

from collections.abc import Mapping

from chatterbox.compile.decoder.graph_edit import NotSplittable
from chatterbox.runtime.decoder.graph_io import LinearDim, ProbeLength

Shape = tuple[int, ...]

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
