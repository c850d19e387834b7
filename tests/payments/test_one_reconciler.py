"""Lost answers with several processes on one ledger: they are looked up once per account."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise

import anyio
import pytest

from tests.polling import processes
from tests.polling.processes import LIST, House, Process, Vendor, page
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.rules import PROOF_GAP_SECONDS
from wan_mcp.models import Job, JobStatus, Replacement

pytestmark = pytest.mark.anyio
time, anyio_backend = in_virtual_time()
house, vendor = processes.house, processes.vendor

SEEDS = {"before": 11, "lost": 12, "after": 13}


@asynccontextmanager
async def running(house: House, count: int) -> AsyncIterator[list[Process]]:
    """That many processes on one ledger, all of which run."""
    async with AsyncExitStack() as opened:
        yield [await opened.enter_async_context(house.process()) for _ in range(count)]


async def sent(process: Process, name: str) -> Record:
    """A request whose first byte has left."""
    wanted = Replacement(video=f"https://a.example/{name}", character_image="https://a.ex/i")
    claim = await process.ledger.claim(
        process.account, wanted, generated_seed=SEEDS[name], estimate=1
    )
    await process.ledger.commit_sending(claim.record)
    return claim.record


async def done(process: Process, name: str) -> None:
    """A job of ours that has ended, so that nothing polls it."""
    job = Job(job_id=name, status=JobStatus.COMPLETED, video_url=f"https://cdn.example/{name}.mp4")
    await process.ledger.accept(await sent(process, name), job)


async def lose_an_answer(process: Process, vendor: Vendor) -> Record:
    """A request without an answer, and jobs of ours from before and after it in the list."""
    await done(process, "before")
    await anyio.sleep(10)
    lost = await sent(process, "lost")
    await process.ledger.conclude(lost, State.UNKNOWN, "no answer")
    await anyio.sleep(1)
    await done(process, "after")
    vendor.shown = ["before", "after"]
    vendor.listed = lambda job: page(
        str(job["jobId"]), "completed", input={"seed": SEEDS[str(job["jobId"])]}
    )
    return lost


async def state_of(process: Process, record: Record) -> State:
    [found] = await process.ledger.coordination.records([record.submission_id])
    return found.state


@pytest.mark.parametrize("count", [1, 3, 6])
async def test_the_list_is_read_as_often_by_six_processes_as_by_one(
    house: House, vendor: Vendor, count: int
) -> None:
    """One process has the role, and its findings are shared (promises 7)."""
    async with running(house, count) as processes:
        lost = await lose_an_answer(processes[0], vendor)
        await anyio.sleep(3_600)
        states = {await state_of(process, lost) for process in processes}

    assert states == {State.NOT_SENT}
    assert vendor.count()[LIST] == 5  # at the first look, and after 1, 3, 10 and 30 minutes


@pytest.mark.parametrize("count", [1, 3])
async def test_everybody_who_asks_at_once_shares_one_reading(
    house: House, vendor: Vendor, count: int
) -> None:
    """A question makes a reading at once, and one serves all (promises 7)."""
    async with running(house, count) as processes:
        lost = await lose_an_answer(processes[0], vendor)
        await anyio.sleep(100)
        before = vendor.count()[LIST]
        async with anyio.create_task_group() as tasks:
            for process in processes:
                tasks.start_soon(process.jobs.check, lost.submission_id)

    assert vendor.count()[LIST] == before + 1


@pytest.mark.parametrize("count", [1, 3])
async def test_proof_needs_three_moments_after_an_outage_too(
    house: House, vendor: Vendor, time: VirtualTime, count: int
) -> None:
    """An outage of 22 minutes does not shorten it (promises 7)."""
    vendor.answers[LIST] = [(503, {}, {})]
    async with running(house, count) as processes:
        lost = await lose_an_answer(processes[0], vendor)
        await anyio.sleep(22 * 60)
        del vendor.answers[LIST]
        back = time.passed()
        await anyio.sleep(3_600)
        state = await state_of(processes[0], lost)

    readings = [at for at in vendor.times(LIST) if at >= back]
    assert state is State.NOT_SENT
    assert len(readings) == 3
    assert min(later - at for at, later in pairwise(readings)) >= PROOF_GAP_SECONDS


async def test_readings_that_are_close_together_are_one_moment(
    house: House, vendor: Vendor
) -> None:
    """The same list, seen again seconds later, proves nothing (promises 7)."""
    async with running(house, 1) as [process]:
        lost = await lose_an_answer(process, vendor)
        vendor.answers[LIST] = [(503, {}, {})]
        await anyio.sleep(25 * 60)
        del vendor.answers[LIST]
        for _ in range(20):
            await process.jobs.check(lost.submission_id)
            await anyio.sleep(4)
        [record] = await process.ledger.coordination.records([lost.submission_id])

    assert record.state is State.UNKNOWN
    assert record.checks > 10
    assert record.proof_readings < 3


async def test_another_process_takes_over_from_a_reconciler_that_died(
    house: House, vendor: Vendor
) -> None:
    """Its lease ends with it (ours)."""
    async with running(house, 2) as [first, second]:
        lost = await lose_an_answer(first, vendor)
        await anyio.sleep(20)
        await first.die()
        await anyio.sleep(3_600)

        assert await state_of(second, lost) is State.NOT_SENT
