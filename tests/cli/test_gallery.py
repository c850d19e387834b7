"""`wan-mcp gallery`: what its web site gives to whom, and how it looks in headless Chromium."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from tests.cli.test_jobs import completed
from tests.ledger.stores import SQLiteStore, record_in
from tests.surface.gallery_in_browser import BROWSER_TIMEOUT_MS, browser, problems_of
from wan_mcp.cli.gallery.listing import Listing
from wan_mcp.cli.gallery.site import Site
from wan_mcp.cli.jobs.own_ledger import OwnLedger
from wan_mcp.ledger.contract import Ledger
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.sqlite.places import Chosen

pytestmark = pytest.mark.anyio

MEDIA = Path(sys.modules["wan_mcp"].__file__ or "").parent / "sandbox" / "media"
VIDEO = (MEDIA / "result.mp4").read_bytes()
PORT = 4711
ORIGIN = f"http://127.0.0.1:{PORT}"

__all__ = ["browser"]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "data/ledger")
    yield store
    for ledger in store.opened:
        await ledger.aclose()


@pytest.fixture
def ledger(store: SQLiteStore) -> Ledger:
    """A server that runs meanwhile."""
    return store.ledger()


@pytest.fixture
def site(tmp_path: Path, store: SQLiteStore) -> Site:
    return Site(Listing(OwnLedger(Chosen(tmp_path / "data"), store)), PORT)


@pytest.fixture
async def client(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """The user's browser: it knows the link."""
    transport = httpx.ASGITransport(site.app())
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN + site.path) as client:
        yield client


async def saved(ledger: Ledger, folder: Path, number: int = 1) -> Record:
    """A completed job whose video is in its file."""
    record = await completed(ledger, folder, number)
    await anyio.Path(record.saved_path or "").write_bytes(VIDEO)
    return record


async def test_only_who_knows_the_link_gets_an_answer(
    site: Site, client: httpx.AsyncClient, ledger: Ledger, tmp_path: Path
) -> None:
    """The token cannot be guessed, and a name that leads to loopback does not help (ours)."""
    await saved(ledger, tmp_path / "videos")
    wrong = "x" * len(site.path.strip("/"))
    others = {"Host": f"evil.example:{PORT}"}, {"Host": "127.0.0.1"}, {"Host": "127.0.0.1:80"}

    assert (await client.get("jobs")).status_code == 200
    for path in (
        "/",
        f"/{wrong}/",
        f"/{wrong}/jobs",
        f"/{wrong}/video/job_001",
        "//",
        "/favicon.ico",
    ):
        assert (await client.get(ORIGIN + path)).status_code == 404
    for headers in others:
        assert (await client.get("jobs", headers=headers)).status_code == 404
    assert len(site.path) > 30


