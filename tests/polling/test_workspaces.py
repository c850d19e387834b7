"""Several users on one wallet: what PixelDojo is asked, and who learns of the answer."""

from contextlib import AsyncExitStack, aclosing

import pytest

from tests.ledger.stores import sent
from tests.polling import processes
from tests.polling.processes import Process, Vendor, completed_body, make_unavailable
from tests.virtual_time import in_virtual_time
from wan_mcp.errors import Busy, NotFound
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.models import Job, JobStatus, Replacement

pytestmark = pytest.mark.anyio

time, anyio_backend = in_virtual_time()
vendor, cluster, one = processes.vendor, processes.cluster, processes.one

WANTED = Replacement(video="https://a.example/v", character_image="https://a.example/i")


def jobs_of(process: Process, name: str) -> Jobs:
    """What a user of the process's wallet calls."""
    return process.jobs.of(Workspace(name, process.account))


async def accepted(process: Process, name: str, job_id: str) -> None:
    """Record a job of a user that PixelDojo has accepted just now."""
    workspace = Workspace(name, process.account)
    wanted = WANTED.model_copy(update={"video": f"https://a.example/{job_id}"})
    claim = await process.ledger.claim(workspace, wanted, generated_seed=1, estimate=1)
    record = await sent(process.ledger, claim.record)
    await process.ledger.accept(record, Job(job_id=job_id, status=JobStatus.RUNNING))


async def test_whoever_has_a_key_alone_may_ask_for_any_of_its_jobs(
    one: Process, vendor: Vendor
) -> None:
    """A job that was started on PixelDojo's own page, for example. (ours)"""
    found = await one.jobs.check("made-elsewhere")

    assert found.status is JobStatus.RUNNING
    assert vendor.count() == {"made-elsewhere": 1}


@pytest.mark.parametrize("id", ["of-ben", "made-elsewhere"])
async def test_on_a_shared_key_nobody_learns_of_a_job_that_is_not_theirs(
    one: Process, vendor: Vendor, id: str
) -> None:
    """PixelDojo would tell: to it the key is one customer. (ours)"""
    await accepted(one, "ben", "of-ben")
    vendor.jobs["of-ben"] = completed_body("of-ben")
    ann = jobs_of(one, "ann")

    with pytest.raises(NotFound):
        await ann.check(id)
    with pytest.raises(NotFound):
        await ann.known(id)
    with pytest.raises(NotFound):
        await ann.cancel(id)
    assert [type(each) for each in await updates(ann, id)] == [NotFound]
    assert vendor.times(id) == []
    assert await ann.recent(None, 9) == []


async def updates(jobs: Jobs, id: str) -> list[object]:
    """What a wait of one second for a job yields, or raises."""
    try:
        return [each async for each in jobs.watch(id, 1.0)]
    except NotFound as failure:
        return [failure]


async def test_while_the_ledger_cannot_be_read_pixeldojo_is_not_asked_on_a_shared_key(
    one: Process, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose job it is cannot be known then. (ours)"""
    make_unavailable(one, monkeypatch, "read")

    with pytest.raises(LedgerUnavailable):
        await jobs_of(one, "ann").check("of-ben")
    await one.jobs.check("of-ben")

    assert vendor.count() == {"of-ben": 1}


async def test_one_poller_reads_the_jobs_of_all_users_of_a_key(
    one: Process, vendor: Vendor
) -> None:
    for name in ("ann", "ben"):
        await accepted(one, name, f"of-{name}")
        vendor.jobs[f"of-{name}"] = completed_body(f"of-{name}")

    for name in ("ann", "ben"):
        async for reading in jobs_of(one, name).watch(f"of-{name}", 60.0):
            last = reading
        assert getattr(last, "status", last) is JobStatus.COMPLETED

    assert vendor.count() == {"of-ann": 1, "of-ben": 1}
    assert await one.jobs.recent(None, 9) == []


async def begun(stack: AsyncExitStack, jobs: Jobs, *ids: str) -> None:
    """Begin a wait for one job, or for several, which goes on until the stack is closed."""
    updates = jobs.watch_several(ids, 600) if len(ids) > 1 else jobs.watch(ids[0], 600)
    await stack.enter_async_context(aclosing(updates))
    await anext(updates)  # what is known already
    await anext(updates)  # what a waiter is sent


@pytest.mark.parametrize("ids", [("a1",), ("a1", "a2")], ids=["for one job", "for several"])
async def test_one_users_waits_leave_places_for_others_and_are_free_again_when_they_end(
    one: Process, monkeypatch: pytest.MonkeyPatch, ids: tuple[str, ...]
) -> None:
    """A wait for several jobs takes one place, as a wait for one does (docs/teams.md)."""
    monkeypatch.setattr("wan_mcp.polling.watchers.MAX_WAITERS_OF_USER", 2)
    for name, id in (("ann", "a1"), ("ann", "a2"), ("ben", "b1")):
        await accepted(one, name, id)
    ann, ben = jobs_of(one, "ann"), jobs_of(one, "ben")
    async with AsyncExitStack() as others:
        async with AsyncExitStack() as stack:
            for _ in range(2):
                await begun(stack, ann, *ids)
            with pytest.raises(Busy, match="2 calls of yours") as refused:
                await begun(others, ann, *ids)
            await begun(others, ben, "b1")
        await begun(others, ann, *ids)

    assert refused.value.retry_after == 30
    assert one.jobs.work.watchers.count == 0


async def test_whoever_has_a_key_alone_has_all_places(
    one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else could be kept waiting (docs/teams.md)."""
    monkeypatch.setattr("wan_mcp.polling.watchers.MAX_WAITERS_OF_USER", 1)
    await one.accept("job1")
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await begun(stack, one.jobs, "job1")

        assert one.jobs.work.watchers.count == 3
