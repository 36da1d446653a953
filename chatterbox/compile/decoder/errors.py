"""Why a decoder cannot be opened up: never seen by callers, who get the whole decoder instead."""


class NotSplittable(ValueError):
    """The graph is not built as expected here; the message says how."""
