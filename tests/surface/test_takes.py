"""Takes: jobs that differ only in their seed, in the lists and on the pages of a host."""

import json
from typing import Any

import pytest

from tests.connected import Host, host_of
from tests.virtual_time import in_virtual_time
from wan_mcp.sandbox.http import faults

pytestmark = pytest.mark.anyio

time, anyio_backend = in_virtual_time(0.0, sockets=True)
host = host_of("auto", "legacy")
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
