"""The poller: one process reads, on its schedule, whatever becomes of clocks, disks and others."""

from collections.abc import AsyncIterator
from itertools import pairwise

import anyio
import pytest

from tests.polling import processes
from tests.polling.processes import (
    LIST,
    Answer,
    House,
    Process,
    Update,
    Vendor,
    film,
    out_of_order,
    page,
)
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.ledger.record import Record, State
from wan_mcp.polling.intervals import poll_delay

pytestmark = pytest.mark.anyio

HOUR = 3600.0
LEASE = 20.0
FOLLOWER_SECONDS = 5.0


time, anyio_backend = in_virtual_time()
vendor, house, one = processes.vendor, processes.house, processes.one


@pytest.fixture
async def two(house: House, one: Process) -> AsyncIterator[Process]:
    """A second process, which sleeps when the first gets its job, so that the first leads."""
    async with house.process() as process:
        await anyio.sleep(1)
        yield process


def gaps(times: list[float]) -> list[float]:
    return [round(later - earlier, 3) for earlier, later in pairwise(times)]


async def state(process: Process, record: Record) -> State:
    [now] = await process.ledger.coordination.records([record.submission_id])
    return now.state


# One process polls


async def test_of_two_processes_with_waiters_one_reads(
    one: Process, two: Process, vendor: Vendor
) -> None:
    """And both waiters hear of the end (docs/waiting.md)."""
    await one.accept("job1")
    heard: list[list[Update]] = [[], []]
    async with anyio.create_task_group() as tasks:
        for process, updates in zip((one, two), heard, strict=True):
            tasks.start_soon(process.wait, "job1", 60, updates)
        await anyio.sleep(20)
        vendor.jobs["job1"] = film("job1")
    began = vendor.times()[0]

    assert [round(at - began) for at in vendor.times()] == [0, 6, 11, 16, 21]
    assert [each[-1].what for each in heard] == ["completed"] * 2
    assert max(each[-1].at for each in heard) <= vendor.times()[-1] + 1


@pytest.mark.parametrize(
    ("dead", "within"), [(True, FOLLOWER_SECONDS + 1), (False, LEASE + FOLLOWER_SECONDS + 1)]
)
async def test_another_process_polls_when_the_first_stops(
    house: House, vendor: Vendor, time: VirtualTime, dead: bool, within: float
) -> None:
    """Soon when it is dead, after its lease when it is frozen (ours)."""
    async with house.process() as one, house.process() as two:
        await one.accept("job1")
        await anyio.sleep(2)
        heard: list[Update] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(two.wait, "job1", 60, heard)
            await anyio.sleep(20)
            stopped = time.passed()
            vendor.jobs["job1"] = film("job1")
            one.running.cancel()
            if dead:
                await one.die()

    assert heard[-1].what == "completed"
    assert heard[-1].at <= stopped + within


async def test_a_process_with_nothing_to_poll_lets_another_poll(
    one: Process, two: Process, vendor: Vendor, time: VirtualTime
) -> None:
    """Its last job ended; the next one is bought and waited for elsewhere (ours)."""
    await one.accept("job1")
    await anyio.sleep(31)
    vendor.jobs["job1"] = film("job1")
    await one.wait("job1", 30)
    await anyio.sleep(1)
    began = time.passed()
    await two.accept("job2")
    await two.wait("job2", 30)

    assert vendor.times("job2")[0] <= began + 3 + 1.5


@pytest.mark.parametrize(
    "jumps", [[HOUR], [-HOUR], [HOUR, -HOUR], [-HOUR, HOUR] * 2, [3, 3, 3], [-3, -3]], ids=str
)
async def test_a_clock_that_jumps_leaves_one_poller(
    one: Process, two: Process, vendor: Vendor, time: VirtualTime, jumps: list[float]
) -> None:
    """Each jump costs one read at the most, and none stops the polling (ours)."""
    await one.accept("job1")
    async with anyio.create_task_group() as tasks:
        for process in (one, two):
            tasks.start_soon(process.wait, "job1", 40 + 10 * len(jumps))
        await anyio.sleep(20)
        for jump in jumps:
            time.skew += jump
            await anyio.sleep(10)
    found = gaps(vendor.times())

    assert len([gap for gap in found if gap < 2.7]) <= len(jumps)
    assert max(found) <= 15 * 1.1 + 1  # the job may look old enough for the slowest pace


