"""Takes the screenshots for docs/player.md: run by hand, with Chromium and playwright.

    python -m tests.surface.host.screenshots

They show the same host page and videos as the tests, so they show what the tests have checked.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.surface import test_player as tests

FOLDER = Path(__file__).parents[3] / ".github"
FONT = "body { font-family: 'Liberation Sans', Arial, sans-serif }"  # the same on every machine
ENDED = "2026-11-23T11:00:00+00:00"
SOON = "2026-11-23T12:58:20+00:00"
SAVED = {"saved_path": "/home/ana/Videos/wan-mcp/job-7.mp4", "size": 2_412_345}


def take(show: Callable[..., Any]) -> None:
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
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=tests.FLAGS)
        with tests.player_pages(browser) as show:
            take(show)
        browser.close()


if __name__ == "__main__":
    main()
