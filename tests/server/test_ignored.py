"""What changes nothing is named, within bounds and without anything that a header cannot hold."""

from chatterbox.dialects.llama_server import Fields
from chatterbox.server.body import Body
from chatterbox.server.schemas import IGNORED_HEADER, MAX_NAMED, ignored_header, lenient_fields_of


def test_names_in_their_order_each_once():
    assert ignored_header(["speed", "style", "speed"]) == {IGNORED_HEADER: "speed, style"}
    assert ignored_header([]) == {}


def test_any_name_fits_into_a_header():
    value = ignored_header(["a,b", "ü\r\nX: 1", "x" * 500])[IGNORED_HEADER]
    assert value.isascii()
    assert value.isprintable()
    assert value.count(", ") == 2
    for blank in ("", " ", "a "):
        value = ignored_header([blank])[IGNORED_HEADER]
        assert value
        assert value == value.strip()


def test_there_is_an_end_to_it():
    value = ignored_header(str(n) for n in range(100))[IGNORED_HEADER]
    assert len(value.split(", ")) == MAX_NAMED
    assert value.endswith(", ...")


def test_a_field_by_its_other_name_is_not_ignored():
    body = Body({"prompt": "Hello.", "n_predict": 20, "n_probs": 0}, typed=True)
    fields, unknown = lenient_fields_of(Fields, body)
    assert fields.max_tokens == 20
    assert unknown == ("n_probs",)
