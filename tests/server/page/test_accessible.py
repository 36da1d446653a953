"""axe finds nothing, at any size, light, dark and with forced colours; nothing scrolls sideways."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from server.page.browser import Visit, clip

pytestmark = pytest.mark.slow

LOOKS = [
    (1280, {"color_scheme": "light"}),
    (1024, {"color_scheme": "dark"}),
    (390, {"color_scheme": "light"}),
    (320, {"color_scheme": "dark"}),
    (1280, {"forced_colors": "active"}),
]


def findings(visit: Visit) -> list[str]:
    found = Axe().run(visit.page).response["violations"]
    return [f"{one['id']}: {[node['html'][:120] for node in one['nodes']]}" for one in found]


def scrolls_sideways(visit: Visit) -> bool:
    return visit.page.evaluate("document.documentElement.scrollWidth > innerWidth")


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_axe_finds_nothing(browser, address, tmp_path, width, look):
    viewport = {"width": width, "height": 800}
    with Visit(
        browser, address, viewport=viewport, reduced_motion="reduce", **look
    ).ready() as visit:
        assert findings(visit) == []
        for _ in range(2):
            visit.speak("Words.")
            visit.spoken()
        visit.speak("   ")
        visit.until("!document.querySelector('#speak-error').hidden")
        for summary in visit.page.locator("main summary").all():
            summary.click()
        assert findings(visit) == []
        assert not scrolls_sideways(visit)
        for box in ("#server-box", "#key-box"):
            visit.page.click(f"{box} summary")
            assert findings(visit) == []
            assert not scrolls_sideways(visit)
            visit.page.click(f"{box} summary")
        visit.page.set_input_files("#choose", clip(tmp_path / "a.wav", seconds=4))
        visit.until("!document.querySelector('#step-2').hidden")
        assert findings(visit) == []
        visit.page.click("#use")
        assert findings(visit) == []
        assert not scrolls_sideways(visit)
        visit.page.keyboard.press("Escape")
        visit.page.click("#compare")
        assert findings(visit) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_reference(browser, address, scheme):
    with Visit(browser, address, "/docs", color_scheme=scheme) as visit:
        visit.until("document.querySelectorAll('#calls details').length > 10")
        assert findings(visit) == []
        for path in ("/tts", "/v1/audio/speech/stream", "overloaded"):
            visit.page.locator("#calls summary").filter(
                has=visit.page.locator(f".path >> text='{path}'")
            ).first.click()
        assert findings(visit) == []
