"""Files and earlier videos of a queued request: they are read when its turn has come."""

from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest

from tests.payments.home import TERMS, Home, Server, home, sandbox
from tests.payments.local_inputs import CLIP, PICTURE
from tests.virtual_time import in_virtual_time
from wan_mcp.errors import NotSent
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.models import JobStatus, Replacement

pytestmark = pytest.mark.anyio

time, anyio_backend = in_virtual_time(0.0, sockets=True)
_ = home, sandbox

ONE_AT_ONCE = SpendingLimits(None, None, 1, None, queued=9)
TURN = 150.0
"""Seconds in which a running job has ended and the next request was sent; a job takes 60."""


def links(number: int) -> Replacement:
    """A request of links alone."""
    link = f"https://media.example/{number}"
    return Replacement(video=f"{link}.mp4", character_image=f"{link}.png")


async def record_of(server: Server, id: str) -> Record:
    found = await server.ledger.find(await server.account(), id)
    assert found is not None
    return found


async def in_its_turn(home: Home, server: Server, wanted: Replacement) -> tuple[str, str]:
    """The submission ids of a queued request, and of the one behind it in the queue."""
    home.bucket.go_on.set()
    await server.submit(links(1))
    views = [await server.submit(wanted), await server.submit(links(2))]
    assert [view.status for view in views] == [JobStatus.QUEUED] * 2
    return views[0].id, views[1].id


async def test_a_file_is_uploaded_when_its_turn_has_come_by_another_server_too(home: Home) -> None:
    """The one that accepted the call is gone, and what it remembered of the file with it."""
    async with home.server(limits=ONE_AT_ONCE, killed=True) as server:
        id, _ = await in_its_turn(home, server, home.wanted())
        uploaded_early = dict(home.bucket.objects)
    async with home.server(limits=ONE_AT_ONCE, running=True) as server:
        await anyio.sleep(TURN)
        sent = await record_of(server, id)

    assert uploaded_early == {}
    assert home.bodies[1]["video"].startswith(home.bucket.base)  # type: ignore[attr-defined]
    assert sent.job_id == home.sandbox.charges[1].job_id
    assert sent.arguments["video"] == f"{CLIP}#t=12,17"


@pytest.mark.parametrize(
    ("meanwhile", "by_another", "said"),
    [
        ("changed", False, "the file was changed"),
        ("changed", True, "was changed after this call was made"),
        ("gone", True, "is in no folder that is allowed"),
    ],
)
async def test_a_file_that_was_changed_or_removed_in_the_queue_ends_its_request_alone(
    home: Home, meanwhile: str, by_another: bool, said: str
) -> None:
    """Another file than the one that was asked for is never paid for, whoever sends it (ours)."""
    async with home.server(limits=ONE_AT_ONCE, running=not by_another, killed=by_another) as server:
        id, behind = await in_its_turn(home, server, home.wanted())
        if meanwhile == "gone":
            del home.disk.files[PICTURE]
        else:
            home.disk.write(CLIP, b"another clip")
        if not by_another:
            await anyio.sleep(2 * TURN)
    async with home.server(limits=ONE_AT_ONCE, running=True) as server:
        await anyio.sleep(2 * TURN)
        ended, next_one = await record_of(server, id), await record_of(server, behind)

    assert ended.state == "not_sent"
    assert said in (ended.error or "")
    assert next_one.state == "completed"
    assert [body["video"] for body in home.bodies] == [links(n).video for n in (1, 2)]


async def test_a_storage_that_is_away_ends_the_request_and_not_the_queue(home: Home) -> None:
    """The others may need no storage, and would wait for it in vain (ours)."""
    async with home.server(limits=ONE_AT_ONCE, running=True) as server:
        id, behind = await in_its_turn(home, server, home.wanted())
        home.bucket.failure = NotSent("The storage cannot be reached.")
        await anyio.sleep(3 * TURN)
        ended, next_one = await record_of(server, id), await record_of(server, behind)

    assert ended.state == "not_sent"
    assert "The storage cannot be reached." in (ended.error or "")
    assert next_one.state == "completed"
    assert home.bucket.released == [id]
    assert len(home.sandbox.charges) == 2


@pytest.mark.parametrize(("passes", "end"), [(600, "not_sent"), (0, "completed")])
async def test_an_earlier_video_is_sent_only_while_its_link_lives(
    home: Home, passes: float, end: str
) -> None:
    """It was good when the call was accepted; a dead link would cost a failed job (ours)."""
    home.sandbox.terms = replace(TERMS, url_seconds=1_200)
    async with home.server(limits=ONE_AT_ONCE, running=True, delivers=False) as server:
        earlier = await server.submit(links(9))
        await anyio.sleep(TURN)
        chain = f"wan://jobs/{(await record_of(server, earlier.id)).job_id}/video"
        id, behind = await in_its_turn(home, server, links(3).model_copy(update={"video": chain}))
        home.time.skew += passes
        await anyio.sleep(2 * TURN)
        ended, next_one = await record_of(server, id), await record_of(server, behind)

    assert ended.state == end
    assert ("has expired" in (ended.error or "")) is (end == "not_sent")
    assert next_one.state == "completed"


async def two_at_once(workspace: str, *, fresh: bool = False) -> Sequence[Quota]:
    """The only limit of each user: that of their key."""
    return (Quota(replace(ONE_AT_ONCE, in_flight=2), "of the key"),)


async def test_a_file_that_takes_long_to_upload_holds_up_the_requests_of_its_own_user_only(
    home: Home,
) -> None:
    """Whoever shares the key goes on, and the user's own requests keep their order, also with
    another server that would send what is behind the file (ours)."""

    def sent() -> list[object]:
        return [body["video"] for body in home.bodies]

    async with (
        home.server(quotas=two_at_once, running=True) as server,
        home.server(quotas=two_at_once, running=True),
    ):
        wallet = await server.account()
        ann, ben = (server.jobs.of(Workspace(name, wallet)) for name in ("ann", "ben"))
        for number in (1, 2):
            await ann.submit(links(number))
        slow = await ann.submit(await ann.located(home.wanted()))
        for jobs, number in ((ann, 3), (ben, 4), (ben, 5)):
            await jobs.submit(links(number))
        await anyio.sleep(3 * TURN)
        while_it_uploads = sent()
        home.bucket.go_on.set()
        await anyio.sleep(2 * TURN)

    assert while_it_uploads == [links(number).video for number in (1, 2, 4, 5)]
    assert str(sent()[4]).startswith(home.bucket.base)
    assert sent()[5:] == [links(3).video]
    assert slow.status is JobStatus.QUEUED
