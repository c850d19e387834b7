"""The page for keys of users in headless Chromium, served as `wan-mcp http` serves it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from html import unescape
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import anyio.to_thread
import pytest
from starlette.applications import Starlette

from tests.surface.gallery_in_browser import BROWSER_TIMEOUT_MS, Open, browser, problems_of
from tests.surface.test_player import CONTRASTS
from wan_mcp.surface.own_key.pages import (
    key_page,
    removal_page,
    removed_page,
    signed_in_page,
    stored_page,
    unsigned_page,
)
from wan_mcp.transports.listener import listen
from wan_mcp.transports.operations.proxies import NOBODY_ELSE
from wan_mcp.transports.operations.web_server import WebServer, quiet_config
from wan_mcp.transports.own_key.site import KeySite

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.anyio, pytest.mark.one_python]

__all__ = ["browser"]

TOKEN_LABEL, KEY_LABEL = "Your token for this server", "Your PixelDojo key"


class Refusal(NamedTuple):
    status: int
    page: str
    retry_after: int | None = None


class Desk:
    """Takes the key `pd_good` with the token `wan_right`; what else comes is refused in words.

    What is stored with that token is removed with it.
    """

    def __init__(self) -> None:
        self.brought: list[tuple[str, str]] = []

    def page(self, nonce: str) -> str:
        return key_page(nonce)

    def stored_page(self, nonce: str) -> str:
        return stored_page(nonce)

    async def store(self, token: str, key: str, nonce: str) -> Refusal | None:
        self.brought.append((token, key))
        if token == "wan_busy":
            return Refusal(503, key_page(nonce, "", "It cannot be checked now."), 5)
        if token != "wan_right":
            return Refusal(403, key_page(nonce, "token", "This is no token of this server."))
        if key != "pd_good":
            return Refusal(422, key_page(nonce, "key", "PixelDojo does not accept <this> key."))
        return None

    def removal_page(self, nonce: str) -> str:
        return removal_page(nonce, has_issuers=True)

    def removed_page(self, nonce: str) -> str:
        return removed_page(nonce)

    async def look(self, token: str, nonce: str) -> Refusal:
        self.brought.append((token, "look"))
        return Refusal(200, removal_page(nonce, state="A key of yours is stored."))

    async def remove(self, token: str, nonce: str) -> Refusal | None:
        self.brought.append((token, "remove"))
        if token == "wan_busy":
            return Refusal(409, removal_page(nonce, "", "One job of yours is in progress."))
        if token != "wan_right":
            return Refusal(403, removal_page(nonce, "token", "This is no token of this server."))
        return None


@asynccontextmanager
async def served(desk: Desk) -> AsyncIterator[str]:
    """The address of the page."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        site = KeySite(lambda: desk, NOBODY_ELSE.page_rules(port))
        web = WebServer(quiet_config(NOBODY_ELSE.guard(Starlette(routes=site.routes))))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: web.serve(sockets=[listener]))
            try:
                yield f"http://127.0.0.1:{port}/key"
            finally:
                web.should_exit = web.force_exit = True


async def use(
    browser: Open, desk: Desk, acts: Callable[["Page", str], None], **options: Any
) -> None:
    """Open the page and use it: no script fails on it, nothing is blocked, and it sets no cookie.

    Args:
        acts: what a user does, with the page and its address.
        options: of the browser, such as the size of its window.
    """

    def in_thread(address: str) -> None:
        with browser(**options) as context:
            context.set_default_timeout(BROWSER_TIMEOUT_MS)
            page = context.new_page()
            problems = problems_of(page)
            page.goto(address)
            acts(page, address)
            assert [each for each in problems if "Failed to load" not in each] == []
            assert context.cookies() == []

    async with served(desk) as address:
        await anyio.to_thread.run_sync(in_thread, address)


ABOUT_FOCUS = """() => {
  const at = document.activeElement;
  const spoken = (at.getAttribute("aria-describedby") || "").split(" ").filter(Boolean);
  const words = spoken.map((id) => document.getElementById(id).textContent).join(" ").trim();
  const label = at.labels?.length ? at.labels[0].textContent : at.textContent;
  return [label.trim(), words, at.getAttribute("aria-invalid")];
}"""


@pytest.mark.parametrize(
    "page",
    [
        lambda text: signed_in_page("canary-nonce", text, text, "canary-ticket", problem=text),
        lambda text: signed_in_page(
            "canary-nonce", text, text, "canary-ticket", field="key", problem=text
        ),
        lambda text: key_page("canary-nonce", "token", text, {"https://login.example.com": "It"}),
        lambda text: unsigned_page("canary-nonce", text),
    ],
)
def test_name_of_a_place_in_a_text_of_others_stays_what_it_is(page: Callable[[str], str]) -> None:
    """PixelDojo's words and the name of a user are in these pages, and nobody has them say more."""
    places = "{{nonce}} {{ticket}} {{section}} {{ways}} {{key-state}} {{refusal-state}} {{problem}}"
    html, plain = page(places), page("words")

    assert places not in plain
    assert places in unescape(html)
    assert [html.count(each) for each in ("canary", "autofocus", "<form", "tabindex")] == [
        plain.count(each) for each in ("canary", "autofocus", "<form", "tabindex")
    ]


