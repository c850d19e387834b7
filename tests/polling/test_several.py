"""A wait for several jobs: one waiter, and what happens to one job does not stop the others."""

from contextlib import aclosing
from itertools import pairwise
from typing import NamedTuple

import anyio
import pytest

from tests.polling import processes
from tests.polling.processes import Process, Vendor, completed_body, job_body, make_unavailable
from tests.virtual_time import in_virtual_time
from wan_mcp.errors import WanError
from wan_mcp.ledger.record import State
from wan_mcp.polling.several import LEAST_SECONDS
from wan_mcp.polling.waits import record_of
from wan_mcp.polling.watchers import HEARTBEAT_SECONDS, Watchers

pytestmark = pytest.mark.anyio

time, anyio_backend = in_virtual_time()
vendor, cluster, one = processes.vendor, processes.cluster, processes.one


class Seen(NamedTuple):
    """One update: when, and the status or the code of each job."""

    at: float
    what: dict[str, str]


async def wait(process: Process, *ids: str, seconds: float = 600) -> list[Seen]:
    """Every update of a wait for these jobs."""
    seen = []
    async with aclosing(process.jobs.watch_several(ids, seconds)) as updates:
        async for readings in updates:
            what = {
                id: str(each.code if isinstance(each, WanError) else each.status)
                for id, each in readings.items()
            }
            seen.append(Seen(process.time.passed(), what))
    return seen


async def end(vendor: Vendor, name: str, after: float) -> None:
    await anyio.sleep(after)
    vendor.jobs[name] = completed_body(name)


async def test_a_wait_ends_when_the_last_job_has_and_is_never_silent_for_long(
    one: Process, vendor: Vendor
) -> None:
    """Each is read as one job alone would be (ours)."""
    for name in ("a", "b", "c"):
        await one.accept(name)
    async with anyio.create_task_group() as tasks:
        for name, after in (("a", 20), ("b", 60), ("c", 90)):
            tasks.start_soon(end, vendor, name, after)
        seen = await wait(one, "a", "b", "c")
    ends = [next(s.at for s in seen if s.what[name] == "completed") for name in ("a", "b", "c")]

    assert seen[-1].what == dict.fromkeys(("a", "b", "c"), "completed")
    assert 20 < ends[0] <= 30
    assert 60 < ends[1] <= 70
    assert 90 < ends[2] == seen[-1].at <= 100
    pauses = [later.at - earlier.at for earlier, later in pairwise(seen)]
    assert max(pauses) <= HEARTBEAT_SECONDS


async def test_a_wait_for_many_jobs_is_one_waiter(
    one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it leaves none behind (ours)."""
    for name in ("a", "b", "c"):
        await one.accept(name)
    monkeypatch.setattr("wan_mcp.polling.watchers.MAX_WAITERS", 1)
    watchers: Watchers = one.jobs.work.watchers
    waiters: list[int] = []
    async with aclosing(one.jobs.watch_several(("a", "b", "c"), 20)) as updates:
        async for _ in updates:
            waiters.append(watchers._waiters)

    assert max(waiters) == 1
    assert (watchers._waiters, watchers._topics) == (0, {})


async def test_a_look_costs_what_the_poller_asks_anyway(one: Process, vendor: Vendor) -> None:
    """It lasts a second, in which the poller learns of the waiter (ours)."""
    for name in ("a", "b"):
        await one.accept(name)
    await anyio.sleep(100)
    before = vendor.count().total()
    seen = await wait(one, "a", "b", seconds=0)

    assert seen[-1].what == {"a": "running", "b": "running"}
    assert seen[-1].at <= 100 + LEAST_SECONDS
    assert vendor.count().total() - before <= 2


async def test_an_error_about_one_job_is_its_own(one: Process, vendor: Vendor) -> None:
    """One is not known, one may not be read, and one goes well (ours)."""
    for name in ("a", "b"):
        await one.accept(name)
    vendor.answers["b"] = [(403, {"error": "not yours"}, {})]
    vendor.answers["nobody"] = [(404, {"error": "no such job"}, {})]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end, vendor, "a", 20)
        seen = await wait(one, "sub_none", "a", "nobody", "b")

    assert seen[0].what["sub_none"] == seen[0].what["nobody"] == "not_found"
    assert seen[-1].what["b"] == "forbidden"
    assert seen[-1].what["a"] == "completed"
    assert seen[-1].at <= 30


async def test_while_the_ledger_cannot_be_read_the_wait_reads_the_jobs_itself(
    one: Process, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a wait for one job does, and not in a loop without pause (ours)."""
    for name in ("a", "b"):
        await one.accept(name)
    make_unavailable(one, monkeypatch, "changed_since", "live")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end, vendor, "a", 20)
        tasks.start_soon(end, vendor, "b", 40)
        seen = await wait(one, "a", "b")

    assert seen[-1].what == {"a": "completed", "b": "completed"}
    assert seen[-1].at <= 60
    assert vendor.count()["b"] <= 12


async def test_a_completed_job_without_a_link_keeps_nobody_waiting(
    one: Process, vendor: Vendor
) -> None:
    """It is read three more times, as in a wait for it alone (ours)."""
    for name in ("a", "b"):
        await one.accept(name)
    vendor.jobs["a"] = job_body("a", "completed")
    vendor.jobs["b"] = completed_body("b")
    seen = await wait(one, "a", "b")

    assert seen[-1].what == {"a": "completed", "b": "completed"}
    assert seen[-1].at < 60


async def test_a_lost_answer_is_awaited_until_the_time_is_up(one: Process, vendor: Vendor) -> None:
    """It may be found, and the others are answered meanwhile (ours)."""
    record = await one.submit("lost")
    await one.ledger.conclude(record, State.UNKNOWN, "No answer arrived.")
    await one.accept("a")
    vendor.jobs["a"] = completed_body("a")
    seen = await wait(one, record.submission_id, "a", seconds=30)

    assert seen[-1].what == {record.submission_id: "unknown", "a": "completed"}
    assert seen[-1].at == pytest.approx(30, abs=1)


async def test_a_job_that_two_ids_stand_for_is_there_once(one: Process) -> None:
    """The id of the request, and that of its job (ours)."""
    record = await one.accept("a")
    seen = await wait(one, record.submission_id, "a", seconds=5)

    assert seen[-1].what == {record.submission_id: "running"}


async def test_waits_for_the_same_jobs_share_what_they_know(one: Process) -> None:
    """Each of four hundred waits may be for 64 jobs (ours)."""
    await one.accept("a")
    async with (
        aclosing(one.jobs.watch_several(("a",), 20)) as first,
        aclosing(one.jobs.watch_several(("a",), 20)) as second,
        aclosing(one.jobs.watch("a", 20)) as third,
        anyio.create_task_group() as tasks,
    ):
        await anext(first)
        tasks.start_soon(anext, first)  # the first one waits from here on
        await anyio.sleep(1)
        readings = [(await anext(second))["a"], await anext(third)]
        tasks.cancel_scope.cancel()
    [one_record, other_record] = [record_of(reading) for reading in readings]

    assert one_record is not None
    assert one_record is other_record