async def test_a_clock_set_back_leaves_no_waiters_behind(
    one: Process, vendor: Vendor, time: VirtualTime
) -> None:
    """A job is polled slowly again within half a minute, not within an hour (ours)."""
    await one.accept("job1")
    await one.wait("job1", 20)
    time.skew -= HOUR
    await anyio.sleep(32)
    vendor.reads.clear()
    await anyio.sleep(100)

    assert len(vendor.reads) <= 100 / 30 + 1


# When it reads


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
async def test_a_watched_job_is_read_by_its_age(
    one: Process, vendor: Vendor, time: VirtualTime, chance: float
) -> None:
    """3 s, 6 s, then 3 % of it, from 5 to 15 s, a tenth more or less (docs/waiting.md)."""
    time.chance = chance
    await one.accept("job1")
    await one.wait("job1", 60)
    time.now += 300
    await one.wait("job1", 60)
    young = [0.0, *(at for at in vendor.times() if at < 60)]
    older = [at for at in vendor.times() if at > 361]

    assert len(young) > 9
    assert len(older) > 3
    for times in (young, older):
        plan = [poll_delay(at, chance) for at in times[:-1]]
        assert gaps(times) == pytest.approx(plan, abs=0.2)


async def test_a_job_that_nobody_waits_for_is_read_slowly(one: Process, vendor: Vendor) -> None:
    """A fifth of its age, at least 30 s: so that its film is kept while it can be (ours)."""
    await one.accept("job1")
    await anyio.sleep(500)

    assert gaps([0, *vendor.times()]) == pytest.approx(
        [30, 30, 30, 30, 30, 30, 36, 43.2, 51.8, 62.2, 74.7], abs=1
    )


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_waiter_makes_polling_fast_as_long_as_it_stays(
    one: Process, two: Process, vendor: Vendor, time: VirtualTime, elsewhere: bool
) -> None:
    """Within about a second, also for a waiter of another process; slow 30 s after (ours)."""
    record = await one.accept("job1")
    await anyio.sleep(130)
    came = time.passed()
    await (two if elsewhere else one).wait("job1", 30)
    left = time.passed()
    await anyio.sleep(100)
    fast = [at for at in vendor.times() if came <= at < left]
    after = [at for at in vendor.times() if at > left]

    assert fast[0] <= came + 1.6
    assert max(gaps(fast)) <= 6.6
    assert len([at for at in after if at > left + 31]) <= 3
    assert await state(one, record) is State.ACCEPTED


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.9])
async def test_jobs_of_an_earlier_process_are_spread(
    house: House, vendor: Vendor, time: VirtualTime, chance: float
) -> None:
    """Over ten seconds: many servers started together must not ask together (docs/waiting.md)."""
    async with house.process(running=False) as earlier:
        for number in range(3):
            await earlier.accept(f"job{number}")
    time.now += 300
    time.chance = chance
    began = time.passed()
    async with house.process():
        await anyio.sleep(15)

    assert [at - began for at in vendor.times()] == pytest.approx([10 * chance] * 3, abs=0.1)


async def test_a_waiter_does_not_wait_for_the_spread(
    house: House, vendor: Vendor, time: VirtualTime
) -> None:
    """The host restarted its servers, and the agent waits on (ours)."""
    async with house.process(running=False) as earlier:
        await earlier.accept("job1")
    time.now += 300
    time.chance = 0.9
    async with house.process() as later:
        await anyio.sleep(0.5)
        came = time.passed()
        await later.wait("job1", 20)

    assert vendor.times()[0] <= came + 1.6


@pytest.mark.parametrize("count", [1, 6])
async def test_after_sleep_every_job_is_read_at_once(
    one: Process, vendor: Vendor, time: VirtualTime, count: int
) -> None:
    """It ended long ago, and its film may be dying (docs/waiting.md)."""
    for number in range(count):
        await one.accept(f"job{number}")
    vendor.shown = [f"job{number}" for number in range(count)]
    await anyio.sleep(65)
    vendor.reads.clear()
    time.skew += HOUR
    woke = time.passed()
    await anyio.sleep(5)

    assert len(vendor.reads) == 1
    assert vendor.times()[0] <= woke + 1.1
    assert set(vendor.count()) == ({"job0"} if count == 1 else {LIST})


