"""The upload page in headless Chromium, with the server's own decisions behind it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import anyio
import anyio.to_thread
import pytest
from starlette.applications import Starlette

import wan_mcp.sandbox
from tests.surface.gallery_in_browser import BROWSER_TIMEOUT_MS, browser, problems_of
from tests.surface.test_player import CONTRASTS
from wan_mcp.inputs.received import inspected
from wan_mcp.inputs.received.reception import Reception
from wan_mcp.inputs.received.tickets import TICKET_SECONDS
from wan_mcp.storage.object_store import ObjectStore, StoredObject
from wan_mcp.surface.uploading.desk import UploadDesk
from wan_mcp.transports.listener import listen
from wan_mcp.transports.operations.proxies import NOBODY_ELSE
from wan_mcp.transports.operations.web_server import WebServer, quiet_config
from wan_mcp.transports.uploads import UploadSite

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.anyio, pytest.mark.one_python]

__all__ = ["browser"]

MEDIA = Path(wan_mcp.sandbox.__file__).parent / "media"
MOST = 1_000_000


class Memory(ObjectStore):
    """A storage that keeps names and sizes in memory."""

    def __init__(self) -> None:
        super().__init__("s3://memory", {})
        self.objects: dict[str, StoredObject] = {}

    async def put(
        self, name: str, file: BinaryIO, size: int, sha256: str, media_type: str, report: Any
    ) -> None:
        self.objects[name] = StoredObject(name, size, datetime.now(UTC))

    async def head(self, name: str) -> StoredObject | None:
        return self.objects.get(name)

    async def list(self, folder: str) -> AsyncIterator[StoredObject]:
        for name, each in self.objects.items():
            if name.startswith(f"{folder}/"):
                yield each


class Home:
    """A server with the site, and its storage."""

    def __init__(self, folder: Path) -> None:
        self.late = 0.0
        self.store = Memory()

        async def secret() -> bytes:
            return bytes(32)

        def now() -> datetime:
            return datetime.fromtimestamp(1_793_000_000 + self.late, UTC)

        self.reception = Reception(self.store, secret, folder, MOST, now, "")

    async def page(self, *slots: str) -> str:
        _, text = await self.reception.offer("ana", slots)
        return f"/uploads/{text}"


@asynccontextmanager
async def served(home: Home) -> AsyncIterator[str]:
    """The address of the site."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        desk = UploadDesk(home.reception)
        site = UploadSite(lambda: desk, NOBODY_ELSE.page_rules(port))
        app = NOBODY_ELSE.guard(Starlette(routes=list(site.routes)))
        web = WebServer(quiet_config(app))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: web.serve(sockets=[listener]))
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                web.should_exit = web.force_exit = True


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(inspected, "LOOK_SECONDS", 600)
    return Home(tmp_path)


def opened(context: Any, address: str) -> tuple["Page", list[str]]:
    context.set_default_timeout(BROWSER_TIMEOUT_MS)
    page = context.new_page()
    problems = problems_of(page)
    page.goto(address)
    return page, problems


def said(page: "Page", slot: str, words: str) -> str:
    """What the live region of a file says, once it contains these words."""
    region = page.locator(f'section[data-slot="{slot}"] .said')
    region.filter(has_text=words).wait_for()
    return region.inner_text()


DROP = """([selector, name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  const target = document.querySelector(selector);
  const options = { dataTransfer: data, bubbles: true, cancelable: true };
  for (const type of ["dragover", "drop"]) target.dispatchEvent(new DragEvent(type, options));
}"""


async def in_browser(use: Callable[[], None]) -> None:
    """Playwright has a thread of its own; the server runs in this one."""
    await anyio.to_thread.run_sync(use)


