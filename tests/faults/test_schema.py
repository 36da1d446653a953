"""Calls that fit the schema, and calls that do not, never cause a server error.

schemathesis makes the calls from `/openapi.json`, with a key and without one. It takes seconds to
import. By default, `dialects/test_hostile.py`, `test_bytes.py` and `test_keys.py` show the same
with calls written by hand.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from dialects.live import live
from faults.harness import KEY
from harness import FakeEngine, server_config
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chatterbox.dialects.registry import DIALECTS
from chatterbox.server.app import create_app
from chatterbox.server.request_log import PROBES

SCHEMA = create_app(FakeEngine(), server_config(), DIALECTS).openapi()
CALLS = [f"{verb.upper()} {path}" for path, verbs in SCHEMA["paths"].items() for verb in verbs]
pytestmark = pytest.mark.slow
GENERATE = {"phases": [Phase.generate], "suppress_health_check": list(HealthCheck)}


@pytest.fixture(scope="module")
def operations() -> dict[str, Any]:
    """Return the operations by call. Imports schemathesis, which takes seconds."""
    import schemathesis

    found = schemathesis.openapi.from_dict(SCHEMA).get_all_operations()
    return {one.ok().label: one.ok() for one in found}


@dataclass
class Server:
    url: str
    session: requests.Session

    def answer(self, case: Any, key: str | None = None) -> Any:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return case.call(base_url=self.url, session=self.session, headers=headers)


@contextmanager
def server(**config) -> Iterator[Server]:
    with live(FakeEngine(), **config) as running, requests.Session() as session:
        yield Server(running.http, session)


@pytest.fixture(scope="module")
def unlocked() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    with server(api_keys=KEY) as running:
        yield running


def cases(operation: Any) -> st.SearchStrategy[Any]:
    from schemathesis import GenerationMode

    right = operation.as_strategy()
    wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    return right if operation.label.startswith("GET") else st.one_of(right, wrong)


def check(case: Any, answer: Any) -> None:
    from schemathesis.checks import not_a_server_error

    case.validate_response(answer, checks=[not_a_server_error])
    if answer.status_code >= 400:
        assert answer.json().keys() in ({"error"}, {"detail"}), answer.text
        assert "Traceback" not in answer.text


def test_schema_has_every_call(operations):
    assert sorted(operations) == sorted(CALLS)
    assert len(CALLS) > 55


@pytest.mark.parametrize("name", CALLS)
def test_generated_calls_get_valid_responses(unlocked, locked, operations, name):
    @settings(max_examples=150, **GENERATE)
    @given(cases(operations[name]))
    def calls(case) -> None:
        check(case, unlocked.answer(case))
        check(case, locked.answer(case, KEY))

    calls()


@pytest.mark.parametrize("name", CALLS)
def test_f70_f80_generated_calls_without_a_key_are_refused(locked, operations, name):
    @settings(max_examples=1, **GENERATE)
    @given(cases(operations[name]))
    def calls(case) -> None:
        answer = locked.answer(case)
        check(case, answer)
        assert answer.status_code == (200 if operations[name].path in PROBES else 401)

    calls()
