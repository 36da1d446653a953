"""What waits to be spoken: text in pieces, whole calls and marks, in order. Event loop only."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chatterbox.dialects.shared.sentence_buffer import SentenceBuffer
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import Overloaded, TextTooLong
from chatterbox.text import CodeBlocks

MOST_ITEMS = 256
"""Most calls and marks that may wait on one socket."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Comes out of the queue once all before it has been spoken."""

    token: Any


Item = str | SpeechRequest | Mark


class SpeechQueue:
    """Filled by whoever reads the socket, emptied by whoever speaks."""

    def __init__(
        self,
        max_chars: int,
        least_chars: Sequence[int] = (),
        *,
        code_blocks: CodeBlocks = "skip",
    ) -> None:
        self._max_chars = max_chars
        self._buffer = SentenceBuffer(least_chars, code_blocks=code_blocks)
        self._ready: deque[Item] = deque()
        self._ready_chars = 0
        self._at_once = False
        self._ended = False
        self._news = asyncio.Event()

    @property
    def waiting(self) -> bool:
        """Whether anything is left to speak without more text."""
        return bool(self._ready)

    def feed(self, text: str, *, complete: bool = False, at_once: bool = False) -> None:
        """More text; see SentenceBuffer. Raises TextTooLong where too much waits already."""
        self._check_room(len(text))
        self._buffer.feed(text, complete=complete)
        self._at_once = self._at_once or at_once
        self._news.set()

    def flush(self) -> None:
        """Release what is there, whole sentence or not."""
        if not self._buffer.is_blank():  # blanks will lead what comes next
            rest = self._buffer.flush()
            self._put(rest)
            self._ready_chars += len(rest)

    def call(self, call: SpeechRequest) -> None:
        """A text that is whole by itself. Raises TextTooLong and Overloaded."""
        self._check_room(len(call.text))
        self._close()
        self._put(call)
        self._ready_chars += len(call.text)

    def mark(self, token: Any) -> None:
        """Have `token` come out once everything before it has been spoken. Raises Overloaded."""
        self._close()
        self._put(Mark(token))

    def end(self) -> None:
        """Nothing more comes."""
        self._close()
        self._ended = True
        self._news.set()

    async def next(self) -> Item | None:
        """Wait for it; None: all has been spoken and nothing more comes."""
        while True:
            if self._ready:
                item = self._ready.popleft()
                self._ready_chars -= 0 if isinstance(item, Mark) else len(_text_of(item))
                return item
            if whole := self._buffer.take(at_once=self._at_once):
                self._at_once = False
                return whole
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()

    def _close(self) -> None:
        """This text is over: code that was not closed does not reach into the next."""
        self.flush()
        self._buffer.close()

    def _put(self, item: Item) -> None:
        if len(self._ready) >= MOST_ITEMS:
            raise Overloaded(f"More than {MOST_ITEMS} things wait to be spoken.")
        self._ready.append(item)
        self._news.set()

    def _check_room(self, chars: int) -> None:
        if self._ready_chars + len(self._buffer) + chars > self._max_chars:
            raise TextTooLong(
                f"More than {self._max_chars} characters wait to be spoken.", param="text"
            )


def _text_of(item: str | SpeechRequest) -> str:
    return item if isinstance(item, str) else item.text
