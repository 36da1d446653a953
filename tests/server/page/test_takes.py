"""Nothing that was spoken is thrown away: takes, drafts, and the one player."""

import pytest
from server.page.browser import Visit, wait_for

pytestmark = pytest.mark.slow

SIZES = pytest.mark.parametrize("width", [1280, 390])
LONG = "And on it goes, one sentence after the other. " * 60


def size(width: int) -> dict:
    return {"viewport": {"width": width, "height": 800}}


def take(visit: Visit, text: str) -> None:
    before = visit.page.locator("#takes > li").count()
    visit.speak(text)
    visit.until(f"document.querySelectorAll('#takes > li').length === {before + 1}")


@SIZES
def test_a_refused_request_leaves_the_last_take_alone(browser, address, width):
    with Visit(browser, address, **size(width)).ready() as visit:
        take(visit, "A sentence worth keeping.")
        before = visit.text("#clock").split("/")[1]
        visit.page.fill("#speed", "9")
        visit.page.click("#go")
        assert "Speed: a number from 0.25 to 4." in visit.text("#speak-error")
        visit.page.fill("#speed", "")
        visit.speak("   ")
        visit.until("!document.querySelector('#speak-error').hidden")
        assert "unchanged" in visit.text("#progress")
        assert visit.page.locator("#takes > li").count() == 1
        assert visit.text("#clock").split("/")[1] == before
        visit.page.get_by_role("button", name="Play take 1").click()
        visit.until("document.querySelector('#play').ariaLabel === 'Pause'")


@SIZES
def test_takes_and_the_draft_outlive_a_reload_and_are_restored(browser, address, width):
    with Visit(browser, address, **size(width)).ready() as visit:
        visit.page.select_option("#voice", "rms")
        visit.page.fill("#speed", "1.5")
        take(visit, "First of two sentences.")
        visit.page.fill("#speed", "")
        visit.page.select_option("#voice", "awb")
        visit.page.fill("#text", "An unfinished draft")
        visit.reload()
        assert visit.page.input_value("#text") == "An unfinished draft"
        assert visit.page.input_value("#voice") == "awb"
        assert "First of two" in visit.text("#takes")
        visit.page.get_by_role("button", name="Restore text, voice and settings of take 1").click()
        assert visit.page.input_value("#text") == "First of two sentences."
        assert visit.page.input_value("#voice") == "rms"
        assert visit.page.input_value("#speed") == "1.5"
        seed = visit.page.input_value("#seed")
        assert f"seed {seed}" in visit.text("#takes")
        take(visit, "First of two sentences.")
        same = visit.page.evaluate("""async () => {
            const open = indexedDB.open("chatterbox");
            await new Promise((resolve) => (open.onsuccess = resolve));
            const all = open.result.transaction("takes").objectStore("takes").getAll();
            await new Promise((resolve) => (all.onsuccess = resolve));
            const [a, b] = all.result.map((take) => take.audio.size);
            return a > 9000 && a === b; // the samples agree to rounding
        }""")
        assert same, "the same seed, text, voice and settings"


def test_only_the_last_twenty_takes_are_kept(browser, address):
    with Visit(browser, address).ready() as visit:
        visit.page.evaluate("""async () => {
            const open = indexedDB.open("chatterbox");
            await new Promise((resolve) => (open.onsuccess = resolve));
            const store = open.result.transaction("takes", "readwrite").objectStore("takes");
            for (let id = 1; id <= 20; id++) store.put({
                id, at: 0, fields: { input: `number ${id}` }, voiceName: "slt", seconds: 1, seed: 1,
                figures: {}, marks: [], complete: true, sampleRate: 24000, audio: new Blob(),
            });
            await new Promise((resolve) => (store.transaction.oncomplete = resolve));
        }""")
        visit.reload()
        assert visit.page.locator("#takes > li").count() == 20
        visit.speak("One more.")
        visit.until("document.querySelector('#takes').textContent.includes('21 · slt')")
        assert visit.page.locator("#takes > li").count() == 20
        assert "number 2”" in visit.text("#takes")
        assert "number 1”" not in visit.text("#takes")
        visit.page.get_by_role("button", name="Forget take 2", exact=True).click()
        visit.until("document.querySelectorAll('#takes > li').length === 19")
        assert visit.page.evaluate("document.activeElement.id") == "takes-title"


def test_a_take_with_a_star_is_kept(browser, address):
    with Visit(browser, address).ready() as visit:
        take(visit, "This one stays.")
        visit.page.get_by_role("button", name="Keep take 1", exact=True).click()
        visit.until("document.querySelector('[aria-label=\"Keep take 1\"]').ariaPressed === 'true'")
        visit.page.evaluate("""async () => {
            const { keepTake } = await import("./page/keep.js");
            for (let n = 0; n < 21; n++) await keepTake({ fields: { input: "" }, figures: {} });
        }""")
        visit.reload()
        assert visit.page.locator("#takes > li").count() == 21
        kept = visit.page.get_by_role("button", name="Keep take 1", exact=True)
        assert kept.get_attribute("aria-pressed") == "true"


