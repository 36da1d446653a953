"""A progress bar for compilers: they call it with how much is done and what is done now."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from chatterbox.loading import report_progress

Progress = Callable[[float, str], None]
"""Told how much of the work is done, 0 to 1, and what is done now."""
_ONE = threading.Lock()


@contextmanager
def compile_bar(subject: str) -> Iterator[Progress]:
    """A progress bar that appears only when there is something to wait for; where standard error
    is no terminal (a service's log), a line for each stage. Within one, no other thread compiles:
    that takes most memory of all, and there is one line for a bar."""
    bar: Any = None
    logged = ""  # the last stage

    def progress(done: float, stage: str) -> None:
        nonlocal bar, logged
        if bar is None and not logged and not 0.0 < done < 1.0:
            return  # a graph found in the cache reports nothing between 0 and 1
        report_progress("compiling", subject, done)
        title = f"compiling {subject}, {stage}"
        if sys.stderr.isatty():
            if bar is None:
                bar = tqdm(total=100, unit="%", bar_format="{desc}: {percentage:3.0f}% {bar}")
            bar.set_description(title)
            bar.update(round(100 * done) - bar.n)
        elif stage != logged:
            sys.stderr.write(f"{title}\n")
            logged = stage

    with _ONE:
        try:
            yield progress
        finally:
            report_progress("opening")
            if bar is not None:
                bar.close()
