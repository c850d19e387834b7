"""Queued requests are sent in their turn, once, by one process for all; and what ends them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from tests.payments.paid_vendor import PaidVendor
from tests.payments.queue_storm import BROKEN_PROMISES, Storm, run
from tests.polling.processes import Cluster, Process
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.errors import InvalidArguments
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import Role
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.status import JobView
from wan_mcp.models import InputReport, JobStatus, Replacement
from wan_mcp.payments.dispatcher import LEASE_SECONDS

pytestmark = pytest.mark.anyio
time, anyio_backend = in_virtual_time()

LIMITS = SpendingLimits(None, 1_000, 1, None, queued=20)
A_JOB = 40.0
"""Virtual seconds in which a job ends and the next one is sent."""


@pytest.fixture
def vendor(time: VirtualTime) -> PaidVendor:
    return PaidVendor(time)


@pytest.fixture
def cluster(tmp_path: Path, time: VirtualTime, vendor: PaidVendor) -> Cluster:
    return Cluster(tmp_path / "ledger", time, vendor)


@pytest.fixture
async def one(cluster: Cluster) -> AsyncIterator[Process]:
    async with cluster.process(limits=LIMITS) as process:
        yield process


def wanted(number: int) -> Replacement:
    link = f"https://media.example/{number}.mp4?signature=s{number}"
    return Replacement(video=link, character_image="https://media.example/face.png")


async def submitted(process: Process, count: int, first: int = 0) -> list[JobView]:
    """The answers to so many calls, one after the other."""
    return [await process.jobs.submit(wanted(first + number)) for number in range(count)]


def sent(vendor: PaidVendor) -> list[str]:
    """The clips that were paid for, in their order."""
    return [str(charge.body["video"]) for charge in vendor.charges]


def videos(*numbers: int) -> list[str]:
    return [wanted(number).video for number in numbers]


async def record_of(process: Process, view: JobView) -> Record:
    assert view.record is not None
    found = await process.ledger.find(process.account, view.record.submission_id)
    assert found is not None
    return found


async def states(process: Process, views: list[JobView]) -> list[str]:
    return [(await record_of(process, view)).state.value for view in views]


async def test_a_call_beyond_the_limit_is_queued_and_sent_in_its_turn(
    one: Process, vendor: PaidVendor
) -> None:
    """The whole link is sent, with the signature, and the answer names the place."""
    views = await submitted(one, 3)
    waiting = [view.place.position for view in views if view.place]
    await anyio.sleep(3 * A_JOB)

    assert [view.status for view in views] == [JobStatus.RUNNING, *[JobStatus.QUEUED] * 2]
    assert waiting == [1, 2]
    assert sent(vendor) == videos(0, 1, 2)
    assert await states(one, views) == ["completed"] * 3
    assert vendor.most_at_once == 1


async def test_a_wait_for_a_queued_request_lasts_until_its_video_is_there(
    one: Process, vendor: PaidVendor
) -> None:
    *_, last = await submitted(one, 2)

    updates = await one.wait(last.id, 120)

    seen = [update.what for update in updates]
    assert seen[0] == "queued"
    assert seen[-1] == "completed"
    assert "running" in seen


async def test_an_equal_call_joins_the_queued_request_and_learns_its_place(one: Process) -> None:
    *_, queued = await submitted(one, 2)

    again = await one.jobs.submit(wanted(1))

    assert (again.joined, again.id, again.status) == (True, queued.id, JobStatus.QUEUED)
    assert again.place is not None


async def test_another_process_goes_on_when_the_dispatcher_is_killed(
    cluster: Cluster, vendor: PaidVendor
) -> None:
    async with cluster.process(limits=LIMITS) as first, cluster.process(limits=LIMITS) as second:
        views = await submitted(first, 4)
        await first.kill()
        await anyio.sleep(4 * A_JOB)

        assert await states(second, views) == ["completed"] * 4
    assert sent(vendor) == videos(0, 1, 2, 3)


async def test_a_frozen_dispatcher_is_replaced_when_its_lease_ends(
    cluster: Cluster, vendor: PaidVendor, time: VirtualTime
) -> None:
    async with cluster.process(limits=LIMITS) as first, cluster.process(limits=LIMITS) as second:
        await first.ledger.coordination.lead(first.account, Role.DISPATCHER, LEASE_SECONDS)
        first.running.cancel()
        views = await submitted(second, 2)
        await anyio.sleep(2 * A_JOB)

        assert await states(second, views) == ["completed"] * 2
    assert sent(vendor) == videos(0, 1)


async def test_the_next_server_sends_what_is_queued_and_lists_it_before(
    cluster: Cluster, vendor: PaidVendor
) -> None:
    """It is never emptied by surprise: the next start shows it. (promises 4)"""
    async with cluster.process(limits=LIMITS) as process:
        views = await submitted(process, 3)
    async with cluster.process(limits=LIMITS) as process:
        listed = await process.jobs.recent(None, 10)
        await anyio.sleep(3 * A_JOB)

        assert [view.status for view in listed][:2] == [JobStatus.QUEUED] * 2
        assert await states(process, views) == ["completed"] * 3


async def test_a_server_that_stops_returns_to_the_queue_what_it_has_not_sent(
    cluster: Cluster, vendor: PaidVendor
) -> None:
    async with cluster.process(limits=LIMITS) as process:
        views = await submitted(process, 2)
        await process.jobs.drain(1)
        await anyio.sleep(A_JOB)
        assert (await states(process, views))[1] == "queued"
    assert len(vendor.posts) == 1


async def test_a_revoked_key_ends_the_whole_queue_with_one_request(
    one: Process, vendor: PaidVendor
) -> None:
    vendor.fault = lambda number: 401 if number > 1 else None
    views = await submitted(one, 21)

    await anyio.sleep(2 * A_JOB)

    assert await states(one, views) == ["completed", "refused", *["not_sent"] * 19]
    assert len(vendor.posts) == 2
    last = await record_of(one, views[-1])
    assert "An earlier request of the queue was refused" in (last.error or "")
    assert "PIXELDOJO_API_KEY" in (last.error or "")


async def test_when_the_credits_are_gone_the_rest_of_the_queue_ends(
    one: Process, vendor: PaidVendor
) -> None:
    vendor.fault = lambda number: 402 if number == 5 else None
    views = await submitted(one, 8)

    await anyio.sleep(8 * A_JOB)

    assert await states(one, views) == [
        *["completed"] * 4,
        "refused",
        *["not_sent"] * 3,
    ]
    assert len(vendor.charges) == 4


async def test_an_ordinary_refusal_ends_only_that_request(one: Process, vendor: PaidVendor) -> None:
    vendor.fault = lambda number: 422 if number == 2 else None
    views = await submitted(one, 3)

    await anyio.sleep(3 * A_JOB)

    assert await states(one, views) == ["completed", "refused", "completed"]


@pytest.mark.parametrize("fault", ["unreachable", 429])
async def test_what_will_pass_keeps_a_request_in_the_queue_at_its_place(
    one: Process, vendor: PaidVendor, fault: str | int
) -> None:
    """No byte was sent, or PixelDojo asks for fewer requests: nothing was charged. (ours)"""
    vendor.fault = lambda number: fault if 2 <= number <= 4 else None
    views = await submitted(one, 3)

    await anyio.sleep(300)

    assert await states(one, views) == ["completed"] * 3
    assert sent(vendor) == videos(0, 1, 2)


async def test_an_answer_that_is_lost_is_unknown_and_never_sent_again(
    one: Process, vendor: PaidVendor
) -> None:
    vendor.fault = lambda number: "lost" if number == 2 else None
    views = await submitted(one, 3)

    await anyio.sleep(300)

    assert vendor.repeated() == []
    assert sent(vendor) == videos(0, 1, 2)
    assert await states(one, views) == ["completed"] * 3  # found in the list


async def test_a_link_that_died_in_the_queue_ends_its_request_uncharged(
    cluster: Cluster, vendor: PaidVendor, time: VirtualTime
) -> None:
    async def preflight(wanted: Replacement, *, seconds: float) -> InputReport:
        if time.passed() > 10 and wanted.video in videos(1):
            raise InvalidArguments("The link to the clip has expired.")
        return InputReport()

    async with cluster.process(limits=LIMITS, preflight=preflight) as process:
        views = await submitted(process, 3)
        await anyio.sleep(3 * A_JOB)

        assert await states(process, views) == ["completed", "not_sent", "completed"]
        dead = await record_of(process, views[1])
    assert "The link to the clip has expired." in (dead.error or "")
    assert sent(vendor) == videos(0, 2)


async def test_what_was_not_sent_within_its_hour_never_is(
    one: Process, vendor: PaidVendor, time: VirtualTime
) -> None:
    vendor.lasts = 4_000
    views = await submitted(one, 2)

    time.skew += 3_600
    await anyio.sleep(60)

    assert (await states(one, views))[1] == "not_sent"
    assert len(vendor.posts) == 1


async def test_a_ledger_that_is_full_refuses_and_queues_nothing(
    one: Process, vendor: PaidVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submitted(one, 1)

    async def full(*given: object, **named: object) -> None:
        raise LedgerUnavailable("The ledger (ledger.db) cannot grow: the disk is full.")

    with monkeypatch.context() as broken:
        broken.setattr(one.ledger, "claim", full)
        with pytest.raises(LedgerUnavailable):
            await one.jobs.submit(wanted(1))
    await anyio.sleep(A_JOB)

    assert len(vendor.posts) == 1
    assert await one.ledger.queue.waiting(one.account) == []


@pytest.mark.parametrize("jump", [-7_200.0, 1_800.0])
async def test_a_clock_that_jumps_sends_nothing_twice_and_keeps_the_order(
    one: Process, vendor: PaidVendor, time: VirtualTime, jump: float
) -> None:
    views = await submitted(one, 2)
    time.skew += jump
    views += await submitted(one, 2, first=2)

    await anyio.sleep(5 * A_JOB)

    assert sent(vendor) == videos(0, 1, 2, 3)
    assert vendor.most_at_once == 1
    assert await states(one, views) == ["completed"] * 4


async def test_a_request_that_was_paid_elsewhere_meanwhile_is_not_sent(
    one: Process, cluster: Cluster, vendor: PaidVendor
) -> None:
    """A server of a version without a queue reads a queued request as ended and free. (ours)"""
    views = await submitted(one, 2)
    queued = await record_of(one, views[1])
    async with cluster.process(running=False) as old:
        # As such a server claims it: without a look at the queue.
        await one.ledger.queue.cancel(queued)
        paid = await old.jobs.submit(wanted(1))
        await one.ledger.queue.waiting(one.account)
        await put_again(one, queued)
        await anyio.sleep(2 * A_JOB)

    found = await record_of(one, views[1])
    assert found.state is State.NOT_SENT
    assert paid.id in (found.error or "")
    assert sent(vendor) == videos(0, 1)


async def put_again(process: Process, queued: Record) -> None:
    """Store a queued record as it was."""
    store = process.ledger._store  # type: ignore[attr-defined]
    known = await record_of(process, JobView(queued.public_id, JobStatus.QUEUED, record=queued))
    await store.write(lambda opened: opened.queue._rows.save(known, queued))


async def test_a_cancelled_request_is_not_sent_and_the_next_one_is(
    one: Process, vendor: PaidVendor
) -> None:
    views = await submitted(one, 3)

    before, after = await one.jobs.cancel(views[1].id)
    _, again = await one.jobs.cancel(views[1].id)
    await anyio.sleep(3 * A_JOB)

    assert (before.status, after.status, again.status) == (
        JobStatus.QUEUED,
        JobStatus.NOT_SENT,
        JobStatus.NOT_SENT,
    )
    assert sent(vendor) == videos(0, 2)


async def test_a_job_that_was_sent_goes_on_when_it_is_cancelled(
    one: Process, vendor: PaidVendor
) -> None:
    [view] = await submitted(one, 1)

    before, after = await one.jobs.cancel(view.id)
    await anyio.sleep(A_JOB)

    assert (before.status, after.status) == (JobStatus.RUNNING, JobStatus.RUNNING)
    assert await states(one, [view]) == ["completed"]


async def test_while_another_process_has_the_role_nobody_else_sends(
    cluster: Cluster, vendor: PaidVendor
) -> None:
    async with cluster.process(limits=LIMITS, running=False) as first:
        await first.ledger.coordination.lead(first.account, Role.DISPATCHER, 60.0)
        async with cluster.process(limits=LIMITS) as second:
            views = await submitted(second, 2)
            await anyio.sleep(50)
            before = await states(second, views)
            await anyio.sleep(A_JOB)

            assert before == ["completed", "queued"]
            assert (await states(second, views))[1] != "queued"


async def test_a_read_only_server_neither_sends_nor_ends_what_others_have_queued(
    cluster: Cluster, vendor: PaidVendor
) -> None:
    """`WAN_MCP_READ_ONLY` buys nothing, and what waits is for a server that may buy it (ours)."""
    async with cluster.process(limits=LIMITS) as usual:
        views = await submitted(usual, 3)
    paid_before = len(vendor.charges)
    async with cluster.process(limits=replace(LIMITS, read_only=True)) as looking:
        await anyio.sleep(4 * A_JOB)
        seen = await states(looking, views)
        paid_meanwhile = len(vendor.charges)
        async with cluster.process(limits=LIMITS) as usual:
            await anyio.sleep(4 * A_JOB)
            ended = await states(looking, views)

    assert paid_before == paid_meanwhile == 1
    assert seen[1:] == ["queued"] * 2
    assert ended == ["completed"] * 3
    assert sent(vendor) == videos(0, 1, 2)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_a_storm_of_requests_is_sent_in_order_and_within_the_limits(
    tmp_path: Path, time: VirtualTime, engine: str, request: pytest.FixtureRequest
) -> None:
    """Reduced; `python -m tests.payments.queue_storm` is the whole one."""
    in_file = engine == "sqlite"
    ledger = tmp_path / "ledger" if in_file else request.getfixturevalue("database")

    figures = await run(Storm(processes=2, requests=12, seed=3), ledger, time)

    assert {name: figures[name] for name in BROKEN_PROMISES} == dict.fromkeys(BROKEN_PROMISES, 0)
    assert figures["charges"] > 4
