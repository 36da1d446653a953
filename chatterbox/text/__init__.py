"""Turns written text into speakable words and splits it into segments. Pure, linear in time."""

from chatterbox.text.markup import CodeBlocks, Tags
from chatterbox.text.normalisation import normalise
from chatterbox.text.segment import Segment, SegmentLimits, prepare

__all__ = [
    "CodeBlocks",
    "Segment",
    "SegmentLimits",
    "Tags",
    "normalise",
    "prepare",
]
