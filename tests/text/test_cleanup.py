"""The clean-up does what the authors' program does, in their order."""

import pytest

from chatterbox.families.turbo.spec import clean_up
from chatterbox.text.segment import finish


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("hello", "Hello."),
        ("Hello.", "Hello."),
        ("hello  \t big\nworld ", "Hello big world."),
        ("wait… what", "Wait,  what."),
        ("one: two", "One, two."),
        ("a—b – c", "A-b - c."),
        ("a , b", "A, b."),
        ("“q” ‘s’", "\"q\" 's'."),
        ("really?", "Really?"),
        ("and then,", "And then,"),
        ("and then -", "And then -"),
        ("so;", "So;."),
        ("[laugh] ha", "[laugh] ha."),
        (" late", "late."),
        ("ß", "SS."),
    ],
)
def test_cleans_up_as_the_authors_do(text: str, cleaned: str) -> None:
    assert clean_up(text) == cleaned


def test_a_clean_text_stays_as_it_is() -> None:
    text = "It is done, isn't it? Yes - it is."
    assert clean_up(text) == text


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("so  it\nis", "so it is."),
        ("wait…", "wait…"),
        ("one: two —", "one: two —"),
        ("왜?", "왜?"),
        ("你好。", "你好。"),
        ("नमस्ते।", "नमस्ते।"),
        ("[laugh]", "[laugh]."),
    ],
)
def test_other_families_get_a_stop_and_nothing_else(text: str, finished: str) -> None:
    assert finish(text) == finished
