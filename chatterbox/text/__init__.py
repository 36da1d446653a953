"""What will be spoken: normalise, tags, split, tokenise. Pure, linear time."""

from chatterbox.text.code_blocks import CodeBlocks
from chatterbox.text.markup import Tags
from chatterbox.text.normalisation import normalise
from chatterbox.text.segment import Segment, prepare
from chatterbox.text.split import SegmentLimits

__all__ = [
    "CodeBlocks",
    "Segment",
    "SegmentLimits",
    "Tags",
    "normalise",
    "prepare",
]
