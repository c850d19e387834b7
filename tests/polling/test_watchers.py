"""The watchers of one process: a waiter gets every update of its job and affects no other one."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any

import anyio
import pytest

from tests.polling import processes
from tests.polling.processes import (
    Cluster,
    Process,
    Update,
    Vendor,
    completed_body,
    job_body,
    run_pending,
)
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.errors import Busy
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import WATCH_TTL_SECONDS
from wan_mcp.ledger.record import Record, State
from wan_mcp.models import Job, JobStatus
from wan_mcp.polling.watchers import CHEAP_WAITERS, HEARTBEAT_SECONDS, MAX_WAITERS, Watchers

pytestmark = pytest.mark.anyio


time, anyio_backend = in_virtual_time()
vendor, cluster, one = processes.vendor, processes.cluster, processes.one


class Waiters:
    """Watchers over the ledger of a process that does not poll: a test records the changes.

    Attributes:
        watchers: the object under test.
        received: the time and the record of each update, by the waiter's name.
    """

    def __init__(self, process: Process, time: VirtualTime) -> None:
        self.watchers = Watchers(process.ledger.coordination, time.clock())
        self.received: dict[str, list[tuple[float, Record]]] = {}
        self._process = process
        self._time = time

    async def wait(self, name: str, record: Record, seconds: float = 60, busy: float = 0) -> None:
        """Watch a record, and be busy for `busy` seconds after each update."""
        received = self.received.setdefault(name, [])
        async with aclosing(self.watchers.watch([record], self._time.now + seconds)) as changes:
            async for (each,) in changes:
                received.append((self._time.passed(), each))
                if busy:
                    await anyio.sleep(busy)

    async def end(self, record: Record) -> None:
        """Record that the job is completed."""
        done = Job(
            job_id=record.job_id or "", status=JobStatus.COMPLETED, video_url="https://a.ex/f"
        )
        await self._process.ledger.record_update(self._process.account, done)

    async def read_again(self, record: Record) -> Record:
        """Record a reading that brought nothing new."""
        await self._process.ledger.coordination.polled([record.submission_id])
        [now] = await self._process.ledger.coordination.records([record.submission_id])
        return now

    def states(self, name: str) -> list[State]:
        return [record.state for _, record in self.received[name]]

    def times(self, name: str) -> list[float]:
        return [at for at, _ in self.received[name]]


@pytest.fixture
async def inactive(cluster: Cluster) -> AsyncIterator[Process]:
    """A process whose background tasks do not run: only its ledger is used."""
    async with cluster.process(running=False) as process:
        yield process


@pytest.fixture
async def waiters(inactive: Process, time: VirtualTime) -> AsyncIterator[Waiters]:
    made = Waiters(inactive, time)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.watchers.run)
        yield made
        tasks.cancel_scope.cancel()


# What waiters share


async def test_waiters_for_one_job_share_the_newest_of_equal_records(
    waiters: Waiters, inactive: Process
) -> None:
    """A thousand copies would need 5 MB (measured)."""
    old = await inactive.accept("job1")
    async with anyio.create_task_group() as tasks:
        for number in range(CHEAP_WAITERS + 1):  # from then on a reading alone is no update
            tasks.start_soon(waiters.wait, str(number), old, 10)
        await anyio.sleep(1)
        new = await waiters.read_again(old)

        assert waiters.watchers.shared(new) is new
        assert waiters.watchers.shared(new.model_copy()) is new
        assert waiters.watchers.shared(old) is new


@pytest.mark.parametrize("change", [{"vendor_status": "upscaling"}, {"kept": True}])
async def test_a_record_with_something_new_is_not_replaced(
    waiters: Waiters, inactive: Process, change: dict[str, Any]
) -> None:
    """Whether or not waiters are informed of it; and neither is that of another job (ours)."""
    old, unwatched = await inactive.accept("job1"), await inactive.accept("job2")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.wait, "first", old, 10)
        await anyio.sleep(1)
        new = old.model_copy(update=change)

        assert waiters.watchers.shared(new) is new
        assert waiters.watchers.shared(unwatched) is unwatched


# Which updates a waiter gets


@pytest.mark.parametrize("pause", [0.3, 1])
@pytest.mark.parametrize(
    ("other_job", "seconds"),
    [("none", 0), ("job2", 20), ("job1", 2.2), ("job1", 30)],
    ids=["no other waiter", "another job", "leaves before the end", "gets the end"],
)
async def test_a_waiter_that_starts_with_an_outdated_record_gets_the_end(
    waiters: Waiters, inactive: Process, other_job: str, seconds: float, pause: float
) -> None:
    """The job may end after the waiter has read the record (ours)."""
    old = {name: await inactive.accept(name) for name in ("job1", "job2")}
    async with anyio.create_task_group() as tasks:
        if other_job in old:
            tasks.start_soon(waiters.wait, "other", old[other_job], seconds)
        await anyio.sleep(2)
        await waiters.end(old["job1"])
        await anyio.sleep(pause)
        tasks.start_soon(waiters.wait, "late", old["job1"], 10)

    assert waiters.states("late")[0] is State.COMPLETED
    assert waiters.times("late")[0] <= 2 + pause + 1


async def test_a_new_waiter_takes_no_update_from_earlier_waiters(
    waiters: Waiters, inactive: Process
) -> None:
    """It may have read the record before the watchers have (ours)."""
    old = await inactive.accept("job1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.wait, "first", old, 12)
        await anyio.sleep(1)
        new = await waiters.read_again(old)
        tasks.start_soon(waiters.wait, "second", new, 11)

    assert waiters.received["first"][0][1].last_polled_at == new.last_polled_at
    assert waiters.times("first")[0] <= 2


async def test_a_change_during_an_update_is_the_next_update(
    waiters: Waiters, inactive: Process
) -> None:
    """The waiter may be busy with a progress notification on a slow connection (ours)."""
    record = await inactive.accept("job1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.wait, "busy", record, 60, 3)
        await anyio.sleep(1)
        await waiters.read_again(record)  # it is busy with that until second 4
        await anyio.sleep(1)
        await waiters.end(record)
        await anyio.sleep(3)

        assert waiters.states("busy") == [State.ACCEPTED, State.COMPLETED]
        assert waiters.times("busy")[1] == pytest.approx(4, abs=0.2)
        tasks.cancel_scope.cancel()


async def test_a_waiter_that_is_busy_when_its_time_is_up_still_gets_the_end(
    waiters: Waiters, inactive: Process
) -> None:
    """Otherwise it would report a running job, although the video exists (ours)."""
    record = await inactive.accept("job1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.wait, "busy", record, 5, 10)
        await anyio.sleep(1)
        await waiters.read_again(record)  # it is busy with that until second 11
        await anyio.sleep(1)
        await waiters.end(record)

    assert waiters.states("busy")[-1] is State.COMPLETED


async def test_every_change_of_a_record_is_one_update(waiters: Waiters, inactive: Process) -> None:
    """There are no others, except after 7.5 s to 15 s without a change (docs/waiting.md)."""
    record = await inactive.accept("job1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.wait, "one", record, 40)
        for _ in range(3):
            await anyio.sleep(2)
            await waiters.read_again(record)

    assert waiters.times("one") == pytest.approx(
        [2, 4, 6, *(6 + times * 0.75 * HEARTBEAT_SECONDS for times in (1, 2, 3)), 40], abs=0.1
    )


# How waiters affect each other


@pytest.mark.parametrize("leaves", ["by its time", "by being cancelled", "by an error"])
async def test_a_waiter_that_leaves_takes_no_update_from_the_others(
    waiters: Waiters, inactive: Process, leaves: str
) -> None:
    """Neither from waiters for the same job nor for another one (docs/waiting.md)."""
    record, other, third = [await inactive.accept(name) for name in ("job1", "job2", "job3")]

    async def leave(record: Record) -> None:
        with anyio.move_on_after(2 if leaves == "by being cancelled" else 60):
            async with aclosing(
                waiters.watchers.watch([record], anyio.current_time() + 2)
            ) as changes:
                async for _ in changes:
                    if leaves == "by an error":
                        return

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leave, record)
        tasks.start_soon(leave, third)
        tasks.start_soon(waiters.wait, "same", record, 10)
        tasks.start_soon(waiters.wait, "other", other, 10)
        await anyio.sleep(1)
        await waiters.read_again(record)
        await waiters.read_again(third)
        await anyio.sleep(3)
        await waiters.end(record)
        await waiters.end(other)

    for name in ("same", "other"):
        assert State.COMPLETED in waiters.states(name)
        assert waiters.times(name)[-2] <= 5


async def test_one_waiter_more_than_2000_is_refused_until_another_leaves(
    waiters: Waiters, inactive: Process
) -> None:
    """Each waiter is an open call (docs/waiting.md)."""
    record = await inactive.accept("job1")
    async with anyio.create_task_group() as tasks:
        for number in range(MAX_WAITERS):
            tasks.start_soon(waiters.wait, f"{number}", record, 10 if number else 3)
        await anyio.sleep(1)
        with pytest.raises(Busy) as caught:
            await waiters.wait("one too many", record)
        await anyio.sleep(3)
        await waiters.wait("after one has left", record, 1)

    assert MAX_WAITERS == 2_000
    assert caught.value.retry_after == 30
    assert waiters.received["one too many"] == []
    assert all(waiters.received[f"{number}"] for number in range(MAX_WAITERS))
    assert waiters.received["after one has left"]


async def test_a_job_is_announced_at_once_and_as_long_as_it_has_a_waiter(
    waiters: Waiters, inactive: Process, time: VirtualTime
) -> None:
    """The poller may be another process, which reads this in the ledger (ours)."""
    record = await inactive.accept("job1")
    ahead: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.wait, "one", record, 100)
        for second in range(140):
            await anyio.sleep(1)
            [now] = await inactive.ledger.coordination.records([record.submission_id])
            assert now.watched_until is not None
            ahead.append((now.watched_until - time.wall()).total_seconds())
            assert ahead[-1] > WATCH_TTL_SECONDS / 2 - 1 or second >= 99

    assert max(ahead) <= WATCH_TTL_SECONDS
    assert ahead[130] <= 0


# The ledger


async def ledger_calls(
    coordination: Any, monkeypatch: pytest.MonkeyPatch, fail: Callable[[], Exception | None]
) -> list[str]:
    """The calls of the ledger from now on. Each raises what `fail` returns, if that is not None."""
    calls: list[str] = []
    for name in ("records", "expect", "changed_since"):
        real = getattr(coordination, name)

        async def call(*given: object, real: Any = real, name: str = name) -> Any:
            calls.append(name)
            if failure := fail():
                raise failure
            return await real(*given)

        monkeypatch.setattr(coordination, name, call)
    return calls


async def test_watchers_without_waiters_do_not_read_the_ledger(
    waiters: Waiters, inactive: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With any number of waiters they read twice a second, for all together (ours)."""
    record = await inactive.accept("job1")
    calls = await ledger_calls(inactive.ledger.coordination, monkeypatch, lambda: None)
    await anyio.sleep(100)
    idle = len(calls)
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(waiters.wait, f"{number}", record, 60)
    await anyio.sleep(1)
    busy = len(calls)
    await anyio.sleep(100)

    assert idle == 0
    assert busy <= 2 * 60 + 30
    assert len(calls) == busy


