"""The page as a person uses it: Chromium, a real server, the embedded model."""

import base64
import json
import wave

import pytest
from playwright.sync_api import Request
from server.page.browser import Visit, clip, served
from server.page.test_programs import KINDS

from tools.model_builder.orpheus import OrpheusSize, write_orpheus

pytestmark = pytest.mark.slow

MARKUP = '<img src=x onerror="alert(1)">'
PHONE = {"viewport": {"width": 360, "height": 740}}


def inked(visit: Visit) -> float:
    """Share of the waveform's pixels that are painted."""
    return visit.page.evaluate("""() => {
        const canvas = document.querySelector("#wave");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((value, i) => i % 4 === 3 && value > 0).length / (data.length / 4);
    }""")


def test_register_by_file_speak_and_play(browser, address, tmp_path):
    with Visit(browser, address).ready() as visit:
        assert "not Chatterbox Turbo" in visit.text("#notice")
        assert "mini" in visit.text("#health")
        visit.register(clip(tmp_path / "me.wav", seconds=4.0), MARKUP)
        assert "of speech were found" in visit.text("#new-warnings")
        visit.speak("Hello from the voice that was just made.")
        visit.spoken()
        assert inked(visit) > 0.05
        facts = visit.text("#takes .hint")
        assert all(word in facts for word in ("first audio", "RTF", "tokens", "seed")), facts
        length_s = float(visit.text("#progress").split()[1])
        with visit.page.expect_download() as download:
            visit.page.get_by_role("button", name="Download take 1").click()
        assert download.value.suggested_filename.endswith("hello-from-the-voice-that.wav")
        with wave.open(str(download.value.path())) as file:
            assert file.getnframes() / file.getframerate() == pytest.approx(length_s, abs=0.06)
        spoken = visit.page.locator("#voice option:checked")
        assert spoken.inner_text() == MARKUP


def test_f77_names_are_text(browser, address, tmp_path):
    with Visit(browser, address).ready() as visit:
        visit.register(clip(tmp_path / "a.wav", skip_s=1.0), "<b>&amp;<b> \"; filename=x '")
        names = visit.page.locator("#voices .name").all_inner_texts()
        assert "<b>&amp;<b> \"; filename=x '" in names
        assert visit.page.locator("#voices img, #voices b, #new-status b").count() == 0
        inline = "const s = document.createElement('script'); s.textContent = 'window.bad = 1';"
        visit.page.evaluate(f"() => {{ {inline} document.body.append(s); }}")
        assert visit.page.evaluate("window.bad === undefined")
        assert any("Content Security Policy" in complaint for complaint in visit.complaints)
        visit.complaints.clear()


def test_a_file_may_be_dropped_anywhere_and_another_voice_used(browser, address, tmp_path):
    with Visit(browser, address).ready() as visit:
        data = list(clip(tmp_path / "d.wav", voice="awb", seconds=5.5, skip_s=3.0).read_bytes())
        visit.page.evaluate(
            """(bytes) => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([new Uint8Array(bytes)], "dropped by.me.wav"));
            const drop = { dataTransfer, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new DragEvent("drop", drop));
        }""",
            data,
        )
        visit.until("!document.querySelector('#step-2').hidden")
        visit.page.click("#use")
        assert visit.page.input_value("#name") == "dropped by.me"
        visit.page.check("#consent")
        visit.page.click("#register")
        visit.until("document.querySelector('#new-status').textContent.includes('in use now')")
        assert visit.page.locator("#voice option:checked").inner_text() == "dropped by.me"
        visit.page.locator("#voices").get_by_role("option", name="rms").click()
        assert visit.page.input_value("#voice") == "rms"
        assert "voice_id=rms" in visit.text("#snippet")
        assert visit.page.locator("#voices [aria-selected=true]").count() == 1


def test_errors_are_shown_as_the_server_says_them(browser, address, tmp_path):
    with Visit(browser, address).ready() as visit:
        visit.speak("   ")
        visit.until("!document.querySelector('#speak-error').hidden")
        assert "The text is empty." in visit.text("#speak-error")
        assert "empty_text" in visit.text("#speak-error")
        assert visit.page.evaluate("document.activeElement.id") == "text"
        visit.page.click("#advanced summary")
        visit.page.fill("#temperature", "warm")
        visit.page.click("#advanced summary")
        visit.speak("Hello.")
        visit.until("document.querySelector('#temperature').ariaInvalid === 'true'")
        assert "Temperature: a number from 0 to 5." in visit.text("#speak-error")
        assert visit.page.evaluate("document.activeElement.id") == "temperature"
        (tmp_path / "notes.wav").write_text("this is no sound")
        visit.choose(tmp_path / "notes.wav")
        visit.page.check("#consent")
        visit.page.click("#register")
        visit.until("!document.querySelector('#new-error').hidden")
        assert "unsupported_audio" in visit.text("#new-error")


