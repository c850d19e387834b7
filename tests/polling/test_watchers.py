"""Waiters of one process: each hears all that is new of its job, and none disturbs another."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any

import anyio
import pytest

from tests.polling import processes
from tests.polling.processes import House, Process, Update, Vendor, film, page, turns
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.errors import Busy
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import WATCH_TTL_SECONDS
from wan_mcp.ledger.record import Record, State
from wan_mcp.models import Job, JobStatus
from wan_mcp.polling.watchers import HEARTBEAT_SECONDS, MAX_WAITERS, Watchers

pytestmark = pytest.mark.anyio


time, anyio_backend = in_virtual_time()
vendor, house, one = processes.vendor, processes.house, processes.one


class Waiters:
    """A board over a process's ledger, which nobody polls: a test writes what is to be heard.

    Attributes:
        board: the room under test.
        heard: what each waiter received, by its name, with the time.
    """

    def __init__(self, process: Process, time: VirtualTime) -> None:
        self.board = Watchers(process.ledger.coordination, time.clock())
        self.heard: dict[str, list[tuple[float, Record]]] = {}
        self._process = process
        self._time = time

    async def wait(self, name: str, record: Record, seconds: float = 60, busy: float = 0) -> None:
        """Watch a row, and be busy so long with each thing heard."""
        heard = self.heard.setdefault(name, [])
        async with aclosing(self.board.watch(record, self._time.now + seconds)) as records:
            async for each in records:
                heard.append((self._time.passed(), each))
                if busy:
                    await anyio.sleep(busy)

    async def end(self, record: Record) -> None:
        done = Job(
            job_id=record.job_id or "", status=JobStatus.COMPLETED, video_url="https://a.ex/f"
        )
        await self._process.ledger.record_update(self._process.account, done)

    async def look(self, record: Record) -> Record:
        await self._process.ledger.coordination.polled([record.submission_id])
        [now] = await self._process.ledger.coordination.records([record.submission_id])
        return now

    def states(self, name: str) -> list[State]:
        return [record.state for _, record in self.heard[name]]

    def times(self, name: str) -> list[float]:
        return [at for at, _ in self.heard[name]]


@pytest.fixture
async def quiet(house: House) -> AsyncIterator[Process]:
    """A process whose rooms stand still: only its ledger is used."""
    async with house.process(running=False) as process:
        yield process


@pytest.fixture
async def waiters(quiet: Process, time: VirtualTime) -> AsyncIterator[Waiters]:
    made = Waiters(quiet, time)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.board.run)
        yield made
        tasks.cancel_scope.cancel()


# What a waiter hears


@pytest.mark.parametrize("pause", [0.3, 1])
@pytest.mark.parametrize(
    ("beside", "seconds"),
    [("nobody", 0), ("job2", 20), ("job1", 2.2), ("job1", 30)],
    ids=["nobody", "one at another job", "one that hears and leaves", "one that knows"],
)
async def test_a_waiter_that_came_with_an_old_row_hears_of_the_end(
    waiters: Waiters, quiet: Process, beside: str, seconds: float, pause: float
) -> None:
    """The job may end between its read and its wait (ours)."""
    old = {name: await quiet.accept(name) for name in ("job1", "job2")}
    async with anyio.create_task_group() as tasks:
        if beside in old:
            tasks.start_soon(waiters.wait, "other", old[beside], seconds)
        await anyio.sleep(2)
        await waiters.end(old["job1"])
        await anyio.sleep(pause)
        tasks.start_soon(waiters.wait, "late", old["job1"], 10)

    assert waiters.states("late")[0] is State.COMPLETED
    assert waiters.times("late")[0] <= 2 + pause + 1


async def test_a_newcomer_takes_no_news_from_those_who_wait(
    waiters: Waiters, quiet: Process
) -> None:
    """It may have read the row before the board has (ours)."""
    old = await quiet.accept("job1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.wait, "first", old, 12)
        await anyio.sleep(1)
        new = await waiters.look(old)
        tasks.start_soon(waiters.wait, "newcomer", new, 11)

    assert waiters.heard["first"][0][1].last_polled_at == new.last_polled_at
    assert waiters.times("first")[0] <= 2


async def test_news_that_come_while_a_waiter_is_busy_are_heard_next(
    waiters: Waiters, quiet: Process
) -> None:
    """Between two of them it sends progress over a slow line (ours)."""
    record = await quiet.accept("job1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.wait, "busy", record, 60, 3)
        await anyio.sleep(1)
        await waiters.look(record)  # it is busy with that until second 4
        await anyio.sleep(1)
        await waiters.end(record)
        await anyio.sleep(3)

        assert waiters.states("busy") == [State.ACCEPTED, State.COMPLETED]
        assert waiters.times("busy")[1] == pytest.approx(4, abs=0.2)
        tasks.cancel_scope.cancel()


async def test_the_end_is_heard_by_a_waiter_that_was_busy_when_its_time_ran_out(
    waiters: Waiters, quiet: Process
) -> None:
    """Else it tells of a running job, and the film is one call away (ours)."""
    record = await quiet.accept("job1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.wait, "busy", record, 5, 10)
        await anyio.sleep(1)
        await waiters.look(record)  # it is busy with that until second 11
        await anyio.sleep(1)
        await waiters.end(record)

    assert waiters.states("busy")[-1] is State.COMPLETED


async def test_every_change_of_a_row_is_heard_once(waiters: Waiters, quiet: Process) -> None:
    """And nothing else, but the time after 7.5 to 15 s of silence (docs/waiting.md)."""
    record = await quiet.accept("job1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.wait, "one", record, 40)
        for _ in range(3):
            await anyio.sleep(2)
            await waiters.look(record)

    assert waiters.times("one") == pytest.approx(
        [2, 4, 6, *(6 + times * 0.75 * HEARTBEAT_SECONDS for times in (1, 2, 3)), 40], abs=0.1
    )


# What a waiter does to others


@pytest.mark.parametrize("leaves", ["by its time", "by being cancelled", "by an error"])
async def test_who_leaves_takes_nothing_from_the_others(
    waiters: Waiters, quiet: Process, leaves: str
) -> None:
    """Not from one at the same job, nor from one at another (docs/waiting.md)."""
    record, other, third = [await quiet.accept(name) for name in ("job1", "job2", "job3")]

    async def leave(record: Record) -> None:
        with anyio.move_on_after(2 if leaves == "by being cancelled" else 60):
            async with aclosing(waiters.board.watch(record, anyio.current_time() + 2)) as records:
                async for _ in records:
                    if leaves == "by an error":
                        return

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leave, record)
        tasks.start_soon(leave, third)
        tasks.start_soon(waiters.wait, "same", record, 10)
        tasks.start_soon(waiters.wait, "other", other, 10)
        await anyio.sleep(1)
        await waiters.look(record)
        await waiters.look(third)
        await anyio.sleep(3)
        await waiters.end(record)
        await waiters.end(other)

    for name in ("same", "other"):
        assert State.COMPLETED in waiters.states(name)
        assert waiters.times(name)[-2] <= 5


async def test_the_last_place_is_taken_once(waiters: Waiters, quiet: Process) -> None:
    """Each waiter holds a call open: 2,000 are enough (ours)."""
    record = await quiet.accept("job1")
    async with anyio.create_task_group() as tasks:
        for number in range(MAX_WAITERS):
            tasks.start_soon(waiters.wait, f"{number}", record, 10 if number else 3)
        await anyio.sleep(1)
        with pytest.raises(Busy) as caught:
            await waiters.wait("one too many", record)
        await anyio.sleep(3)
        await waiters.wait("in the place of one that left", record, 1)

    assert MAX_WAITERS == 2_000
    assert caught.value.retry_after == 30
    assert waiters.heard["one too many"] == []
    assert all(waiters.heard[f"{number}"] for number in range(MAX_WAITERS))
    assert waiters.heard["in the place of one that left"]


async def test_a_job_is_announced_at_once_and_as_long_as_somebody_waits(
    waiters: Waiters, quiet: Process, time: VirtualTime
) -> None:
    """The poller may be another process: it reads so from the ledger (ours)."""
    record = await quiet.accept("job1")
    ahead: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.wait, "one", record, 100)
        for second in range(140):
            await anyio.sleep(1)
            [now] = await quiet.ledger.coordination.records([record.submission_id])
            assert now.watched_until is not None
            ahead.append((now.watched_until - time.wall()).total_seconds())
            assert ahead[-1] > WATCH_TTL_SECONDS / 2 - 1 or second >= 99

    assert max(ahead) <= WATCH_TTL_SECONDS
    assert ahead[130] <= 0


# The ledger


async def questions(
    coordination: Any, monkeypatch: pytest.MonkeyPatch, fail: Callable[[], Exception | None]
) -> list[str]:
    """Every question of the board from now on; `fail` says whether it is answered."""
    asked: list[str] = []
    for name in ("records", "expect", "changed_since"):
        real = getattr(coordination, name)

        async def question(*given: object, real: Any = real, name: str = name) -> Any:
            asked.append(name)
            if failure := fail():
                raise failure
            return await real(*given)

        monkeypatch.setattr(coordination, name, question)
    return asked


async def test_watchers_without_waiters_asks_nothing(
    waiters: Waiters, quiet: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one with any number asks for all at once, twice a second (ours)."""
    record = await quiet.accept("job1")
    asked = await questions(quiet.ledger.coordination, monkeypatch, lambda: None)
    await anyio.sleep(100)
    idle = len(asked)
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(waiters.wait, f"{number}", record, 60)
    await anyio.sleep(1)
    busy = len(asked)
    await anyio.sleep(100)

    assert idle == 0
    assert busy <= 2 * 60 + 30
    assert len(asked) == busy


