"""A new voice in three steps, and nothing stored before the last one."""

import httpx
import numpy as np
import pytest
import soundfile
from server.page.browser import Visit, clip
from server.page.test_takes import SIZES, size

pytestmark = pytest.mark.slow

RATE = 24_000


def names(visit: Visit) -> list[str]:
    return [voice["name"] for voice in httpx.get(visit.address + "/voices").json()["voices"]]


def active(visit: Visit) -> str:
    return visit.page.evaluate("document.activeElement.id")


def facts(visit: Visit) -> str:
    return visit.text("#clip-facts").replace("\u00a0", " ")


@SIZES
def test_recorded_checked_heard_and_kept_by_keyboard(browser, address, width):
    with Visit(browser, address, **size(width)).ready() as visit:
        before = names(visit)
        visit.page.focus("#new")
        visit.page.keyboard.press("Enter")
        assert "harbour" in visit.text("#step-1"), "the words are there before the recording"
        assert active(visit) == "record"
        visit.page.keyboard.press("Enter")
        visit.until("document.querySelector('#recording-status').textContent.includes('begins in')")
        visit.until("document.querySelector('#recording-status').textContent.includes(' 2 of')")
        visit.until("document.querySelector('#level').value > 0.1")
        visit.page.keyboard.press("Enter")
        visit.until("!document.querySelector('#step-2').hidden")
        visit.until("document.querySelector('#clip-facts').textContent.includes('loudest')")
        assert "The recording is short" in visit.text("#clip-problems")
        visit.until("document.activeElement.id === 'use'")
        visit.page.keyboard.press("Enter")
        visit.until("document.activeElement.id === 'name'")
        visit.page.keyboard.type(f"me {width}")
        visit.page.keyboard.press("Enter")
        assert "the speaker agrees" in visit.text("#new-error")
        assert active(visit) == "consent"
        visit.page.keyboard.press("Space")
        visit.page.keyboard.press("Tab")
        visit.page.keyboard.press("Enter")
        visit.until("document.querySelector('#new-progress').textContent.includes('how it sounds')")
        assert names(visit) == before, "nothing is stored yet"
        visit.page.focus("#register")
        visit.page.keyboard.press("Enter")
        visit.until("document.querySelector('#new-status').textContent.includes('in use now')")
        consents = httpx.get(address + "/v1/audio/voice_consents").json()["data"]
        assert consents[0]["name"] in names(visit)
        assert (
            visit.page.locator("#voices")
            .get_by_role("option", selected=True)
            .inner_text()
            .startswith(consents[0]["name"])
        )
        assert active(visit) == "voices-title"
        httpx.delete(f"{address}/voices/{consents[0]['name']}")  # each width records the same


@SIZES
def test_a_stretch_is_chosen_and_only_that_is_sent(browser, address, tmp_path, width):
    speech, rate = soundfile.read(
        clip(tmp_path / "a.wav", voice="rms", seconds=8, skip_s=width / 500)
    )
    quiet = np.zeros(3 * rate)
    soundfile.write(tmp_path / "b.wav", np.concatenate([quiet, speech, quiet]), rate)
    with Visit(browser, address, **size(width)).ready() as visit:
        visit.page.set_input_files("#choose", tmp_path / "b.wav")
        visit.until("document.querySelector('#clip-facts').textContent.includes('of 14.0 s')")
        assert 7 < float(facts(visit).split()[0]) < 9, "silence at the ends is left out"
        visit.page.focus("#clip-end")
        for _ in range(10):
            visit.page.keyboard.press("ArrowLeft")
        length_s = float(facts(visit).split()[0])
        visit.page.click("#hear-clip")
        visit.page.click("#use")
        visit.page.fill("#name", f"trimmed {width}")
        visit.page.check("#consent")
        visit.page.click("#register")
        visit.until("document.querySelector('#new-status').textContent.includes('in use now')")
        report = httpx.get(f"{address}/voices/trimmed {width}").json()["report"]
        assert report["duration_s"] == pytest.approx(length_s, abs=0.1)


def test_what_is_wrong_with_a_recording_is_said_before_it_is_sent(browser, address, tmp_path):
    speech, rate = soundfile.read(clip(tmp_path / "a.wav", seconds=6))
    cases = {
        "silent": (np.zeros(5 * rate), "The recording is silent", False),
        "short": (speech[: rate // 2], "too short", False),
        "clipped": (np.clip(20 * speech, -1, 1), "clipped", True),
        "quiet": (speech / np.abs(speech).max() * 0.05, "very quiet", True),
    }
    with Visit(browser, address).ready() as visit:
        before = names(visit)
        for name, (samples, words, usable) in cases.items():
            soundfile.write(tmp_path / f"{name}.wav", samples, rate)
            visit.page.set_input_files("#choose", tmp_path / f"{name}.wav")
            visit.until(f"document.querySelector('#clip-problems').textContent.includes({words!r})")
            assert visit.page.is_enabled("#use") == usable
        visit.page.click("#again")
        assert visit.page.is_visible("#step-1")
        visit.page.keyboard.press("Escape")
        assert names(visit) == before


def test_a_taken_name_gets_a_number(browser, address, tmp_path):
    with Visit(browser, address).ready() as visit:
        visit.choose(clip(tmp_path / "slt.wav", voice="awb", seconds=5))
        assert visit.page.input_value("#name") == "slt 2"
