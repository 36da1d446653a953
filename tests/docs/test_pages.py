"""Links lead somewhere, the index is whole, README is short, lists are those of the code."""

import re

import pytest

from chatterbox import __version__
from chatterbox.config.sources import RENAMED
from chatterbox.families.orpheus.spec import ORPHEUS
from chatterbox.families.turbo.spec import TURBO

from .blocks import BY_NAME, DOCS, PAGES, ROOT

LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target, heading in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        found = page.parent / target
        assert found.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading[1:] in map(anchor, titles), target + heading


def anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_the_index_names_every_page():
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} - {"README.md"}
    assert [page for page in sorted(pages) if f"]({page})" not in index] == []


def test_pages_lie_in_the_folders_of_the_index():
    folders = {page.parent.name for page in DOCS.rglob("*.md")}
    assert folders == {"docs", "start", "use", "run", "reference", "inside"}


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_curl_says_why_a_call_failed():
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            if re.match(r"[$+] *curl ", line):
                assert "--fail-with-body" in line, f"{page.name}: {line}"


def test_the_tags_are_those_of_the_models():
    turbo, orpheus = BY_NAME["tags"].read_text(encoding="utf-8").split("## Orpheus")
    rows = [row for row in turbo.split("## Pauses")[0].splitlines() if row.startswith("|")]
    assert set(re.findall(r"`\[([a-z ]+)\]`", "\n".join(rows))) == TURBO.tags
    assert set(re.findall(r"`<([a-z]+)>`", orpheus)) == ORPHEUS.tags


def test_the_changelog_begins_with_the_version():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first, *older = changes.split("\n## ")[1:]
    assert re.match(rf"{re.escape(__version__)} \(\d{{4}}-\d\d-\d\d\)\n", first)
    headings = re.findall("^### (.+)$", first, re.MULTILINE)
    assert headings == ["Breaking", "How to upgrade", "Added", "Changed"]
    assert older[-1].startswith("0.1.0")


def test_every_renamed_setting_is_on_the_upgrade_page():
    page = BY_NAME["upgrade"].read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|$", page, re.MULTILINE)) == RENAMED
