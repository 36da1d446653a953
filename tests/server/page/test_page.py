"""What is sent to browsers, and what the files may not contain. No browser is needed for this."""

import re

import pytest
from harness import error_of, serving

from chatterbox.server.status_routes import PAGE_HEADERS, STATIC

FILES = sorted(STATIC.iterdir())
BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
SVG_NAMESPACE = "http://www.w3.org/2000/svg"


async def test_browsers_get_the_page_and_programs_json():
    async with serving() as client:
        page = await client.get("/", headers=BROWSER)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.text.startswith("<!doctype html>")
        for accept in ("*/*", "application/json", ""):
            answer = await client.get("/", headers={"accept": accept})
            assert answer.json()["name"] == "chatterbox"
            assert answer.headers["vary"] == "Accept"
        assert (await client.head("/", headers=BROWSER)).status_code == 200


async def test_the_page_is_there_while_the_model_is_loading():
    async with serving() as client:
        client.engine.state = "loading"
        assert (await client.get("/", headers=BROWSER)).status_code == 200


async def test_each_file_is_sent_with_its_headers():
    kind = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    async with serving() as client:
        for path in FILES:
            answer = await client.get(f"/page/{path.name}")
            assert answer.content == path.read_bytes()
            for name, value in PAGE_HEADERS.items():
                assert answer.headers[name] == value
            assert answer.headers["content-type"].startswith(kind.get(path.suffix, "text/html"))


async def test_what_a_browser_has_is_not_sent_again():
    async with serving() as client:
        etag = (await client.get("/page/app.js")).headers["etag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}'):
            again = await client.get("/page/app.js", headers={"if-none-match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == etag
        stale = await client.get("/page/app.js", headers={"if-none-match": '"other"'})
        assert stale.status_code == 200


async def test_nothing_else_is_sent():
    async with serving() as client:
        for name in ("page.py", "%2e%2e%2fpage.py", "..%2F__init__.py", "", "x" * 300):
            error_of(await client.get(f"/page/{name}"), 404, "not_found")
        assert "/page/{name}" not in client.app.openapi()["paths"]


def test_the_policy_allows_nothing_inline_and_no_other_host():
    policy = PAGE_HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_files_keep_to_the_policy(path):
    text = path.read_text(encoding="utf-8")
    hosts = re.findall(r"\bhttps?://[^\s\"'`)]+", text.replace(SVG_NAMESPACE, ""))
    assert set(hosts) <= {"https://"}, "a foreign host"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    if path.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
    assert len(text.splitlines()) <= 300


def test_every_part_that_is_asked_for_exists():
    names = {path.name for path in FILES}
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        asked = re.findall(r'from "\./([^"]+)"', text) if path.suffix == ".js" else []
        asked += re.findall(r'(?:src|href)="page/([^"]+)"', text)
        assert set(asked) <= names, path.name
