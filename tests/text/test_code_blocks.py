"""Fenced code is skipped, or spoken where that is asked for."""

import pytest

from chatterbox.errors import EmptyText
from chatterbox.text import SegmentLimits, prepare
from chatterbox.text.markup import SKIPPED_PAUSE_S

LIMITS = SegmentLimits()


def said(text: str, code_blocks: str = "skip") -> str:
    return " | ".join(segment.text for segment in prepare(text, LIMITS, code_blocks))


@pytest.mark.parametrize(
    "block",
    [
        *("```\nrm -rf\n```", "```python\nrm = 1\n\nrm = 2\n```", "~~~\nrm\n```\nrm\n~~~"),
        *("````\nrm\n```\nrm\n````", "   ```sh\n   rm\n   ```", "> ```\n> rm\n> ```"),
        *(
            "- ```js\n  rm()\n  ```",
            "1. ~~~\nrm\n~~~~",
            "```\r\nrm\r\n```",
            "```{.rm}\n# rm\n```  ",
        ),
        *("```\nrm `rm`\n```", "``` rm\n[rm](rm)\n<rm>\n[pause:9s]\n```", "```\n```"),
    ],
    ids=ascii,
)
def test_a_block_is_a_short_pause(block):
    first, second = prepare(f"Do it like this:\n{block}\nAnd then go.", LIMITS)
    assert (first.text, second.text) == ("Do it like this.", "And then go.")
    assert second.pause_before_s == SKIPPED_PAUSE_S
    with pytest.raises(EmptyText):
        prepare(block, LIMITS)


def test_a_block_that_is_not_closed_goes_to_the_end():
    assert said("Look:\n```\nrm\n\nrm -rf. Really.") == "Look."


@pytest.mark.parametrize(
    "text",
    ["Call `the thing` now.", "Call ```the thing``` now.", "```Call the thing``` now.", "~~Call~~"],
)
def test_code_inside_a_sentence_is_spoken(text):
    assert "Call" in said(text)
    assert "thing" in said(text) or "~" in text


def test_blocks_are_spoken_where_that_is_asked_for():
    assert said("So:\n```python\nx = 5\n```\nDone.", "speak") == "So. x equals five. Done."
