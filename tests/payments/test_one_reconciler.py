"""Lost answers with several processes on one ledger: one reconciler searches for all."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise

import anyio
import pytest

from tests.polling import processes
from tests.polling.processes import LIST, Cluster, Process, Vendor, job_body
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.rules import PROOF_GAP_SECONDS
from wan_mcp.models import Job, JobStatus, Replacement

pytestmark = pytest.mark.anyio
time, anyio_backend = in_virtual_time()
cluster, vendor = processes.cluster, processes.vendor

SEEDS = {"before": 11, "lost": 12, "after": 13}


@asynccontextmanager
async def running(cluster: Cluster, count: int) -> AsyncIterator[list[Process]]:
    """Start so many processes on one ledger."""
    async with AsyncExitStack() as opened:
        yield [await opened.enter_async_context(cluster.process()) for _ in range(count)]


async def sent(process: Process, name: str) -> Record:
    """Bring a request past its commit point. No answer has arrived."""
    wanted = Replacement(video=f"https://a.example/{name}", character_image="https://a.ex/i")
    claim = await process.ledger.claim(
        process.account, wanted, generated_seed=SEEDS[name], estimate=1
    )
    await process.ledger.commit_sending(claim.record)
    return claim.record


async def done(process: Process, name: str) -> None:
    """Record a job of this account that has ended, so that nothing polls it."""
    job = Job(job_id=name, status=JobStatus.COMPLETED, video_url=f"https://cdn.example/{name}.mp4")
    await process.ledger.accept(await sent(process, name), job)


async def lose_an_answer(process: Process, vendor: Vendor) -> Record:
    """Lose the answer of a request; the list shows jobs of this account from before and after."""
    await done(process, "before")
    await anyio.sleep(10)
    lost = await sent(process, "lost")
    await process.ledger.conclude(lost, State.UNKNOWN, "no answer")
    await anyio.sleep(1)
    await done(process, "after")
    vendor.shown = ["before", "after"]
    vendor.listed = lambda job: job_body(
        str(job["jobId"]), "completed", input={"seed": SEEDS[str(job["jobId"])]}
    )
    return lost


async def state_of(process: Process, record: Record) -> State:
    [found] = await process.ledger.coordination.records([record.submission_id])
    return found.state


@pytest.mark.parametrize("count", [1, 3, 6])
async def test_the_list_is_read_as_often_by_six_processes_as_by_one(
    cluster: Cluster, vendor: Vendor, count: int
) -> None:
    """One process has the role, and its findings are in the ledger (promises 7)."""
    async with running(cluster, count) as processes:
        lost = await lose_an_answer(processes[0], vendor)
        await anyio.sleep(3_600)
        states = {await state_of(process, lost) for process in processes}

    assert states == {State.NOT_SENT}
    assert vendor.count()[LIST] == 5  # at the first reading, and after 1, 3, 10 and 30 minutes


@pytest.mark.parametrize("count", [1, 3])
async def test_callers_who_ask_at_the_same_time_share_one_reading(
    cluster: Cluster, vendor: Vendor, count: int
) -> None:
    """A check causes a reading at once, and one is enough for all (promises 7)."""
    async with running(cluster, count) as processes:
        lost = await lose_an_answer(processes[0], vendor)
        await anyio.sleep(100)
        before = vendor.count()[LIST]
        async with anyio.create_task_group() as tasks:
            for process in processes:
                tasks.start_soon(process.jobs.check, lost.submission_id)

    assert vendor.count()[LIST] == before + 1


@pytest.mark.parametrize("count", [1, 3])
async def test_proof_needs_three_readings_also_after_an_outage(
    cluster: Cluster, vendor: Vendor, time: VirtualTime, count: int
) -> None:
    """An outage of 22 minutes does not shorten the proof (promises 7)."""
    vendor.answers[LIST] = [(503, {}, {})]
    async with running(cluster, count) as processes:
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


async def test_readings_that_are_close_together_count_once(
    cluster: Cluster, vendor: Vendor
) -> None:
    """The same list a few seconds later proves nothing new (promises 7)."""
    async with running(cluster, 1) as [process]:
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


async def test_another_process_takes_over_from_a_dead_reconciler(
    cluster: Cluster, vendor: Vendor
) -> None:
    """Its lease ends with the process (ours)."""
    async with running(cluster, 2) as [first, second]:
        lost = await lose_an_answer(first, vendor)
        await anyio.sleep(20)
        await first.kill()
        await anyio.sleep(3_600)

        assert await state_of(second, lost) is State.NOT_SENT


async def test_a_list_that_could_not_show_the_job_is_no_part_of_the_proof(
    cluster: Cluster, vendor: Vendor
) -> None:
    """An hour of lists without seeds proves nothing, and one good list is one (promises 7)."""
    async with running(cluster, 1) as [process]:
        lost = await lose_an_answer(process, vendor)
        with_seeds = vendor.listed
        vendor.listed = lambda job: job
        await anyio.sleep(3_600)
        vendor.listed = with_seeds
        await process.jobs.check(lost.submission_id)
        [record] = await process.ledger.coordination.records([lost.submission_id])

    assert record.state is State.UNKNOWN
    assert record.checks > 3
    assert record.proof_readings == 1