async def test_waiters_get_an_error_until_the_ledger_can_be_read_again(
    waiters: Waiters, inactive: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They then read their jobs themselves; the watchers try again every 5 s (ours)."""
    record = await inactive.accept("job1")
    away = [LedgerUnavailable("It cannot be read.")]
    calls = await ledger_calls(
        inactive.ledger.coordination, monkeypatch, lambda: next(iter(away), None)
    )

    async def wait_twenty_times() -> None:
        for _ in range(20):
            with pytest.raises(LedgerUnavailable):
                await waiters.wait("one", record)
            await anyio.sleep(5)

    with anyio.fail_after(110):  # virtual time
        await wait_twenty_times()
    meanwhile = len(calls)
    away.clear()
    with suppress(LedgerUnavailable):  # the first waiter makes the watchers read again
        await waiters.wait("one", record, 10)
    await anyio.sleep(6)
    began = anyio.current_time()
    await waiters.wait("one", record, 10)

    assert meanwhile <= 30
    assert anyio.current_time() == began + 10


async def test_a_defect_in_the_ledger_does_not_end_the_server(
    cluster: Cluster, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Payments run in the same tasks (ours)."""
    received: list[Update] = []
    async with cluster.process() as process:
        await process.accept("job1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process.wait, "job1", 60, received)
            await anyio.sleep(5)
            defects = [RuntimeError("a record that cannot be read")]
            await ledger_calls(
                process.ledger.coordination,
                monkeypatch,
                lambda: (defects and defects.pop()) or None,
            )
            await anyio.sleep(5)
            vendor.jobs["job1"] = completed_body("job1")

    assert received[-1].what == "completed"


# With the poller


@pytest.mark.parametrize("number", [1, 200])
async def test_any_number_of_waiters_costs_the_reads_of_one(
    one: Process, vendor: Vendor, number: int
) -> None:
    """Only the poller sends requests (docs/waiting.md)."""
    await one.accept("job1")
    received: list[list[Update]] = [[] for _ in range(number)]
    async with anyio.create_task_group() as tasks:
        for each in received:
            tasks.start_soon(one.wait, "job1", 100, each)
        await anyio.sleep(30)
        vendor.jobs["job1"] = completed_body("job1")

    assert vendor.times() == [3, 9, 14, 19, 24, 29, 34]
    assert all(each[-1] == (34.05, "completed", None) for each in received)


async def test_a_waiter_gets_the_end_although_another_record_took_over_its_job(
    one: Process, vendor: Vendor
) -> None:
    """The user calls by job id before the reconciler found this job for a lost answer (ours)."""
    lost = await one.submit("job1")
    await one.ledger.conclude(lost, State.UNKNOWN, "The answer was lost.")
    received: list[Update] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.wait, "job1", 120, received)
        await anyio.sleep(5)
        running = Job(job_id="job1", status=JobStatus.RUNNING)
        await one.ledger.accept(lost, running)  # as the reconciler does
        await anyio.sleep(5)
        vendor.jobs["job1"] = completed_body("job1")
    records = await one.ledger.recent(one.account)

    assert [record.submission_id for record in records] == [lost.submission_id]
    assert received[-1].what == "completed"
    assert received[-1].at < 30


async def test_the_end_is_reported_although_a_later_read_was_refused(
    one: Process, vendor: Vendor
) -> None:
    """The video matters more than a key that was revoked a moment later (ours)."""
    record = await one.accept("job1")
    received: list[Update] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.wait, "job1", 60, received)
        await anyio.sleep(1)
        vendor.before_answer = lambda name: anyio.sleep(3)
        vendor.answers["job1"] = [(401, job_body("job1"), {})]
        await anyio.sleep(5 - 0.001)
        done = Job(job_id="job1", status=JobStatus.COMPLETED, video_url="https://a.ex/f")
        await one.ledger.record_update(one.account, done)
    await run_pending()

    assert received[-1].what == "completed"
    [record] = await one.ledger.coordination.records([record.submission_id])
    assert record.last_error is None
