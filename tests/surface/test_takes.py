"""Takes: jobs that differ only in their seed, in the lists and on the pages of a host."""

import json
from pathlib import Path
from typing import Any

import pytest
from mcp.client.extension import advertise
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID

from tests.connected import Host, connected, host_of
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.sandbox.http import faults
from wan_mcp.surface.player import GALLERY_URI

pytestmark = pytest.mark.anyio

time, anyio_backend = in_virtual_time(0.0, sockets=True)
host = host_of("auto", "legacy")
PAGES = (advertise(EXTENSION_ID, {"mimeTypes": [APP_MIME_TYPE]}),)
"""What a host declares that shows pages (MCP Apps)."""
RUN = "/api/v1/models/wan-2.2-replace/run"


async def takes(host: Host, **filters: Any) -> list[tuple[str, int, int]]:
    """Of each row of the list its order, its number and how many there are; 0 where none is."""
    rows = (await host.call("list_jobs", **filters))["jobs"]
    return [(row.get("order", ""), row.get("take", 0), row.get("takes", 0)) for row in rows]


async def test_jobs_that_differ_in_their_seed_are_grouped_and_numbered(host: Host) -> None:
    """The oldest is the first take, and another length is another order (ours)."""
    for seed in (11, 12):
        await host.start(seed=seed)
    await host.start(seed=13, video_duration=3)

    (alone, newer, older) = await takes(host)
    listed = json.loads(await host.read("wan://jobs"))["jobs"]

    assert alone == ("", 0, 0)
    assert newer[1:] == (2, 2)
    assert older[1:] == (1, 2)
    assert newer[0] == older[0] != ""
    assert [row.get("take") for row in listed] == [None, 2, 1]


async def test_a_request_that_bought_nothing_is_no_take(host: Host) -> None:
    """There is nothing to choose (ours)."""
    await host.start(seed=11)
    host.sandbox.fault("POST", RUN, faults.status(402))
    await host.call(
        "replace_character",
        video=host.sandbox.source_video_url,
        character_image=host.sandbox.image_url,
        seed=12,
    )

    assert {order for order, _, _ in await takes(host, status="refused")} == {""}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_only_a_host_that_shows_pages_learns_what_is_for_pages(
    time: VirtualTime, tmp_path: Path, mode: str
) -> None:
    """Any other host would offer the tool to its model (MCP Apps: visibility)."""
    async with (
        connected(time, tmp_path / "a", mode, extensions=PAGES) as shows,
        connected(time, tmp_path / "b", mode) as other,
    ):
        metas = [
            {tool.name: tool.meta for tool in (await host.client.list_tools()).tools}
            for host in (shows, other)
        ]
        unknown = await other.client.call_tool("keep", {})

    assert metas[0]["keep_video"] == {"ui": {"visibility": ["app"]}}
    assert metas[0]["list_jobs"] == {"ui": {"resourceUri": GALLERY_URI}}
    assert "keep_video" not in metas[1]
    assert metas[1]["list_jobs"] is None
    assert "keep_video" not in str(unknown.content)


async def test_page_keeps_a_video_and_list_says_so(time: VirtualTime, tmp_path: Path) -> None:
    """And the player learns how many takes there are (ours)."""
    async with connected(time, tmp_path, extensions=PAGES) as host:
        first = await host.start(seed=1)
        second = await host.start(seed=2)
        for id in (first, second):
            await host.call("wait_for_job", job_id=id, timeout_seconds=300)
        looked = await host.client.call_tool("get_job_status", {"job_id": first})
        kept = await host.call("keep_video", job_id=first)
        rows = (await host.call("list_jobs"))["jobs"]
        undone = await host.call("keep_video", job_id=first, kept=False)
        after = (await host.call("list_jobs"))["jobs"]

    assert (looked.meta or {})["takes"] == 2
    assert kept["charged"] == undone["charged"] == "no"
    assert {row["job_id"]: row.get("kept") for row in rows} == {first: True, second: None}
    assert {row.get("kept") for row in after} == {None}


async def test_takes_are_not_counted_where_jobs_are_not_listed(
    time: VirtualTime, tmp_path: Path
) -> None:
    """The player would offer to compare what it cannot list (ours)."""
    off = {"WAN_MCP_DISABLED_TOOLS": "list_jobs"}
    async with connected(time, tmp_path, extensions=PAGES, settings=off) as host:
        for id in (await host.start(seed=1), await host.start(seed=2)):
            await host.call("wait_for_job", job_id=id, timeout_seconds=300)
        looked = await host.client.call_tool("get_job_status", {"job_id": id})

    assert looked.structured_content["status"] == "completed"
    assert "takes" not in (looked.meta or {})


async def test_a_job_without_a_video_cannot_be_kept(host: Host) -> None:
    """The answer says why (ours)."""
    answer = await host.client.call_tool("keep_video", {"job_id": "sub_nobody"})

    assert answer.is_error
