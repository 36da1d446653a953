"""A text that is longer than one call may be is spoken as one take."""

import json

import pytest
from server.page.browser import Visit, served
from server.page.test_takes import SIZES, size

pytestmark = pytest.mark.slow

PARAGRAPHS = [f"This is paragraph number {n}, and it has its own few words." for n in range(1, 5)]
MOST = "80"


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The address of a server that takes a paragraph at a time."""
    with served(tmp_path_factory.mktemp("data"), MAX_TEXT_LENGTH=MOST) as address:
        yield address


@SIZES
def test_paragraphs_become_one_take(browser, short, width):
    with Visit(browser, short, **size(width)).ready() as visit:
        sent = []
        full = json.dumps({"error": {"message": "Full.", "code": "overloaded", "param": None}})

        def speech(route, request):
            sent.append(request.post_data_json)
            if len(sent) == 2:  # full for a moment, between two pieces
                return route.fulfill(status=429, body=full, headers={"Retry-After": "1"})
            return route.continue_()

        visit.page.route("**/v1/audio/speech", speech)
        visit.page.fill("#text", "\n\n".join(PARAGRAPHS))
        assert "sent in 4 pieces" in visit.text("#count")
        visit.page.click("#go")
        visit.until(
            "/^Part 1 of about 4 · .* left/.test(document.getElementById('where').textContent)"
        )
        visit.spoken()
        assert [one["input"].strip() for one in sent] == [PARAGRAPHS[n] for n in (0, 1, 1, 2, 3)]
        assert len({one["seed"] for one in sent}) == 1
        assert visit.page.locator("#takes > li").count() == 1
        pieces = visit.page.locator("#pieces button")
        assert [text.strip() for text in pieces.all_inner_texts()] == PARAGRAPHS
        pieces.nth(2).click()
        visit.until("document.querySelectorAll('#pieces button')[2].ariaCurrent === 'true'")
        assert "Part 3 of 4" in visit.text("#where")
        visit.page.click("#anew")
        visit.until("document.querySelector('#takes-status').textContent.includes('take 2')")
        assert sent[-1]["input"] == PARAGRAPHS[2]
        for name, format_ in (("take 1", "mp3"), ("take 2", "wav")):
            visit.page.select_option("#format", "mp3")
            with visit.page.expect_download() as download:
                visit.page.get_by_role("button", name=f"Download {name}", exact=True).click()
            assert download.value.suggested_filename.endswith(format_)
            assert download.value.path().stat().st_size > 20_000


CUTS = (
    (20, ["Short."]),
    (20, [""]),
    (20, ["One line here.\n", "And another line."]),
    (20, ["One here. Two. ", "And three. Four."]),
    (20, ["so many words ", "without any end at ", "all"]),
    (5, ["abcde", "fghij", "kl"]),
    (3, ["ab", "\U0001f600c", "d"]),
    (8, ["これは一。", "これは二つ目。"]),
)


def test_where_a_text_is_cut(browser, address):
    with Visit(browser, address).ready() as visit:
        for most, pieces in CUTS:
            cut = """async ([most, text]) => {
                const { allow, piecesOf } = await import("./page/pieces.js");
                allow(most);
                return piecesOf(text);
            }"""
            assert visit.page.evaluate(cut, [most, "".join(pieces)]) == pieces
