"""What does the authors' own program do to a text before it tokenises it?

Knows nothing else: the same steps in the same order, so that equal text gives equal tokens.
"""

_REPLACED = (
    ("…", ", "),
    (":", ","),
    ("—", "-"),
    ("–", "-"),
    (" ,", ","),
    ("“", '"'),
    ("”", '"'),
    ("‘", "'"),
    ("’", "'"),
)
"""In this order (chatterbox-tts 0.1.7)."""
_ENDS = (".", "!", "?", "-", ",")


def clean_up(text: str) -> str:
    """`text` as the model was trained to see it. At most one character longer than before, unless
    it begins with a letter whose capital is several, or holds an ellipsis character."""
    if text[:1].islower():
        text = text[0].upper() + text[1:]
    text = " ".join(text.split())
    for written, put in _REPLACED:
        text = text.replace(written, put)
    text = text.rstrip(" ")
    return text if text.endswith(_ENDS) else text + "."