def test_a_take_is_fetched_in_any_format_under_a_name_of_its_own(browser, address):
    with Visit(browser, address).ready() as visit:
        take(visit, "On the first clear: morning/of the year.")
        for format_, magic in (("mp3", b"\xff"), ("opus", b"OggS"), ("flac", b"fLaC")):
            visit.page.select_option("#format", format_)
            with visit.page.expect_download() as download:
                visit.page.get_by_role("button", name="Download take 1").click()
            suffix = "ogg" if format_ == "opus" else format_
            name = download.value.suggested_filename
            assert name == f"slt-on-the-first-clear-morning-of.{suffix}"
            assert download.value.path().read_bytes().startswith((magic, b"ID3"))
        visit.reload()
        assert visit.page.input_value("#format") == "flac"


@SIZES
def test_two_takes_are_compared_blind_by_keyboard(browser, address, width):
    with Visit(browser, address, **size(width)).ready() as visit:
        take(visit, "This is one take.")
        assert visit.page.is_disabled("#compare")
        take(visit, "This is one take.")
        visit.page.focus("#compare")
        visit.page.keyboard.press("Enter")
        visit.until("document.activeElement.id === 'hear-a'")
        visit.page.keyboard.press("Enter")
        visit.until("document.querySelector('#hear-a').ariaPressed === 'true'")
        assert "take 1" not in visit.text("#now").lower()
        for _ in range(3):
            visit.page.keyboard.press("Tab")
        visit.page.keyboard.press("Enter")
        assert "You prefer take" in visit.text("#compare-says")
        visit.page.keyboard.press("Escape")
        visit.until("!document.querySelector('#compare-box').open")


@SIZES
def test_one_player_pauses_and_seeks_while_more_comes(browser, address, width):
    with Visit(browser, address, **size(width)).ready() as visit:
        visit.page.fill("#text", LONG)
        visit.page.press("#text", "Control+Enter")
        visit.until("document.querySelector('#where').textContent.includes('Part 1 of')")
        box = visit.page.locator("#dock").bounding_box()
        assert box["y"] + box["height"] <= 801, "always in view"
        assert "left" in visit.text("#where")
        wait_for(lambda: visit.seconds()[1] >= 6, "six seconds of sound")
        assert "…" in visit.text("#clock"), "more is coming"
        visit.page.focus("#seek")
        for _ in range(2):
            visit.page.keyboard.press("ArrowRight")
        visit.until("document.querySelector('#seek').value > 3.9")
        visit.page.keyboard.press("Shift+Tab")
        visit.page.keyboard.press("Space")
        visit.until("document.querySelector('#play').ariaLabel === 'Play'")
        at, length = visit.seconds()
        wait_for(lambda: visit.seconds()[1] > length, "it is made on while paused")
        assert visit.seconds()[0] == at
        visit.page.focus("#seek")
        visit.page.keyboard.press("Home")
        visit.until("document.querySelector('#seek').value < 0.1")
        visit.page.keyboard.press("Escape")
        visit.until("document.querySelectorAll('#takes > li').length === 1")
        assert visit.page.evaluate("document.querySelectorAll('audio:not(#preview)').length") == 0


def test_the_volume_is_kept(browser, address):
    with Visit(browser, address).ready() as visit:
        take(visit, "Not so loud.")
        visit.page.focus("#volume")
        visit.page.keyboard.press("Home")
        visit.reload()
        assert visit.page.evaluate("document.querySelector('#volume').value") == "0"


@SIZES
def test_the_text_is_read_along_and_one_part_is_said_anew(browser, address, width):
    with Visit(browser, address, **size(width)).ready() as visit:
        take(visit, LONG[: 47 * 12])
        pieces = visit.page.locator("#pieces button")
        assert pieces.count() > 1
        assert visit.page.locator("#pieces [tabindex='0']").count() == 1
        visit.page.focus("#pieces button")
        visit.page.keyboard.press("ArrowRight")
        visit.page.keyboard.press("Enter")
        visit.until("document.querySelectorAll('#pieces button')[1].ariaCurrent === 'true'")
        assert f"Part 2 of {pieces.count()}" in visit.text("#where")
        visit.page.focus("#anew")
        visit.page.keyboard.press("Enter")
        visit.until("document.querySelector('#takes-status').textContent.includes('take 2')")
        assert "a part said anew" in visit.text("#takes > li >> nth=0")
        assert visit.page.locator("#takes > li").count() == 2, "the first take is still there"
        at = visit.page.evaluate("Number(document.querySelector('#seek').value)")
        assert at > 1, "it goes on from the part"
