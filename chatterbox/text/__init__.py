"""What will be spoken: normalise, tags, split, tokenise. Pure, linear time."""

from chatterbox.text.cleanup import clean_up
from chatterbox.text.code_blocks import CodeBlocks
from chatterbox.text.markup import TAGS
from chatterbox.text.normalisation import normalise
from chatterbox.text.segment import Segment, prepare
from chatterbox.text.split import SegmentLimits

__all__ = [
    "TAGS",
    "CodeBlocks",
    "Segment",
    "SegmentLimits",
    "clean_up",
    "normalise",
    "prepare",
]
