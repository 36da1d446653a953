"""The page says how the server is, and looks as the reader wants it."""

import json

import pytest
from server.page.browser import Visit, served
from server.page.test_accessible import findings
from server.page.test_takes import SIZES, size

pytestmark = pytest.mark.slow


def state(visit: Visit, wanted: str) -> None:
    visit.until(f"document.querySelector('#health').dataset.state === '{wanted}'")


@SIZES
def test_a_server_that_goes_away_is_noticed_and_takes_stay(browser, tmp_path, width):
    with served(tmp_path) as address, Visit(browser, address, **size(width)).ready() as visit:
        visit.speak("Words that stay.")
        visit.spoken()
        visit.page.route("**/health", lambda route, _: route.abort())
        state(visit, "gone")
        assert visit.text("#health") == "Not reachable"
        assert visit.page.is_disabled("#go")
        visit.page.get_by_role("button", name="Play take 1").click()
        visit.until("document.querySelector('#play').ariaLabel === 'Pause'")
        visit.page.unroute("**/health")
        state(visit, "ok")
        assert visit.page.is_enabled("#go")
        visit.complaints.clear()


@SIZES
def test_a_refusal_leaves_alone_what_is_still_made(browser, tmp_path, width):
    with served(tmp_path) as address, Visit(browser, address, **size(width)).ready() as visit:
        visit.speak("And on it goes, one sentence after the other. " * 60)
        visit.until("document.querySelector('#where').textContent.includes('Part 1 of')")
        visit.speak("   ")
        visit.until("document.querySelector('#speak-error').textContent.includes('empty')")
        assert visit.page.is_enabled("#stop"), "the first one goes on"
        visit.page.click("#stop")
        visit.until("document.querySelectorAll('#takes > li').length === 1")
        assert "And on it goes" in visit.text("#takes")
        visit.complaints.clear()


def test_a_wrong_key_is_not_a_missing_key(browser, address):
    error = {"message": "A key is needed.", "code": "invalid_api_key", "param": None}
    refused = {"status": 401, "body": json.dumps({"error": error})}
    with Visit(browser, address).ready() as visit:
        visit.page.route("**/health", lambda route, _: route.fulfill(**refused))
        state(visit, "no-key")
        assert visit.text("#health") == "API key needed"
        visit.page.fill("#key", "not-the-right-one")
        visit.page.press("#key", "Enter")
        state(visit, "wrong-key")
        assert visit.text("#health") == "Wrong API key"
        visit.until("document.querySelector('#key-box').open")
        assert "does not know this key" in visit.text("#key-says")


@pytest.mark.parametrize("path", ["/docs", "/?reference"])
def test_the_reference_of_a_locked_server_asks_for_the_key(browser, tmp_path, path):
    with served(tmp_path, API_KEYS="the-right-key") as address, Visit(browser, address, path) as it:
        it.until("document.querySelector('dialog[open]')")
        assert "asks for a key" in it.text("dialog [role=status]")
        assert findings(it) == []
        for key in ("a-wrong-key", "the-right-key"):
            it.page.fill("dialog #key", key)
            it.page.press("dialog #key", "Enter")
            it.until(f"sessionStorage.getItem('chatterbox.key') === '{key}'")
            if key == "a-wrong-key":
                says = "document.querySelector('dialog [role=status]')?.textContent"
                it.until(f"{says} === 'This API key is not valid.'")
        it.until("document.querySelectorAll('#calls details').length > 10")


def test_loading_shows_its_stage_and_how_far_it_is(browser, address):
    with Visit(browser, address).ready() as visit:
        body = {"status": "loading", "version": "1"}
        visit.page.route("**/health", lambda route, _: route.fulfill(body=json.dumps(body)))
        for loading, word, shown in (
            (
                {"stage": "downloading", "detail": "312 of 812 MB", "done": 0.38},
                "Downloading",
                0.38,
            ),
            ({"stage": "compiling", "detail": "the decoder", "done": 0.5}, "Compiling", 0.5),
            ({"stage": "opening", "detail": "", "done": None}, "Opening the model", None),
        ):
            body["loading"] = loading
            visit.until(f"document.querySelector('#health').textContent === '{word}'")
            assert visit.page.is_disabled("#go")
            bar = visit.page.locator("#loaded")
            assert bar.is_visible() == bool(loading["detail"])
            if shown:
                assert bar.evaluate("bar => bar.value") == shown
                assert visit.text("#load") == loading["detail"]
        body |= {"status": "ok", "loading": {"stage": "warming", "detail": "", "done": None}}
        visit.until("document.querySelector('#health').textContent.startsWith('Warming up')")
        assert visit.page.is_enabled("#go")


def test_the_note_is_closed_for_good_and_the_colours_are_kept(browser, address):
    with Visit(browser, address, color_scheme="light").ready() as visit:
        visit.page.get_by_role("button", name="Close the note").click()
        ground = "getComputedStyle(document.body).backgroundColor"
        light = visit.page.evaluate(ground)
        for _ in range(2):
            visit.page.click("#theme")
        assert visit.page.get_attribute("#theme", "aria-label") == "Colours: dark"
        dark = visit.page.evaluate(ground)
        assert dark != light
        visit.reload()
        assert visit.page.evaluate(ground) == dark
        assert not visit.page.is_visible("#notice")


@SIZES
def test_the_drawer_shows_how_busy_the_server_is(browser, address, width):
    with Visit(browser, address, **size(width)).ready() as visit:
        visit.speak("One request.")
        visit.spoken()
        visit.page.focus("#server-box summary")
        visit.page.keyboard.press("Enter")
        visit.until(
            "document.querySelector('#server-facts').textContent.includes('First audio, p95')"
        )
        facts = visit.text("#server-facts")
        assert all(
            words in facts
            for words in ("mini, fp32", "of 8, 0 waiting", "ok ", "MB", "Last request")
        ), facts
        box = visit.page.locator("#server-box .pop").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
