"""Voices that can be heard, told apart and found; by keyboard, sixty of them."""

import httpx
import pytest
from server.page.browser import Visit, clip, wait_for
from server.page.test_takes import SIZES, size

pytestmark = pytest.mark.slow

WORDS = [f"{a}{b}" for a in "bdfghklmnprtvwyz" for b in ("ara", "elo", "ino", "una")][:60]


def crowd(visit: Visit, count: int = 60) -> Visit:
    """Lists made-up voices: their recordings would take minutes to encode."""
    answer = httpx.get(visit.address + "/voices").json()
    like = answer["voices"][0] | {"built_in": False, "description": "", "aliases": []}
    more = [like | {"voice_id": f"v-{word}", "name": word} for word in WORDS[:count]]
    body = answer | {"voices": [*answer["voices"], *more]}
    visit.page.route("**/voices", lambda route, _: route.fulfill(json=body))
    visit.reload()
    visit.until(f"document.querySelectorAll('[role=option]').length === {count + 4}")
    return visit


@SIZES
def test_voices_are_described_and_can_be_heard(browser, address, width):
    with Visit(browser, address, **size(width)).ready() as visit:
        assert (
            "a woman, US English"
            in visit.page.locator("#voices").get_by_role("option", name="slt").inner_text()
        )
        visit.page.locator("#voices").get_by_role("option", name="rms").click()
        visit.page.get_by_role("button", name="Hear rms").click()
        visit.until("document.querySelector('#now').textContent === 'Recording of rms'")
        wait_for(lambda: visit.seconds()[1] > 3, "its recording is there")
        visit.page.focus("#voices")
        visit.page.keyboard.press("ArrowDown")
        visit.page.keyboard.press("Enter")
        visit.until("document.querySelector('#now').textContent === 'Recording of slt'")


@SIZES
def test_from_speak_to_any_of_sixty_voices_in_five_keys(browser, address, width):
    with Visit(browser, address, **size(width)).ready() as visit:
        crowd(visit)
        for name in ("wino", "kara"):
            visit.page.focus("#go")
            keys = len(name[:-1])
            while visit.page.evaluate("document.activeElement.id") != "voice":
                visit.page.keyboard.press("Shift+Tab")
                keys += 1
            visit.page.keyboard.type(name[:-1])
            assert visit.page.locator("#voice option:checked").inner_text() == name
            assert keys <= 5
        visit.page.focus("#voices")
        visit.page.keyboard.type("win")
        option = visit.page.locator("#voices").get_by_role("option", selected=True)
        assert option.inner_text().startswith("wino")
        list_, row = visit.page.locator("#voices").bounding_box(), option.bounding_box()
        assert list_["y"] <= row["y"] <= list_["y"] + list_["height"], "it is in view"
        visit.page.keyboard.press("Home")
        assert visit.page.input_value("#voice") == "v-bara"
        visit.page.keyboard.press("End")
        assert visit.page.input_value("#voice") == "slt"


def test_the_list_is_one_tab_stop_and_is_searched(browser, address):
    with Visit(browser, address).ready() as visit:
        crowd(visit)
        visit.page.focus("#voices")
        visit.page.keyboard.press("Tab")
        assert "Hear" in visit.page.evaluate("document.activeElement.ariaLabel")
        visit.page.fill("#filter", "scottish")
        assert visit.page.locator("#voices [role=option]").all_inner_texts()[0].startswith("awb")
        visit.page.fill("#filter", "zzz")
        assert visit.text("#voices-none") == "There is no voice called “zzz”."
        assert not visit.page.is_visible("#voices")


def test_a_voice_that_came_by_another_way_appears_on_focus(browser, address, tmp_path):
    with Visit(browser, address).ready() as visit:
        with clip(tmp_path / "a.wav", voice="awb", seconds=5, skip_s=2).open("rb") as file:
            form = {"name": "from elsewhere"}
            httpx.post(address + "/voices/register", data=form, files={"voice_file": file})
        visit.page.evaluate("window.dispatchEvent(new Event('focus'))")
        visit.until("document.querySelector('#voices').textContent.includes('from elsewhere')")
        assert visit.page.input_value("#voice") == "slt", "the choice stays"
