"""Takes the screenshots of the player for the README: run by hand, with Chromium and playwright.

    python tests/surface/host/screenshots.py

They show the same host page and videos as the tests, so they show what the tests have checked.
"""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
FOLDER = HERE.parents[2] / ".github"
FONT = "body { font-family: 'Liberation Sans', Arial, sans-serif }"  # the same on every machine
ENDED = "2026-11-23T11:00:00+00:00"
SOON = "2026-11-23T12:58:20+00:00"
SAVED = {"saved_path": "/home/ana/Videos/wan-mcp/job-7.mp4", "size": 2_412_345}


def load_tests() -> ModuleType:
    """The tests' module; pytest's importlib mode leaves no other way to share it."""
    spec = importlib.util.spec_from_file_location("test_player", HERE.parent / "test_player.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def take(show: Callable[..., Any], tests: ModuleType) -> None:
    """All five screenshots."""
    source = {"wan://jobs/job-7/source": tests.blob("clip.mp4")}
    going = tests.running(elapsed_seconds=72, credit_cost=10, credits_remaining=90, seed=4711)
    done = tests.completed(expires_at=SOON, **SAVED)
    failed = tests.completed(
        message="PixelDojo reports that the job failed.",
        status="failed",
        error="No person was detected in the source video.",
    )
    gone = tests.completed(video_url=tests.DEAD, expires_at=ENDED, **SAVED)
    screenshot(show(theme="light", resources=source, fixed_clock=True), "running", going)
    screenshot(show(theme="light", resources=source, fixed_clock=True), "done-light", done, 3.2, 41)
    screenshot(show(theme="dark", resources=source, fixed_clock=True), "done-dark", done, 3.2, 41)
    screenshot(show(theme="light", fixed_clock=True), "failed", failed)
    expired = show(theme="light", resources=source, fixed_clock=True)
    expired.expected = "403"
    screenshot(expired, "expired", gone)


def screenshot(
    shown: Any, name: str, fields: dict[str, Any], second: float = 0, wiped: int | None = None
) -> None:
    """One screenshot of the player, at a second of the video and a position of the slider."""
    shown.frame.add_style_tag(content=FONT)
    shown.answered({"typically": "30 s to 6 min"}, **fields)
    shown.tab.wait_for_load_state("networkidle")
    if wiped is not None:
        shown.wait_for_video()
        shown.wait_for_source()
        slider = shown.frame.get_by_label("Wipe between source and result")
        slider.fill(str(wiped))
        slider.blur()
        shown.frame.evaluate("(second) => { film.currentTime = second }", second)
        shown.until("!film.seeking && !source.seeking && source.currentTime === film.currentTime")
    shown.tab.locator("iframe").screenshot(path=FOLDER / f"player-{name}.png")


def main() -> None:
    """Take them."""
    tests = load_tests()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=tests.FLAGS)
        with tests.player_pages(browser) as show:
            take(show, tests)
        browser.close()


if __name__ == "__main__":
    main()
