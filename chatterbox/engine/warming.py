"""What if a voice cannot be prepared? Nobody waits for that: its first request meets the fault.

Knows no model and no thread.
"""

import logging
from collections.abc import Callable

from chatterbox.model.contract import Voice
from chatterbox.model.graph_faults import is_out_of_memory, is_rows_own

log = logging.getLogger(__name__)


def warmed(warm: Callable[[Voice], None], voice: Voice) -> None:
    """Have `voice` prepared by `warm`. What is the voice's own fault, or a want of memory, is only
    logged; anything else is raised."""
    try:
        warm(voice)
    except Exception as fault:
        if not (is_out_of_memory(fault) or is_rows_own(fault)):
            raise
        log.warning("a voice could not be prepared: %s", fault)
