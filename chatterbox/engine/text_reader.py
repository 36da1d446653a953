"""A text as the segments that a family of models speaks it in."""

import logging
import threading
from dataclasses import replace

from chatterbox.config import TTSConfig
from chatterbox.errors import ChatterboxError, InvalidValue, TextFault
from chatterbox.families.base import Family
from chatterbox.text import CodeBlocks, Segment, Tags, prepare

log = logging.getLogger(__name__)

MAX_PAUSES_S = 120
"""Of one text, all `[pause:…]` together."""


class TextReader:
    """Prepares texts, one at a time: two at once would not be quicker, and the event loop would get
    the interpreter's lock back after both of them. Any thread may call."""

    def __init__(self, family: Family, config: TTSConfig) -> None:
        self._family = family
        self._code_blocks = config.code_blocks
        self._tags = Tags(family.tags)
        self._limits = replace(family.segments, **config.segments())
        self._one_at_a_time = threading.Lock()

    def segments(self, text: str, code_blocks: CodeBlocks | None = None) -> list[Segment]:
        """What `text` is spoken as. `code_blocks`: none, as configured. Raises EmptyText,
        InvalidText, InvalidValue, TextTooLong, TextFault."""
        with self._one_at_a_time:
            try:
                segments = prepare(
                    text,
                    self._limits,
                    code_blocks or self._code_blocks,
                    tags=self._tags,
                    english="en" in self._family.languages,
                    clean_up=self._family.clean_up,
                )
            except ChatterboxError:
                raise
            except Exception as fault:  # noqa: BLE001 - a fault here is this text's alone
                log.warning("A text could not be read (%s).", type(fault).__name__)
                raise TextFault("The server failed to read this text.", param="text") from None
        asked_s = sum(segment.pause_before_s + segment.pause_after_s for segment in segments)
        if asked_s > MAX_PAUSES_S:  # a short text can ask for hours of silence
            raise InvalidValue(f"The pauses add up to more than {MAX_PAUSES_S} s.", param="text")
        return segments