def test_an_error_after_the_first_sound_is_shown(browser, address):
    def event(body: dict) -> str:
        return f"data: {json.dumps(body)}\n\n"

    sound = base64.b64encode(bytes(9600)).decode()
    begun = event({"type": "speech.audio.delta", "audio": sound})
    error = {"message": "The device is full.", "code": "out_of_memory", "param": None}
    headers = {"Content-Type": "text/event-stream", "X-Sample-Rate": "24000", "X-Seed": "1"}
    for rest, said in ((event({"type": "error", "error": error}), "device is full"), ("", "cut")):
        with Visit(browser, address).ready() as visit:
            answer = {"headers": headers, "body": begun + rest}
            visit.page.route("**/v1/audio/speech", lambda call, _, a=answer: call.fulfill(**a))
            visit.speak("Hello.")
            visit.until("!document.querySelector('#speak-error').hidden")
            assert said in visit.text("#speak-error")
            visit.until("document.querySelector('#stop').disabled")
            assert "stopped" in visit.text("#takes")


def test_escape_stops_the_work_too(browser, address):
    with Visit(browser, address).ready() as visit:
        before = visit.metrics()["requests"]["by_outcome"].get("cancelled", 0)
        visit.page.fill("#text", "And on it goes, one sentence after the other. " * 100)
        visit.page.press("#text", "Control+Enter")
        visit.until("document.querySelector('#where').textContent.includes('Part 1 of')")
        visit.page.keyboard.press("Escape")
        visit.until("document.querySelector('#progress').textContent.startsWith('Stopped')")
        assert "stopped" in visit.text("#takes")
        visit.until("document.querySelector('#stop').disabled")
        visit.until_metrics(lambda metrics: metrics["active"] == 0)
        assert visit.metrics()["requests"]["by_outcome"]["cancelled"] == before + 1


def test_the_focus_goes_from_top_to_bottom(browser, address):
    with Visit(browser, address).ready() as visit:
        stops = []
        for _ in range(16):
            visit.page.keyboard.press("Tab")
            stops.append(visit.page.evaluate("document.activeElement.textContent.trim()"))
            ring = "getComputedStyle(document.activeElement).outlineStyle"
            assert visit.page.evaluate(ring) != "none"
        assert stops[:5] == ["Skip to the text", "Server", "◐", "API key", "Reference"]
        assert stops[7] == "[pause:0.5s]"  # all tags are one stop
        assert "Speak" in stops


def test_export_rename_note_delete_and_import(browser, address, tmp_path):
    with Visit(browser, address).ready() as visit:
        visit.register(clip(tmp_path / "b.wav", voice="awb"), "short-lived")
        entry = visit.page.locator("#about")
        with visit.page.expect_download() as download:
            entry.get_by_text("Export").click()
        assert download.value.suggested_filename == "short-lived.voice"
        kept = tmp_path / "kept.voice"
        download.value.save_as(kept)

        entry.get_by_text("Rename").click()
        assert visit.page.evaluate("document.activeElement.id") == "ask-name"
        visit.page.keyboard.type("better")
        visit.page.keyboard.press("Enter")
        visit.until("document.querySelector('#voices-status').textContent.includes('renamed')")
        listed = visit.page.locator("#voices [role=option]", has_text="better")
        assert listed.count() == 1
        entry.get_by_text("Note").click()
        visit.page.keyboard.type("calm, for the news")
        visit.page.keyboard.press("Enter")
        visit.until(
            "document.querySelector('#voices-status').textContent.includes('description is set')"
        )
        assert "calm, for the news" in listed.inner_text()
        entry.get_by_text("Delete").click()
        visit.page.keyboard.press("Escape")
        assert listed.count() == 1
        entry.get_by_text("Delete").click()
        visit.page.click("#ask-yes")
        visit.until("document.querySelector('#voices-status').textContent.includes('deleted')")
        assert listed.count() == 0

        visit.page.set_input_files("#choose", kept)
        visit.until("document.querySelector('#new-status').textContent.includes('imported')")
        assert visit.page.locator("#voices [role=option]", has_text="short-lived").count() == 1


