"""The header that lists ignored parameters."""

from chatterbox.dialects.llama_server import Fields
from chatterbox.server.body import Body
from chatterbox.server.schemas import (
    IGNORED_HEADER,
    MAX_NAMED,
    ignored_header,
    parse_lenient_fields,
)


def test_names_are_listed_once_in_order():
    assert ignored_header(["speed", "style", "speed"]) == {IGNORED_HEADER: "speed, style"}
    assert ignored_header([]) == {}


def test_names_are_escaped_for_a_header():
    value = ignored_header(["a,b", "ü\r\nX: 1", "x" * 500])[IGNORED_HEADER]
    assert value.isascii()
    assert value.isprintable()
    assert value.count(", ") == 2
    for blank in ("", " ", "a "):
        value = ignored_header([blank])[IGNORED_HEADER]
        assert value
        assert value == value.strip()


def test_number_of_names_is_limited():
    value = ignored_header(str(n) for n in range(100))[IGNORED_HEADER]
    assert len(value.split(", ")) == MAX_NAMED
    assert value.endswith(", ...")


def test_field_under_an_alias_is_not_ignored():
    body = Body({"prompt": "Hello.", "n_predict": 20, "n_probs": 0}, typed=True)
    fields, unknown = parse_lenient_fields(Fields, body)
    assert fields.max_tokens == 20
    assert unknown == ("n_probs",)