async def test_both_files_are_uploaded_by_keyboard_and_the_page_says_what_to_do(
    home: Home, browser: Any
) -> None:
    """Names, focus, progress and a live region; no script from elsewhere (ours)."""
    path = await home.page("video", "image")

    def use() -> None:
        with browser() as context:
            page, problems = opened(context, address + path)
            focused = []
            for _ in range(2):
                page.keyboard.press("Tab")
                focused.append(page.evaluate("document.activeElement.labels[0].textContent"))
            assert ["clip" in focused[0], "picture" in focused[1]] == [True, True]
            assert "at most 1 MB" in page.locator("#intro").inner_text()
            page.get_by_label("Drop the clip here").set_input_files(MEDIA / "clip.mp4")
            clip = said(page, "video", "Go back to your assistant")
            assert page.locator("#all").inner_text() == ""
            page.get_by_label("Drop the picture here").set_input_files(MEDIA / "character.png")
            said(page, "image", "Go back to your assistant")
            shown = page.locator("code").all_inner_texts()
            assert shown[0] in clip
            assert [text.startswith("wan://uploads/") for text in shown] == [True, True]
            assert "Everything is there" in page.locator("#all").inner_text()
            assert page.get_by_role("button", name="Copy the name of the clip").is_visible()
            assert page.get_by_role("status").count() == 3
            page.reload()
            page.get_by_label("Drop the clip here").set_input_files(MEDIA / "clip.mp4")
            assert shown[0] in said(page, "video", "uploaded here already")
            assert [each for each in problems if "409" not in each] == []

    async with served(home) as address:
        await in_browser(use)

    assert len(home.store.objects) == 2


async def test_a_refused_file_is_explained_and_another_one_can_be_dropped(
    home: Home, browser: Any
) -> None:
    """By its size before anything is sent, by its content afterwards (ours)."""
    path = await home.page("image")

    def use() -> None:
        with browser() as context:
            page, _ = opened(context, address + path)
            assert page.locator("section:visible").count() == 1
            requests: list[str] = []
            page.on("request", lambda request: requests.append(request.method))
            drop = ["#image-file", "large.png", "x" * (MOST + 1)]
            page.evaluate(DROP, drop)
            assert "at most 1 MB are taken" in said(page, "image", "The file has")
            assert requests == []
            page.evaluate(
                DROP, ["#image-file", "ana.png", "no picture, just some words for a model"]
            )
            assert "is a text file, not a picture" in said(page, "image", "The file is")
            assert page.locator("section").last.get_attribute("data-tone") == "bad"
            page.route("**/image", lambda route: route.abort())
            page.evaluate(DROP, ["h2#image-name", "ana.png", "words"])
            said(page, "image", "broke off")
            page.unroute("**/image")
            page.get_by_label("Drop the picture here").set_input_files(MEDIA / "character.png")
            said(page, "image", "Go back to your assistant")
            page.evaluate(DROP, ["body", "else.png", "x"])  # it would replace the page
            assert "Everything is there" in page.locator("#all").inner_text()

    async with served(home) as address:
        await in_browser(use)

    assert len(home.store.objects) == 1


async def test_the_page_can_be_read_in_both_colour_schemes_and_says_when_it_is_too_late(
    home: Home, browser: Any
) -> None:
    """4.5:1 for all text (WCAG 2.2, 1.4.3)."""
    path = await home.page("video", "image")

    def use() -> None:
        with browser(viewport={"width": 360, "height": 640}) as context:
            page, problems = opened(context, address + path)
            page.evaluate(DROP, [".drop", "large.mov", "x" * (MOST + 1)])
            said(page, "video", "at most")
            grounds = set()
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                contrasts = page.evaluate(CONTRASTS.replace(".clock", "h2, label, code"))
                assert len(contrasts) > 7
                assert min(contrasts.values()) >= 4.5
                grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert len(grounds) == 2
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            home.late = TICKET_SECONDS
            page.reload()
            assert "time for this upload is over" in page.get_by_role("alert").inner_text()
            assert page.locator("section:visible").count() == 0
            page.goto(f"{address}/uploads/never")
            assert "no such upload page" in page.get_by_role("alert").inner_text()
            assert [each for each in problems if "404" not in each and "410" not in each] == []

    async with served(home) as address:
        await in_browser(use)