def test_the_key_is_sent_and_never_shown(browser, address):
    with Visit(browser, address).ready() as visit:
        calls: list[Request] = []
        visit.page.on("request", lambda call: calls.append(call))
        visit.page.click("#key-box summary")
        visit.page.fill("#key", " secret-key ")
        visit.page.press("#key", "Enter")
        visit.until("!document.querySelector('#key-box').open")
        visit.ready()
        visit.speak("Hello.")
        visit.spoken()
        asked = [c for c in calls if c.resource_type == "fetch" and "/page/" not in c.url]
        sent = [call.headers.get("authorization") for call in asked]
        assert set(sent) == {"Bearer secret-key"}
        assert len(sent) >= 3
        for kind in KINDS:
            visit.page.check(f"[name=snippet][value={kind}]")
            assert "CHATTERBOX_API_KEY" in visit.text("#snippet")
            assert "secret-key" not in visit.text("body")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_in_one_direction_only(browser, address, tmp_path, scheme):
    with Visit(browser, address, color_scheme=scheme, **PHONE).ready() as visit:
        visit.register(clip(tmp_path / "c.wav", voice="rms", skip_s=2.0), scheme + "M" * 90)
        for summary in visit.page.locator("summary").all():
            summary.click()
        visit.speak("Hello.")
        visit.spoken()
        wide = visit.page.evaluate("document.documentElement.scrollWidth")
        assert wide == visit.page.evaluate("innerWidth") == 360


def test_the_reference_lists_every_call(browser, address):
    with Visit(browser, address, "/docs", **PHONE) as visit:
        visit.until("document.querySelectorAll('#calls details').length > 10")
        entry = visit.page.locator("#calls details", has_text="/tts").first
        entry.locator("summary").click()
        said = entry.inner_text()
        assert "voice_file" in said
        assert "24000 | 32000" in said  # what `sample_rate` may be
        assert "(this model)" in said  # temperature's default
        assert f"curl --fail-with-body {address}/tts" in said
        assert visit.page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize(("name", "clones"), [("ft", False), ("pretrained", True)])
def test_a_model_with_voices_of_its_own_and_one_that_needs_the_words(
    browser, tmp_path, name, clones
):
    write_orpheus(tmp_path / name, OrpheusSize(), ["fp32"])
    with (
        served(tmp_path / "data", str(tmp_path / name)) as address,
        Visit(browser, address).ready() as visit,
    ):
        assert visit.page.locator("#new").is_visible() == clones
        if not clones:
            assert "tara" in visit.text("#voices")
            assert "none can be added" in visit.text("#no-cloning")
            visit.page.click("#about summary")
            assert "trained on" in visit.text("#about")
            return
        visit.choose(clip(tmp_path / "me.wav", seconds=4.0))
        visit.page.check("#consent")
        visit.page.fill("#name", "Me")
        visit.page.fill("#transcript", "So it is.")
        visit.page.click("#register")
        visit.until("document.querySelector('#new-status').textContent.includes('in use now')")


def test_the_reference_finds_sockets_and_errors(browser, address):
    with Visit(browser, address, "/docs") as visit:
        visit.until("document.querySelectorAll('#calls details').length > 10")
        visit.page.fill("#filter", "input.cancel session.done")
        assert visit.text("#found") == "1 found"
        (found,) = visit.page.locator("#calls details:visible").all()
        found.locator("summary").click()
        assert '> {"type":"input.done"}' in found.inner_text()
        visit.page.fill("#filter", "overloaded 429 retry-after")
        assert visit.text("#found") == "1 found"


def test_examples_in_the_reference_are_tried(browser, address):
    with Visit(browser, address, "/docs") as visit:
        visit.until("document.querySelectorAll('#calls details').length > 10")
        for path, found in (("/tts/json", "pre >> text=audio_duration"), ("/tts", "audio")):
            entry = visit.page.locator("#calls details").filter(
                has=visit.page.locator(f".path >> text='{path}'")
            )
            entry.locator("summary").first.click()
            entry.get_by_role("button", name="Try it").click()
            entry.locator(found).first.wait_for()
            assert "200" in entry.locator("[role=status]").inner_text()