def send(page: "Page", token: str, key: str) -> list[str]:
    """Fill in the form and send it with the keyboard; what has the focus then, see ABOUT_FOCUS."""
    page.locator("#token").focus()
    page.keyboard.type(token)
    page.keyboard.press("Tab")
    assert page.evaluate(ABOUT_FOCUS)[0] == KEY_LABEL
    page.keyboard.type(key)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    found: list[str] = page.evaluate(ABOUT_FOCUS)
    return found


def go_through(page: "Page") -> None:
    """Bring a wrong token, a wrong key, a right pair too early, and the right pair."""
    assert page.title() == "Your own PixelDojo key"
    assert page.locator("[role=alert]:visible").count() == 0
    focused = []
    for _ in range(3):
        page.keyboard.press("Tab")
        focused.append(page.evaluate(ABOUT_FOCUS)[0])
    assert focused == [TOKEN_LABEL, KEY_LABEL, "Store the key"]
    label, words, invalid = send(page, "wan_wrong", "pd_good")
    assert (label, invalid) == (TOKEN_LABEL, "true")
    assert words.startswith("This is no token of this server.")
    assert page.title().startswith("Error")
    assert page.locator("input").evaluate_all("all => all.map(i => i.value)") == ["", ""]
    label, words, invalid = send(page, "wan_right", "pd_bad")
    assert (label, invalid) == (KEY_LABEL, "true")
    assert words.startswith("PixelDojo does not accept <this> key.")
    assert send(page, "wan_busy", "pd_good")[0] == "It cannot be checked now."
    send(page, "wan_right", "pd_good")


async def test_key_is_stored_by_keyboard_alone_and_each_problem_is_announced_at_its_field(
    browser: Open,
) -> None:
    """Without a script: what a browser begins at is what a screen reader reads first (ours)."""
    desk = Desk()

    def store(page: "Page", address: str) -> None:
        go_through(page)
        assert page.url == f"{address}/stored"
        assert "is stored" in page.get_by_role("heading").inner_text()
        page.reload()
        assert page.url == f"{address}/stored"

    await use(browser, desk, store)

    assert desk.brought == [
        ("wan_wrong", "pd_good"),
        ("wan_right", "pd_bad"),
        ("wan_busy", "pd_good"),
        ("wan_right", "pd_good"),
    ]


def remove_by_keyboard(page: "Page", address: str) -> None:
    """Go to the other page, look, and remove: too early, with a wrong token, and at last."""
    page.get_by_role("link", name="See or remove a key").click()
    page.wait_for_url(f"{address}/remove")
    assert page.locator("[role=alert]:visible, [role=status]:visible").count() == 0
    assert page.get_by_role("link", name="the page for your key", exact=True).count() == 1
    page.locator("#token").focus()
    page.keyboard.type("wan_right")
    with page.expect_navigation():
        page.keyboard.press("Enter")  # which presses the first button: it only looks
    assert page.evaluate(ABOUT_FOCUS)[0] == "A key of yours is stored."
    for token, focused in (
        ("wan_busy", "One job of yours is in progress."),
        ("wan_wrong", TOKEN_LABEL),
        ("wan_right", None),
    ):
        page.locator("#token").fill(token)
        button = page.get_by_role("button", name="Remove the key")
        button.focus()
        with page.expect_navigation():
            page.keyboard.press("Enter")
        assert focused is None or page.evaluate(ABOUT_FOCUS)[0] == focused
        assert page.locator("input").evaluate_all("all => all.map(i => i.value)") in ([""], [])


async def test_key_is_seen_and_removed_by_keyboard_alone(browser: Open) -> None:
    """The key Enter alone removes nothing, and no script runs (ours)."""
    desk = Desk()

    def remove(page: "Page", address: str) -> None:
        remove_by_keyboard(page, address)
        assert page.url == f"{address}/removed"
        assert "No key of yours is stored" in page.get_by_role("heading").inner_text()
        page.get_by_role("link", name="Back to the page").click()
        page.wait_for_url(address)

    await use(browser, desk, remove)

    assert desk.brought == [
        ("wan_right", "look"),
        ("wan_busy", "remove"),
        ("wan_wrong", "remove"),
        ("wan_right", "remove"),
    ]


async def test_the_page_can_be_read_in_both_colour_schemes_and_on_a_small_screen(
    browser: Open,
) -> None:
    """4.5:1 for all text (WCAG 2.2, 1.4.3), and no word lies beside the screen."""
    grounds = set[str]()

    def look_at(page: "Page", texts: int) -> None:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            contrasts = page.evaluate(CONTRASTS.replace(".clock", "label"))
            assert len(contrasts) >= texts
            assert min(contrasts.values()) >= 4.5
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert page.evaluate("document.documentElement.scrollWidth") <= 320

    def look_at_all(page: "Page", address: str) -> None:
        for token in ("", "wan_wrong", "wan_busy", "wan_right"):
            if token:
                page.locator("#token").fill(token)
                page.locator("#key").fill("pd_good")
                with page.expect_navigation():
                    page.get_by_role("button", name="Store the key").click()
            look_at(page, 2 if token == "wan_right" else 8)
        page.goto(f"{address}/remove")
        for press in ("", "See what is stored", "Remove the key"):
            if press:
                page.locator("#token").fill("wan_right")
                with page.expect_navigation():
                    page.get_by_role("button", name=press).click()
            look_at(page, 3 if press == "Remove the key" else 8)

    await use(browser, Desk(), look_at_all, viewport={"width": 320, "height": 640})

    assert len(grounds) == 2
