"""Is this text valid Unicode, and is anything in it speakable?

Knows nothing of how text is read: it looks at single characters only.
"""

from chatterbox.errors import ChatterboxError, EmptyText, InvalidText


def require_unicode(text: str) -> None:
    """Raise InvalidText where a surrogate stands alone: no encoder downstream would take it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as failure:
        raise InvalidText(
            f"The text holds half of a surrogate pair at character {failure.start}; send whole "
            "Unicode characters.",
            param="text",
        ) from None


def is_speakable(text: str) -> bool:
    """Whether at least one letter is left to say."""
    return any(c.isalpha() for c in text)


def nothing_speakable() -> ChatterboxError:
    """The error for a text without a single word."""
    return EmptyText("Nothing in the text can be spoken: it needs at least one word.", param="text")
