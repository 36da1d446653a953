"""What changes nothing is named, within bounds and without anything that a header cannot hold."""

from chatterbox.server.schemas import HEADER, MAX_NAMED, ignored_header


def test_names_in_their_order_each_once():
    assert ignored_header(["speed", "style", "speed"]) == {HEADER: "speed, style"}
    assert ignored_header([]) == {}


def test_any_name_fits_into_a_header():
    value = ignored_header(["a,b", "ü\r\nX: 1", "x" * 500])[HEADER]
    assert value.isascii()
    assert value.isprintable()
    assert value.count(", ") == 2
    for blank in ("", " ", "a "):
        value = ignored_header([blank])[HEADER]
        assert value
        assert value == value.strip()


def test_there_is_an_end_to_it():
    value = ignored_header(str(n) for n in range(100))[HEADER]
    assert len(value.split(", ")) == MAX_NAMED
    assert value.endswith(", ...")
