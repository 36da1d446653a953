"""Tests of the error table."""

import inspect

from chatterbox import errors
from chatterbox.errors import ChatterboxError, error_table, excerpt


def test_codes_are_unique_and_statuses_are_http():
    table = error_table()
    named = [
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, ChatterboxError) and cls is not ChatterboxError and "code" in vars(cls)
    ]
    assert len(table) == len(named)
    assert all(400 <= cls.status < 600 for cls in table.values())
    assert all(cls.__doc__ for cls in table.values())


def test_input_shown_in_a_message_is_short_and_harmless():
    assert excerpt("a\r\nb\x00\ud800é") == "a\\x0d\\x0ab\\x00\\ud800\\xe9"
    assert len(excerpt("x" * 10_000)) == 64
