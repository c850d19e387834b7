"""The system's Chromium for tests of pages outside a host."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.postgres.needs import missing
from tests.surface.test_player import BROWSER_TIMEOUT_MS, FLAGS

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

__all__ = ["BROWSER_TIMEOUT_MS"]

Open = Callable[..., AbstractContextManager["BrowserContext"]]


@pytest.fixture
def browser() -> Open:
    """Opens a browser in the calling thread; without one, the test is skipped."""
    playwright: Any = pytest.importorskip("playwright.sync_api", reason="no playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        missing("chromium", f"a browser: one of {', '.join(names)}")

    @contextmanager
    def opened(**options: Any) -> Iterator["BrowserContext"]:
        with playwright.sync_playwright() as driver:
            chromium = driver.chromium.launch(
                executable_path=program, args=FLAGS, timeout=BROWSER_TIMEOUT_MS
            )
            yield chromium.new_context(**options)
            chromium.close()

    return opened


def problems_of(page: "Page") -> list[str]:
    """What is written to the console of a page, from now on."""
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    return problems
