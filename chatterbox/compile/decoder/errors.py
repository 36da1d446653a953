"""The error of a decoder that cannot be rewritten; callers get a plainer form instead."""


class NotSplittable(ValueError):
    """The graph is not built as expected here; the message says how."""