async def test_waiters_learn_that_the_ledger_is_gone_and_may_come_back(
    waiters: Waiters, quiet: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They then look for themselves; the board tries again every 5 s (ours)."""
    record = await quiet.accept("job1")
    away = [LedgerUnavailable("It is away.")]
    asked = await questions(quiet.ledger.coordination, monkeypatch, lambda: next(iter(away), None))

    async def wait_twenty_times() -> None:
        for _ in range(20):
            with pytest.raises(LedgerUnavailable):
                await waiters.wait("one", record)
            await anyio.sleep(5)

    with anyio.fail_after(110):
        await wait_twenty_times()
    meanwhile = len(asked)
    away.clear()
    with suppress(LedgerUnavailable):  # the first to come finds that it is back
        await waiters.wait("one", record, 10)
    await anyio.sleep(6)
    began = anyio.current_time()
    await waiters.wait("one", record, 10)

    assert meanwhile <= 30
    assert anyio.current_time() == began + 10


async def test_a_defect_in_the_ledger_does_not_end_the_server(
    house: House, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Payments run in the same tasks (ours)."""
    heard: list[Update] = []
    async with house.process() as process:
        await process.accept("job1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process.wait, "job1", 60, heard)
            await anyio.sleep(5)
            defects = [RuntimeError("a row that cannot be read")]
            await questions(
                process.ledger.coordination,
                monkeypatch,
                lambda: (defects and defects.pop()) or None,
            )
            await anyio.sleep(5)
            vendor.jobs["job1"] = film("job1")

    assert heard[-1].what == "completed"


# Through the whole room


@pytest.mark.parametrize("number", [1, 200])
async def test_any_number_of_waiters_cost_the_reads_of_one(
    one: Process, vendor: Vendor, number: int
) -> None:
    """PixelDojo sees one reader (docs/waiting.md)."""
    await one.accept("job1")
    heard: list[list[Update]] = [[] for _ in range(number)]
    async with anyio.create_task_group() as tasks:
        for each in heard:
            tasks.start_soon(one.wait, "job1", 100, each)
        await anyio.sleep(30)
        vendor.jobs["job1"] = film("job1")

    assert vendor.times() == [3, 9, 14, 19, 24, 29, 34]
    assert all(each[-1] == (34.05, "completed", None) for each in heard)


async def test_a_waiter_whose_row_another_one_replaced_hears_of_the_end(
    one: Process, vendor: Vendor
) -> None:
    """A lost answer found by its seed takes over the job that the user has named (ours)."""
    lost = await one.submit("job1")
    await one.ledger.conclude(lost, State.UNKNOWN, "The answer was lost.")
    heard: list[Update] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.wait, "job1", 120, heard)
        await anyio.sleep(5)
        running = Job(job_id="job1", status=JobStatus.RUNNING)
        await one.ledger.accept(lost, running)  # as the reconciler does
        await anyio.sleep(5)
        vendor.jobs["job1"] = film("job1")
    records = await one.ledger.recent(one.account)

    assert [record.submission_id for record in records] == [lost.submission_id]
    assert heard[-1].what == "completed"
    assert heard[-1].at < 30


async def test_the_end_is_reported_although_a_later_look_was_refused(
    one: Process, vendor: Vendor
) -> None:
    """The film counts, not that the key was withdrawn a moment later (ours)."""
    record = await one.accept("job1")
    heard: list[Update] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.wait, "job1", 60, heard)
        await anyio.sleep(1)
        vendor.before_answer = lambda name: anyio.sleep(3)
        vendor.answers["job1"] = [(401, page("job1"), {})]
        await anyio.sleep(5 - 0.001)
        done = Job(job_id="job1", status=JobStatus.COMPLETED, video_url="https://a.ex/f")
        await one.ledger.record_update(one.account, done)
    await turns()

    assert heard[-1].what == "completed"
    [kept] = await one.ledger.coordination.records([record.submission_id])
    assert kept.last_error is None
