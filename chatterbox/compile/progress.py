"""A progress bar for compilers: they call it with how much is done and what is done now."""

import sys
import threading
from typing import Any

from tqdm import tqdm

from chatterbox.loading import tell


class CompileBar:
    """A progress bar that appears only when there is something to wait for; where standard error
    is no terminal (a service's log), a line for each stage. Within one, no other thread compiles:
    that takes most memory of all, and there is one line for a bar."""

    _one = threading.Lock()

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._bar: Any = None
        self._stage = ""  # the last one written to a log

    def __enter__(self) -> "CompileBar":
        self._one.acquire()
        return self

    def __call__(self, done: float, stage: str) -> None:
        """Called by a compiler; a graph found in the cache reports nothing between 0 and 1."""
        if self._bar is None and not self._stage and not 0.0 < done < 1.0:
            return
        tell("compiling", self._subject, done)
        title = f"compiling {self._subject}, {stage}"
        if not sys.stderr.isatty():
            if stage != self._stage:
                sys.stderr.write(f"{title}\n")
            self._stage = stage
            return
        if self._bar is None:
            self._bar = tqdm(total=100, unit="%", bar_format="{desc}: {percentage:3.0f}% {bar}")
        self._bar.set_description(title)
        self._bar.update(round(100 * done) - self._bar.n)

    def __exit__(self, *_: object) -> None:
        tell("opening")
        if self._bar is not None:
            self._bar.close()
        self._one.release()
