"""A real server with the embedded model, and Chromium in front of it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import soundfile
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
ROOT = Path(__file__).resolve().parents[3]
BUILT_IN = ROOT / "chatterbox" / "voices" / "builtin"
PATIENCE_S = 60.0


def clip(path: Path, *, voice: str = "kal16", seconds: float = 6.0, skip_s: float = 0.0) -> Path:
    """A recording of a built-in voice; other stretches are other recordings."""
    samples, rate = soundfile.read(BUILT_IN / f"{voice}.flac")
    soundfile.write(path, samples[int(skip_s * rate) :][: int(seconds * rate)], rate)
    return path


def noise_free_tone(path: Path) -> Path:
    """For the fake microphone: something that is heard."""
    at = np.arange(24_000 * 4) / 24_000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 220 * at) * (np.sin(7 * at) > 0), 24_000)
    return path


def wait_for(condition: Callable[[], bool], name: str) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, name
        time.sleep(0.05)


@contextmanager
def served(data_dir: Path, model: str = "mini", **more: str) -> Iterator[str]:
    """The address of a server process; with the embedded model, where no other is named. `more`:
    settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CHATTERBOX_")}
    settings = {"MODEL": model, "DATA_DIR": str(data_dir), "PORT": "0", "LOG_LEVEL": "error"}
    settings["STALL_TIMEOUT_S"] = "600"  # with ten jobs for each core a step may take long
    environment = kept | {f"CHATTERBOX_{k}": v for k, v in (settings | more).items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "chatterbox", "serve"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield _address(process)
    finally:
        code = process.poll()
        process.kill()
        said, _ = process.communicate()
        assert code is None, f"the server ended with {code}: {said}"


def _address(process: subprocess.Popen[str]) -> str:
    seen = ""
    for line in process.stdout:
        seen += line
        if line.startswith("  Open "):
            return line.split()[1]
    raise AssertionError(seen)


@contextmanager
def chromium(microphone: Path) -> Iterator[Browser]:
    """Chromium with a fresh profile, a fake microphone and no other host."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert found, "Chromium is not installed: apt install chromium, or run the tests without --all"
    with sync_playwright() as playwright:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
        browser = playwright.chromium.launch(executable_path=found, args=flags, headless=True)
        yield browser
        browser.close()


class Visit:
    """One open page, and all that it asked for or complained of."""

    def __init__(self, browser: Browser, address: str, path: str = "/", **options) -> None:
        self.address = address
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda fault: self.complaints.append(str(fault)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("console", self._console)
        self.page.goto(address + path)

    def _console(self, message) -> None:
        if message.type == "error" and "status of 4" not in message.text:
            self.complaints.append(message.text)

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, kind, *_rest) -> None:
        urls = [url for url in self.asked if not url.startswith("blob:" + self.address)]
        self.context.close()
        if kind is None:
            assert self.complaints == []
            assert [url for url in urls if not url.startswith(self.address + "/")] == []

    def until(self, condition: str) -> None:
        """Waits for a JavaScript expression; the policy forbids Playwright's own way of waiting."""
        wait_for(lambda: self.page.evaluate(condition), condition)

    def reload(self) -> "Visit":
        self.page.reload()
        return self.ready()

    def seconds(self) -> tuple[float, float]:
        """Where the player is, and how much sound it has."""
        position, length = self.text("#clock").rstrip(" …").split(" / ")
        return tuple(60 * int(m) + int(s) for m, s in (position.split(":"), length.split(":")))

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def ready(self) -> "Visit":
        self.until("!document.querySelector('#go').disabled")
        self.until("document.querySelectorAll('.tag').length > 5")
        self.until("document.querySelectorAll('[role=option]').length >= 2")
        return self

    def speak(self, text: str) -> None:
        self.page.fill("#text", text)
        self.page.click("#go")

    def spoken(self) -> None:
        self.until("document.querySelector('#progress').textContent.startsWith('Made')")

    def register(self, file: Path, name: str) -> None:
        self.choose(file)
        self.page.fill("#name", name)
        self.page.check("#consent")
        self.page.click("#register")
        self.until("document.querySelector('#new-status').textContent.includes('in use now')")

    def choose(self, file: Path) -> None:
        """To the third step of a new voice."""
        self.page.set_input_files("#choose", file)
        self.until("!document.querySelector('#step-2').hidden")
        self.page.click("#use")

    def metrics(self) -> dict:
        return httpx.get(self.address + "/metrics").json()

    def until_metrics(self, condition: Callable[[dict], bool]) -> None:
        wait_for(lambda: condition(self.metrics()), "metrics")
