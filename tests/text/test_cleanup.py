"""Does the clean-up do what the authors' program does, in their order?"""

import pytest

from chatterbox.text import clean_up


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