async def test_a_job_older_than_a_day_is_read_while_somebody_waits(
    one: Process, vendor: Vendor, time: VirtualTime
) -> None:
    """Its film would be dead by then, but who asks is answered (ours)."""
    await one.accept("job1")
    await anyio.sleep(1)
    time.now += 24 * HOUR
    await anyio.sleep(60)
    vendor.reads.clear()
    await anyio.sleep(400)
    unwatched = len(vendor.reads)
    came = time.passed()
    await one.wait("job1", 60)

    assert unwatched == 0
    assert vendor.times()[0] <= came + 1.6
    assert len(vendor.reads) >= 4


# What it meets

GONE: Answer = (404, {}, {})
DOWN: Answer = (503, {}, {})
RUNNING: Answer = (200, page("job1"), {})


@pytest.mark.parametrize(
    ("age", "answers", "lost"),
    [
        (0, [GONE] * 9 + [RUNNING], False),
        (130, [GONE, GONE, GONE], True),
        (130, [GONE, GONE, RUNNING], False),
        (130, [GONE, DOWN, GONE, GONE, RUNNING], False),
        (130, [GONE, RUNNING, GONE, DOWN, GONE, RUNNING], False),
        (130, [DOWN, GONE, GONE, GONE], True),
    ],
)
@pytest.mark.parametrize("watched", [True, False])
async def test_a_job_is_lost_after_three_404_in_a_row(
    one: Process,
    vendor: Vendor,
    time: VirtualTime,
    age: float,
    answers: list[Answer],
    lost: bool,
    watched: bool,
) -> None:
    """Not in its first two minutes, in which it may not be visible yet (docs/waiting.md)."""
    record = await one.accept("job1")
    time.now += age
    vendor.answers["job1"] = list(answers)
    if watched:
        await one.wait("job1", 110 if age == 0 else 200)
    else:
        await anyio.sleep(110 if age == 0 else 400)

    assert await state(one, record) is (State.LOST if lost else State.ACCEPTED)
    assert len(vendor.reads) >= min(len(answers), 3)


async def test_a_job_that_is_lost_was_missed_for_a_minute(
    one: Process, vendor: Vendor, time: VirtualTime
) -> None:
    """A hiccup of the vendor's must not make a paid job a lost one (ours)."""
    await one.accept("job1")
    time.now += 130
    vendor.answers["job1"] = [GONE]
    heard = await one.wait("job1", 200)
    missed = [each.last_error for each in heard]

    assert gaps(vendor.times()) == pytest.approx([30, 30], abs=0.2)
    assert missed.count("could_not_find_out") >= 2
    assert heard[-1].what == "lost"


@pytest.mark.parametrize("watched", [True, False])
async def test_a_completed_job_without_its_film_is_read_while_somebody_waits(
    one: Process, vendor: Vendor, watched: bool
) -> None:
    """The link may come a moment after the word (docs/waiting.md)."""
    await one.accept("job1")
    bare, whole = page("job1", "completed"), film("job1")
    vendor.answers["job1"] = [(200, bare, {}), (200, bare, {}), (200, whole, {})]
    heard = await one.wait("job1", 60) if watched else []
    await anyio.sleep(60)

    assert [each.what for each in heard][-3:] == ["completed"] * 3 * watched
    assert len(vendor.reads) == (3 if watched else 1)


@pytest.mark.parametrize("age", [0, 900])
async def test_a_film_without_a_link_is_looked_for_three_times_more(
    one: Process, vendor: Vendor, time: VirtualTime, age: float
) -> None:
    """Each time by a read: the mere passing of time is none (docs/waiting.md)."""
    await one.accept("job1")
    time.now += age
    vendor.jobs["job1"] = page("job1", "completed")
    heard = await one.wait("job1", 300)

    assert len(vendor.reads) == 4
    assert heard[-1].what == "completed"
    assert heard[-1].at < age + 100


@pytest.mark.parametrize(
    ("status", "code"), [(401, "unauthorized"), (403, "forbidden"), (410, "could_not_find_out")]
)
async def test_a_refused_job_is_left_alone_for_a_minute_and_its_waiters_are_informed(
    one: Process, vendor: Vendor, status: int, code: str
) -> None:
    """A wrong key does not mend by asking (ours)."""
    record = await one.accept("job1")
    vendor.answers["job1"] = [(status, {}, {})]
    heard: list[list[Update]] = [[], []]
    async with anyio.create_task_group() as tasks:
        for updates in heard:
            tasks.start_soon(one.wait, "job1", 60, updates)
    reads = len(vendor.reads)
    await anyio.sleep(300)

    assert [each[-1].what for each in heard] == [code] * 2
    assert reads == 1
    assert len(vendor.reads) <= 6
    assert await state(one, record) is State.ACCEPTED


