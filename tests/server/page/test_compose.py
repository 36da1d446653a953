"""The text and its settings: tags, pauses, files, a counter, defaults and bounds."""

import pytest
from server.page.browser import Visit
from server.page.test_takes import SIZES, size

pytestmark = pytest.mark.slow


@SIZES
def test_tags_go_to_the_cursor_by_keyboard(browser, address, width):
    with Visit(browser, address, **size(width)).ready() as visit:
        visit.page.fill("#text", "Well. I see.")
        visit.page.evaluate("document.querySelector('#text').setSelectionRange(5, 5)")
        visit.page.focus("#tags button")
        assert visit.page.locator("#tags [tabindex='0']").count() == 1
        visit.page.keyboard.press("ArrowRight")
        tag = visit.page.evaluate("document.activeElement.textContent")
        visit.page.keyboard.press("Enter")
        assert visit.page.input_value("#text") == f"Well. {tag} I see."
        assert visit.page.evaluate("document.activeElement.id") == "text"
        for known in ("[laugh]", "[sigh]", "[pause:0.5s]"):
            assert visit.page.locator(".tag", has_text=known).count() == 1


def test_the_counter_knows_the_limit_and_guesses_the_length(browser, address):
    with Visit(browser, address).ready() as visit:
        visit.page.fill("#text", "a" * 140)
        assert visit.text("#count") == "140 / 5000 characters · about 10 s"
        visit.page.fill("#speed", "2")
        assert visit.text("#count").endswith("about 5 s")
        visit.page.fill("#text", "a" * 5001)
        assert visit.text("#count").endswith("sent in 2 pieces, one after the other")


def test_a_tag_that_the_model_does_not_know_is_said(browser, address):
    with Visit(browser, address).ready() as visit:
        visit.page.fill(
            "#text", "[giggle] Well [1], a[i], [pause:1s] [laugh] and [Laugh] a [b](c)."
        )
        assert visit.text("#tag-says") == (
            "[giggle] is no tag of this model: it is read out. Write [laugh] for [Laugh]."
        )
        visit.page.fill("#text", "[laugh] Well.")
        assert visit.text("#tag-says") == ""


@SIZES
def test_text_files_are_opened_and_dropped(browser, address, tmp_path, width):
    (tmp_path / "chapter.md").write_text("# One\r\n\r\nIt was a day.\n")
    subtitles = (
        "1\n00:00:01,000 --> 00:00:02,000\nHello.\n\n2\n00:00:03,000 --> 00:00:04,000\nBye.\n"
    )
    (tmp_path / "film.srt").write_text(subtitles)
    with Visit(browser, address, **size(width)).ready() as visit:
        visit.page.set_input_files("#open", tmp_path / "chapter.md")
        visit.until("document.querySelector('#text').value.startsWith('# One')")
        assert visit.page.input_value("#text") == "# One\n\nIt was a day."
        visit.page.set_input_files("#open", tmp_path / "film.srt")
        visit.until("document.querySelector('#text').value.startsWith('Hello.')")
        assert "-->" not in visit.page.input_value("#text")
        visit.page.evaluate("""() => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File(["Dropped words."], "notes.txt"));
            const drop = { dataTransfer, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new DragEvent("drop", drop));
        }""")
        visit.until("document.querySelector('#text').value === 'Dropped words.'")


@SIZES
def test_settings_show_defaults_bounds_and_what_they_do(browser, address, width):
    with Visit(browser, address, **size(width)).ready() as visit:
        visit.page.click("#advanced summary")
        model = visit.page.evaluate("fetch('v1/models').then((a) => a.json())")["data"][0]
        for name, row in model["settings"].items():
            usual = visit.page.get_attribute(f"#{name}", "placeholder")
            assert float(usual) == pytest.approx(row["default"], abs=0.001)
            says = visit.page.text_content(f"#{name}-says")
            assert usual in says
            assert f"{row['maximum']:g}" in says.replace("1000000", "1e+06")
            assert visit.page.get_attribute(f"#{name}", "aria-describedby") == f"{name}-says"
        slider = visit.page.get_by_label("Temperature, slider")
        slider.focus()
        visit.page.keyboard.press("Home")
        assert visit.page.input_value("#temperature") == "0"
        assert "temperature=0" in visit.text("#snippet")
        visit.page.get_by_role("button", name="The model's own").click()
        assert visit.page.input_value("#temperature") == ""
        visit.page.get_by_role("button", name="Lively").click()
        assert (
            float(visit.page.input_value("#temperature"))
            > model["settings"]["temperature"]["default"]
        )
        visit.page.get_by_role("button", name="Exact").click()
        assert visit.page.input_value("#temperature") == ""
        seed = visit.page.input_value("#seed")
        assert 0 <= int(seed) < 2**32
        visit.page.get_by_role("button", name="Exact").click()
        assert visit.page.input_value("#seed") == seed
        visit.page.fill("#top_k", "-1")
        visit.page.click("#go")
        assert "Top k: a number from 0 to 1000000." in visit.text("#speak-error")
        assert visit.page.evaluate("document.activeElement.id") == "top_k"
