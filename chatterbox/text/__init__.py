"""What will be spoken: normalise, tags, split, tokenise. Pure, linear time."""

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