# Without the ledger

ALL = ("read", "write")


@pytest.mark.parametrize(
    "broken",
    [
        ALL,
        ("write",),
        ("live",),
        ("lead",),
        ("polled",),
        ("try_acquire",),
        ("expect",),
        ("records",),
    ],
    ids=str,
)
async def test_without_the_ledger_waiters_are_served_and_nothing_runs_hot(
    one: Process,
    vendor: Vendor,
    time: VirtualTime,
    monkeypatch: pytest.MonkeyPatch,
    broken: tuple[str, ...],
) -> None:
    """It may be full, locked or gone, and come back (docs/promises.md)."""
    await one.accept("job1")
    heard: list[list[Update]] = [[] for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for updates in heard:
            tasks.start_soon(one.wait, "job1", 200, updates)
        await anyio.sleep(20)
        mend = out_of_order(one, monkeypatch, *broken)
        await anyio.sleep(60)
        meanwhile = len(vendor.times()) - 4
        mend()
        await anyio.sleep(20)
        vendor.jobs["job1"] = film("job1")

    assert meanwhile <= 3 * 13
    assert meanwhile >= 10 or "write" not in broken
    assert [each[-1].what for each in heard] == ["completed"] * 3
    assert max(each[-1].at for each in heard) <= 100 + 31


async def test_after_a_hiccup_of_the_ledger_one_reads_for_all_again(
    one: Process, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process held it for a moment; the waiters wait on for minutes (ours)."""
    for number in range(3):
        await one.accept(f"job{number}")
    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(one.wait, f"job{number % 3}", 200)
        await anyio.sleep(20)
        mend = out_of_order(one, monkeypatch, "records", "changed_since")
        await anyio.sleep(6)
        mend()
        await anyio.sleep(15)
        vendor.reads.clear()
        await anyio.sleep(60)
        counts = vendor.count().values()

    assert 10 <= min(counts) <= max(counts) <= 13


async def test_a_missing_new_job_is_waited_for_without_the_ledger(
    one: Process, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be noted that it was missing, and that matters to nobody (ours)."""
    await one.accept("job1")
    out_of_order(one, monkeypatch, "write")
    vendor.answers["job1"] = [GONE, GONE, (200, film("job1"), {})]
    heard = await one.wait("job1", 60)

    assert heard[-1].what == "completed"


async def test_a_waiter_by_handle_is_served_without_the_ledger(
    one: Process, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's id was known before (ours)."""
    record = await one.accept("job1")
    heard: list[Update] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.wait, record.submission_id, 60, heard)
        await anyio.sleep(10)
        out_of_order(one, monkeypatch, *ALL)
        vendor.jobs["job1"] = film("job1")

    assert heard[-1].what == "completed"


async def test_an_end_that_cannot_be_kept_is_read_by_the_schedule(
    one: Process, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: news come again and again, not in a loop (ours)."""
    await one.accept("job1")
    vendor.jobs["job1"] = film("job1")
    await anyio.sleep(1)
    out_of_order(one, monkeypatch, "polled")
    monkeypatch.setattr(one.ledger, "record_update", one.ledger.coordination.polled)
    await anyio.sleep(100)

    assert len(vendor.reads) <= 4


async def test_a_defect_in_a_read_is_not_repeated_for_a_minute(
    one: Process, vendor: Vendor, caplog: pytest.LogCaptureFixture
) -> None:
    """And it ends neither the poller nor the server (ours)."""
    await one.accept("job1")
    await one.accept("job2")

    async def break_(name: str) -> None:
        if name == "job1":
            raise RuntimeError("a defect")

    vendor.before_answer = break_
    async with anyio.create_task_group() as tasks:
        for name in ("job1", "job2"):
            tasks.start_soon(one.wait, name, 100)

    assert vendor.count()["job1"] <= 3
    assert vendor.count()["job2"] >= 15
    assert "a read of job job1 broke" in caplog.text
