"""A server with several models: one is chosen, and what hangs on it follows."""

import pytest
from server.page.browser import Visit, served
from server.page.test_accessible import findings, scrolls_sideways
from server.page.test_programs import run
from server.page.test_takes import size, take

from tools.model_builder.orpheus import OrpheusSize, write_orpheus

pytestmark = pytest.mark.slow

SHORT = {"MAX_NEW_TOKENS": "120"}
"""Random weights find no end by themselves."""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The address of a server with the embedded model and one of the Orpheus family."""
    directory = tmp_path_factory.mktemp("models")
    write_orpheus(directory / "ft", OrpheusSize(), ["fp32"])
    with served(directory / "data", MODELS=str(directory / "ft"), **SHORT) as address:
        yield address


def test_a_model_that_is_not_loaded_yet(browser, tmp_path):
    write_orpheus(tmp_path / "ft", OrpheusSize(), ["fp32"])
    lazy = {"LOAD_MODELS": "first_use", "MAX_LOADED_MODELS": "1"}
    with (
        served(tmp_path / "data", MODELS=str(tmp_path / "ft"), **lazy, **SHORT) as address,
        Visit(browser, address).ready() as visit,
    ):
        visit.page.select_option("#model", "ft")
        visit.until("document.querySelector('#tags').textContent.includes('yawn')")
        take(visit, "Loaded when it was chosen.")
        visit.page.select_option("#model", "mini")
        visit.until("document.querySelector('#tags').textContent.includes('whispering')")
        take(visit, "And the first one again.")


def test_a_model_is_chosen_and_speaks(browser, two, tmp_path):
    with Visit(browser, two, **size(390)).ready() as visit:
        assert findings(visit) == []
        assert not scrolls_sideways(visit)
        assert visit.page.locator("#model option").all_inner_texts() == ["mini", "ft"]
        take(visit, "The first model.")
        visit.page.select_option("#model", "ft")
        visit.until("document.querySelector('#voices').textContent.includes('tara')")
        visit.until("document.querySelector('#tags').textContent.includes('yawn')")
        visit.reload()
        assert visit.page.input_value("#model") == "ft"
        visit.page.select_option("#voice", "tara")
        take(visit, "The second model.")
        newest, oldest = visit.page.locator("#takes .hint").all_inner_texts()
        assert "ft" in newest.split(" · ")
        assert "mini" in oldest.split(" · ")
        for kind in ("openai", "python", "websocket"):
            visit.page.check(f"[name=snippet][value={kind}]")
            program = visit.page.text_content("#snippet")
            assert '"ft"' in program
            run(kind, program, tmp_path)
        visit.page.get_by_role("button", name="Restore text, voice and settings of take 1").click()
        visit.until("document.querySelector('#voices').textContent.includes('slt')")
        visit.until("document.querySelector('#voice').value === 'slt'")
        assert visit.page.input_value("#model") == "mini"


def test_one_model_is_not_chosen(browser, address):
    with Visit(browser, address).ready() as visit:
        assert visit.page.locator("#model").is_hidden()
        assert "model" not in visit.text("#snippet")
