"""Finish a segment's text: single blanks, and a stop at its end."""

_ENDS = tuple(".!?…,;:-—。！？，、؟।")


def finish(text: str) -> str:
    """For a model whose authors say no more. A voice without a stop at the end goes on speaking."""
    text = " ".join(text.split())
    return text if text.endswith(_ENDS) else text + "."
