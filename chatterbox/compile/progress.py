"""Progress bar for compilers."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from chatterbox.loading import report_progress

Progress = Callable[[float, str], None]
"""Called with the completed share of the work, 0 to 1, and the name of the current stage."""
_COMPILING = threading.Lock()


@contextmanager
def compile_bar(subject: str) -> Iterator[Progress]:
    """Show progress on standard error: a bar on a terminal, otherwise a line for each stage.

    Nothing appears if the compiled graph is in the cache. Only one thread compiles at a time,
    because compiling takes much memory and a terminal has room for one bar.
    """
    bar: Any = None
    logged_stage = ""

    def progress(done: float, stage: str) -> None:
        nonlocal bar, logged_stage
        if bar is None and not logged_stage and not 0.0 < done < 1.0:
            return  # a graph from the cache reports nothing between 0 and 1
        report_progress("compiling", subject, done)
        title = f"compiling {subject}, {stage}"
        if sys.stderr.isatty():
            if bar is None:
                bar = tqdm(total=100, unit="%", bar_format="{desc}: {percentage:3.0f}% {bar}")
            bar.set_description(title)
            bar.update(round(100 * done) - bar.n)
        elif stage != logged_stage:
            sys.stderr.write(f"{title}\n")
            logged_stage = stage

    with _COMPILING:
        try:
            yield progress
        finally:
            report_progress("opening")
            if bar is not None:
                bar.close()