@pytest.mark.parametrize(
    "path",
    [
        "video/job_404",
        "video/..%2f..%2fetc%2fpasswd",
        "video/%2Fetc%2Fpasswd",
        "video/",
        "video/job_00",
        "poster/job_404",
        "pages/gallery.js",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_nothing_but_the_page_and_files_of_jobs_is_given_out(
    client: httpx.AsyncClient, ledger: Ledger, tmp_path: Path, method: str, path: str
) -> None:
    """No folder, no other file, and no other method; ids are not shortened here (ours)."""
    await saved(ledger, tmp_path / "videos")
    answer = await client.request(method, path)

    if (method, path) == ("GET", ""):
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
    else:
        assert answer.status_code in (404, 405)


async def test_a_link_in_the_place_of_a_video_is_not_followed(
    client: httpx.AsyncClient, ledger: Ledger, tmp_path: Path
) -> None:
    """Others may be able to write into the folder (ours)."""
    record = await saved(ledger, tmp_path / "videos")
    secret = tmp_path / "secret"
    secret.write_text("a private key")
    path = anyio.Path(record.saved_path or "")
    await path.unlink()
    await path.symlink_to(secret)

    for part in ("video", "poster"):
        answer = await client.get(f"{part}/job_001")
        assert answer.status_code == 403
        assert "private" not in answer.text


@pytest.mark.parametrize(
    ("wanted", "status", "first", "last"),
    [
        ("", 200, 0, len(VIDEO) - 1),
        ("bytes=0-", 206, 0, len(VIDEO) - 1),
        ("bytes=10-19", 206, 10, 19),
        ("bytes=-5", 206, len(VIDEO) - 5, len(VIDEO) - 1),
        ("bytes=5-1", 200, 0, len(VIDEO) - 1),
    ],
)
async def test_a_video_is_given_whole_or_in_the_part_that_is_asked_for(
    client: httpx.AsyncClient,
    ledger: Ledger,
    tmp_path: Path,
    wanted: str,
    status: int,
    first: int,
    last: int,
) -> None:
    """A player seeks by ranges (RFC 9110)."""
    await saved(ledger, tmp_path / "videos")
    answer = await client.get("video/job_001", headers={"Range": wanted} if wanted else {})
    beyond = await client.get("video/job_001", headers={"Range": f"bytes={len(VIDEO)}-"})

    assert (answer.status_code, answer.content) == (status, VIDEO[first : last + 1])
    assert answer.headers["content-type"] == "video/mp4"
    assert beyond.status_code == 416


async def test_rows_are_those_of_list_jobs_and_name_what_was_spent(
    client: httpx.AsyncClient, store: SQLiteStore, ledger: Ledger, tmp_path: Path
) -> None:
    """Takes of one order are numbered as they are there (ours)."""
    for number in (1, 2):
        await saved(ledger, tmp_path / "videos", number)
    await record_in(ledger, State.UNKNOWN)
    store.later(25 * 3600)
    await saved(ledger, tmp_path / "videos", 3)

    listed = (await client.get("jobs")).json()
    later = (await client.get("jobs?cursor=3")).json()

    assert listed["jobs"][0]["take"] == 3
    assert (listed["total_jobs"], listed["credits_spent"], listed["credits_spent_24h"]) == (
        4,
        21,
        7,
    )
    assert listed["jobs_without_cost"] == 1
    assert [row["job_id"] for row in later["jobs"]] == ["job_001"]


async def test_a_video_is_kept_by_the_page_and_by_no_other_site(
    client: httpx.AsyncClient, ledger: Ledger, tmp_path: Path
) -> None:
    """Another site may send a form, and browsers name it (Fetch standard)."""
    record = await saved(ledger, tmp_path / "videos")
    await record_in(ledger, State.FAILED)
    failed = (await client.get("jobs")).json()["jobs"][0]["job_id"]
    ours = {"Origin": ORIGIN}

    for headers in ({}, {"Origin": "null"}, {"Origin": "https://evil.example"}):
        refused = await client.post("keep/job_001", json={"kept": True}, headers=headers)
        assert refused.status_code == 403
    assert (await client.post("keep/job_001", content=b"{", headers=ours)).status_code == 400
    assert (await client.post("keep/job_001", json={"kept": 1}, headers=ours)).status_code == 400
    assert await ledger.coordination.kept_videos() == []

    done = await client.post("keep/job_001", json={"kept": True}, headers=ours)
    why = await client.post(f"keep/{failed}", json={"kept": True}, headers=ours)
    assert done.json() == {"why": ""}
    assert await ledger.coordination.kept_videos() == [record.saved_path]
    assert why.json() == {"why": "This job has no video that could be kept."}


async def test_the_page_may_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    """As strict as the policy of hosts: own script by a nonce, and videos (ours)."""
    answer = await client.get("")
    policy = answer.headers["content-security-policy"]
    (nonce,) = set(re.findall(r"'nonce-([\w-]+)'", policy))

    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert re.findall(r"<(?:script|style)[^>]*>", answer.text) == [
        f'<{name} nonce="{nonce}">' for name in ("style", "script")
    ]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"


# The command, in a browser


@pytest.fixture
def link(store: SQLiteStore, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """What the running command shows."""
    environment = {**os.environ, "WAN_MCP_DATA_DIR": str(tmp_path / "data")}
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "wan_mcp", "gallery"]
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the command ignores it under nohup
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        signal.signal(signal.SIGHUP, before)
        assert process.stdout
        yield process.stdout.readline().removeprefix("Your videos: ").strip(), process
        process.kill()


async def test_the_gallery_is_used_in_a_browser_and_ends_with_its_terminal(
    ledger: Ledger,
    tmp_path: Path,
    browser: Any,
    link: tuple[str, subprocess.Popen[str]],
) -> None:
    """Pictures, takes side by side, the mark; a closed terminal sends SIGHUP (POSIX)."""
    for number in (1, 2):
        await saved(ledger, tmp_path / "videos", number)

    await anyio.to_thread.run_sync(use, browser, link[0])

    assert len(await ledger.coordination.kept_videos()) == 1
    link[1].send_signal(signal.SIGHUP)
    with anyio.fail_after(600):
        assert await anyio.to_thread.run_sync(link[1].wait) != 0


def use(browser: Any, link: str) -> None:
    """Open the page, compare the two takes, and keep one."""
    with browser() as opened, closing(opened.new_page()) as page:
        page.set_default_timeout(BROWSER_TIMEOUT_MS)
        problems = problems_of(page)
        page.goto(link)
        page.get_by_text("2 jobs").wait_for()
        page.locator(".sheet :is(img, video)").nth(1).wait_for(state="attached")
        page.get_by_role("button", name=re.compile("^Compare takes")).first.click()
        page.get_by_role("button", name="Play", disabled=False).wait_for()
        page.get_by_role("button", name="Keep this one: Seed 1").click()
        page.get_by_role("button", name="Kept: Seed 1").wait_for()
        assert problems == []
