"""The poller: one process reads on a schedule, also if clocks, disks or processes fail."""

from collections.abc import AsyncIterator
from itertools import pairwise

import anyio
import pytest

from tests.polling import processes
from tests.polling.processes import (
    LIST,
    Answer,
    Cluster,
    Process,
    Update,
    Vendor,
    completed_body,
    job_body,
    make_unavailable,
)
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.ledger.record import Record, State
from wan_mcp.polling.intervals import poll_delay

pytestmark = pytest.mark.anyio

HOUR_SECONDS = 3600.0
LEASE_SECONDS = 20.0
FOLLOWER_SECONDS = 5.0


time, anyio_backend = in_virtual_time()
vendor, cluster, one = processes.vendor, processes.cluster, processes.one


@pytest.fixture
async def two(cluster: Cluster, one: Process) -> AsyncIterator[Process]:
    """A second process. It is idle when the first one gets a job, so the first one polls."""
    async with cluster.process() as process:
        await anyio.sleep(1)
        yield process


def gaps(times: list[float]) -> list[float]:
    return [round(later - earlier, 3) for earlier, later in pairwise(times)]


async def state(process: Process, record: Record) -> State:
    [now] = await process.ledger.coordination.records([record.submission_id])
    return now.state


# One process polls


async def test_only_one_of_two_processes_with_waiters_reads_the_job(
    one: Process, two: Process, vendor: Vendor
) -> None:
    """The waiters of both processes learn of the end (docs/waiting.md)."""
    await one.accept("job1")
    received: list[list[Update]] = [[], []]
    async with anyio.create_task_group() as tasks:
        for process, updates in zip((one, two), received, strict=True):
            tasks.start_soon(process.wait, "job1", 60, updates)
        await anyio.sleep(20)
        vendor.jobs["job1"] = completed_body("job1")
    began = vendor.times()[0]

    assert [round(at - began) for at in vendor.times()] == [0, 6, 11, 16, 21]
    assert [each[-1].what for each in received] == ["completed"] * 2
    assert max(each[-1].at for each in received) <= vendor.times()[-1] + 1


@pytest.mark.parametrize(
    ("dead", "within"),
    [(True, FOLLOWER_SECONDS + 1), (False, LEASE_SECONDS + FOLLOWER_SECONDS + 1)],
)
async def test_another_process_becomes_the_poller_when_the_first_one_stops(
    cluster: Cluster, vendor: Vendor, time: VirtualTime, dead: bool, within: float
) -> None:
    """Soon if the first one is dead; after its lease has expired if it is frozen (ours)."""
    async with cluster.process() as one, cluster.process() as two:
        await one.accept("job1")
        await anyio.sleep(2)
        received: list[Update] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(two.wait, "job1", 60, received)
            await anyio.sleep(20)
            stopped = time.passed()
            vendor.jobs["job1"] = completed_body("job1")
            one.running.cancel()
            if dead:
                await one.kill()

    assert received[-1].what == "completed"
    assert received[-1].at <= stopped + within


async def test_a_poller_without_live_jobs_gives_up_the_role(
    one: Process, two: Process, vendor: Vendor, time: VirtualTime
) -> None:
    """Its last job has ended, and the next job is submitted by another process (ours)."""
    await one.accept("job1")
    await anyio.sleep(31)
    vendor.jobs["job1"] = completed_body("job1")
    await one.wait("job1", 30)
    await anyio.sleep(1)
    began = time.passed()
    await two.accept("job2")
    await two.wait("job2", 30)

    assert vendor.times("job2")[0] <= began + 3 + 1.5


@pytest.mark.parametrize(
    "jumps",
    [
        [HOUR_SECONDS],
        [-HOUR_SECONDS],
        [HOUR_SECONDS, -HOUR_SECONDS],
        [-HOUR_SECONDS, HOUR_SECONDS] * 2,
        [3, 3, 3],
        [-3, -3],
    ],
    ids=str,
)
async def test_a_jump_of_the_clock_leaves_exactly_one_poller(
    one: Process, two: Process, vendor: Vendor, time: VirtualTime, jumps: list[float]
) -> None:
    """Each jump costs at most one more read, and none stops the polling (ours)."""
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
    assert max(found) <= 15 * 1.1 + 1  # the job may seem old enough for the longest delay


async def test_a_job_is_not_polled_fast_for_long_after_the_clock_was_set_back(
    one: Process, vendor: Vendor, time: VirtualTime
) -> None:
    """The last waiter has left, so it is polled slowly within half a minute, not an hour (ours)."""
    await one.accept("job1")
    await one.wait("job1", 20)
    time.skew -= HOUR_SECONDS
    await anyio.sleep(32)
    vendor.reads.clear()
    await anyio.sleep(100)

    assert len(vendor.reads) <= 100 / 30 + 1


# When the poller reads


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
async def test_the_delay_between_polls_grows_with_the_age_of_a_watched_job(
    one: Process, vendor: Vendor, time: VirtualTime, chance: float
) -> None:
    """3 s, 6 s, then 3 % of its age, from 5 s to 15 s, changed by up to 10 % (docs/waiting.md)."""
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


async def test_a_job_without_waiters_is_polled_slowly(one: Process, vendor: Vendor) -> None:
    """After 20 % of its age, at least 30 s: its video is saved before the link expires (ours)."""
    await one.accept("job1")
    await anyio.sleep(500)

    assert gaps([0, *vendor.times()]) == pytest.approx(
        [30, 30, 30, 30, 30, 30, 36, 43.2, 51.8, 62.2, 74.7], abs=1
    )


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_job_is_polled_fast_exactly_as_long_as_it_has_a_waiter(
    one: Process, two: Process, vendor: Vendor, time: VirtualTime, elsewhere: bool
) -> None:
    """Within about a second, also for a waiter of another process; slowly 30 s later (ours)."""
    record = await one.accept("job1")
    await anyio.sleep(130)
    arrived = time.passed()
    await (two if elsewhere else one).wait("job1", 30)
    left = time.passed()
    await anyio.sleep(100)
    fast = [at for at in vendor.times() if arrived <= at < left]
    after = [at for at in vendor.times() if at > left]

    assert fast[0] <= arrived + 1.6
    assert max(gaps(fast)) <= 6.6
    assert len([at for at in after if at > left + 31]) <= 3
    assert await state(one, record) is State.ACCEPTED


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.9])
async def test_first_reads_of_jobs_from_before_a_restart_are_spread(
    cluster: Cluster, vendor: Vendor, time: VirtualTime, chance: float
) -> None:
    """Over 10 s: servers that start together must not ask together (docs/waiting.md)."""
    async with cluster.process(running=False) as earlier:
        for number in range(3):
            await earlier.accept(f"job{number}")
    time.now += 300
    time.chance = chance
    began = time.passed()
    async with cluster.process():
        await anyio.sleep(15)

    assert [at - began for at in vendor.times()] == pytest.approx([10 * chance] * 3, abs=0.1)


async def test_a_job_with_a_waiter_is_read_without_the_spread_after_a_restart(
    cluster: Cluster, vendor: Vendor, time: VirtualTime
) -> None:
    """The host restarted the server, and the agent continues to wait (ours)."""
    async with cluster.process(running=False) as earlier:
        await earlier.accept("job1")
    time.now += 300
    time.chance = 0.9
    async with cluster.process() as later:
        await anyio.sleep(0.5)
        arrived = time.passed()
        await later.wait("job1", 20)

    assert vendor.times()[0] <= arrived + 1.6


@pytest.mark.parametrize("count", [1, 6])
async def test_every_job_is_read_at_once_after_the_computer_slept(
    one: Process, vendor: Vendor, time: VirtualTime, count: int
) -> None:
    """It may have ended long ago, and the link to its video may expire soon (docs/waiting.md)."""
    for number in range(count):
        await one.accept(f"job{number}")
    vendor.shown = [f"job{number}" for number in range(count)]
    await anyio.sleep(65)
    vendor.reads.clear()
    time.skew += HOUR_SECONDS
    woke = time.passed()
    await anyio.sleep(5)

    assert len(vendor.reads) == 1
    assert vendor.times()[0] <= woke + 1.1
    assert set(vendor.count()) == ({"job0"} if count == 1 else {LIST})


async def test_a_job_older_than_a_day_is_polled_only_while_it_has_a_waiter(
    one: Process, vendor: Vendor, time: VirtualTime
) -> None:
    """The link to its video would have expired, but a caller who asks gets an answer (ours)."""
    await one.accept("job1")
    await anyio.sleep(1)
    time.now += 24 * HOUR_SECONDS
    await anyio.sleep(60)
    vendor.reads.clear()
    await anyio.sleep(400)
    unwatched = len(vendor.reads)
    arrived = time.passed()
    await one.wait("job1", 60)

    assert unwatched == 0
    assert vendor.times()[0] <= arrived + 1.6
    assert len(vendor.reads) >= 4


# Errors and missing links

NOT_FOUND: Answer = (404, {}, {})
UNAVAILABLE: Answer = (503, {}, {})
RUNNING: Answer = (200, job_body("job1"), {})


@pytest.mark.parametrize(
    ("age", "answers", "lost"),
    [
        (0, [NOT_FOUND] * 9 + [RUNNING], False),
        (130, [NOT_FOUND, NOT_FOUND, NOT_FOUND], True),
        (130, [NOT_FOUND, NOT_FOUND, RUNNING], False),
        (130, [NOT_FOUND, UNAVAILABLE, NOT_FOUND, NOT_FOUND, RUNNING], False),
        (130, [NOT_FOUND, RUNNING, NOT_FOUND, UNAVAILABLE, NOT_FOUND, RUNNING], False),
        (130, [UNAVAILABLE, NOT_FOUND, NOT_FOUND, NOT_FOUND], True),
    ],
)
@pytest.mark.parametrize("watched", [True, False])
async def test_a_job_is_lost_after_three_404_replies_in_a_row(
    one: Process,
    vendor: Vendor,
    time: VirtualTime,
    age: float,
    answers: list[Answer],
    lost: bool,
    watched: bool,
) -> None:
    """But not in its first two minutes, when it may not be visible yet (docs/waiting.md)."""
    record = await one.accept("job1")
    time.now += age
    vendor.answers["job1"] = list(answers)
    if watched:
        await one.wait("job1", 110 if age == 0 else 200)
    else:
        await anyio.sleep(110 if age == 0 else 400)

    assert await state(one, record) is (State.LOST if lost else State.ACCEPTED)
    assert len(vendor.reads) >= min(len(answers), 3)


async def test_a_job_must_be_missing_for_a_minute_before_it_is_lost(
    one: Process, vendor: Vendor, time: VirtualTime
) -> None:
    """A short fault at PixelDojo must not lose a paid job (ours)."""
    await one.accept("job1")
    time.now += 130
    vendor.answers["job1"] = [NOT_FOUND]
    received = await one.wait("job1", 200)
    errors = [each.last_error for each in received]

    assert gaps(vendor.times()) == pytest.approx([30, 30], abs=0.2)
    assert errors.count("could_not_find_out") >= 2
    assert received[-1].what == "lost"


@pytest.mark.parametrize("watched", [True, False])
async def test_a_completed_job_without_a_link_is_read_again_only_while_it_has_a_waiter(
    one: Process, vendor: Vendor, watched: bool
) -> None:
    """The link may come shortly after the status "completed" (docs/waiting.md)."""
    await one.accept("job1")
    bare, whole = job_body("job1", "completed"), completed_body("job1")
    vendor.answers["job1"] = [(200, bare, {}), (200, bare, {}), (200, whole, {})]
    received = await one.wait("job1", 60) if watched else []
    await anyio.sleep(60)

    assert [each.what for each in received][-3:] == ["completed"] * 3 * watched
    assert len(vendor.reads) == (3 if watched else 1)


@pytest.mark.parametrize("age", [0, 900])
async def test_a_completed_job_without_a_link_is_read_three_more_times(
    one: Process, vendor: Vendor, time: VirtualTime, age: float
) -> None:
    """Only reads count, and updates without a read do not (docs/waiting.md)."""
    await one.accept("job1")
    time.now += age
    vendor.jobs["job1"] = job_body("job1", "completed")
    received = await one.wait("job1", 300)

    assert len(vendor.reads) == 4
    assert received[-1].what == "completed"
    assert received[-1].at < age + 100


@pytest.mark.parametrize(
    ("status", "code"), [(401, "unauthorized"), (403, "forbidden"), (410, "could_not_find_out")]
)
async def test_a_refused_read_ends_the_waits_and_is_not_repeated_for_a_minute(
    one: Process, vendor: Vendor, status: int, code: str
) -> None:
    """Asking again does not repair a wrong key (ours)."""
    record = await one.accept("job1")
    vendor.answers["job1"] = [(status, {}, {})]
    received: list[list[Update]] = [[], []]
    async with anyio.create_task_group() as tasks:
        for updates in received:
            tasks.start_soon(one.wait, "job1", 60, updates)
    reads = len(vendor.reads)
    await anyio.sleep(300)

    assert [each[-1].what for each in received] == [code] * 2
    assert reads == 1
    assert len(vendor.reads) <= 6
    assert await state(one, record) is State.ACCEPTED


# Without the ledger

WHOLE_LEDGER = ("read", "write")


@pytest.mark.parametrize(
    "broken",
    [
        WHOLE_LEDGER,
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
async def test_waiters_get_updates_without_the_ledger_and_reads_stay_few(
    one: Process,
    vendor: Vendor,
    time: VirtualTime,
    monkeypatch: pytest.MonkeyPatch,
    broken: tuple[str, ...],
) -> None:
    """The ledger may be full, locked or gone, and work again later (promises 11)."""
    await one.accept("job1")
    received: list[list[Update]] = [[] for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for updates in received:
            tasks.start_soon(one.wait, "job1", 200, updates)
        await anyio.sleep(20)
        repair = make_unavailable(one, monkeypatch, *broken)
        await anyio.sleep(60)
        meanwhile = len(vendor.times()) - 4
        repair()
        await anyio.sleep(20)
        vendor.jobs["job1"] = completed_body("job1")

    assert meanwhile <= 3 * 13
    assert meanwhile >= 10 or "write" not in broken
    assert [each[-1].what for each in received] == ["completed"] * 3
    assert max(each[-1].at for each in received) <= 100 + 31


async def test_one_poller_reads_for_all_waiters_again_after_a_short_fault_of_the_ledger(
    one: Process, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process locked it for seconds, and the waiters wait for minutes (ours)."""
    for number in range(3):
        await one.accept(f"job{number}")
    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(one.wait, f"job{number % 3}", 200)
        await anyio.sleep(20)
        repair = make_unavailable(one, monkeypatch, "records", "changed_since")
        await anyio.sleep(6)
        repair()
        await anyio.sleep(15)
        vendor.reads.clear()
        await anyio.sleep(60)
        counts = vendor.count().values()

    assert 10 <= min(counts) <= max(counts) <= 13


async def test_a_wait_for_a_new_job_survives_404_replies_without_the_ledger(
    one: Process, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 404 replies cannot be recorded, and need not be (ours)."""
    await one.accept("job1")
    make_unavailable(one, monkeypatch, "write")
    vendor.answers["job1"] = [NOT_FOUND, NOT_FOUND, (200, completed_body("job1"), {})]
    received = await one.wait("job1", 60)

    assert received[-1].what == "completed"


async def test_a_wait_by_submission_id_continues_without_the_ledger(
    one: Process, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait knows the job id from before (ours)."""
    record = await one.accept("job1")
    received: list[Update] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.wait, record.submission_id, 60, received)
        await anyio.sleep(10)
        make_unavailable(one, monkeypatch, *WHOLE_LEDGER)
        vendor.jobs["job1"] = completed_body("job1")

    assert received[-1].what == "completed"


async def test_an_end_that_cannot_be_recorded_is_read_again_on_the_schedule(
    one: Process, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: the job is read again, but not in a tight loop (ours)."""
    await one.accept("job1")
    vendor.jobs["job1"] = completed_body("job1")
    await anyio.sleep(1)
    make_unavailable(one, monkeypatch, "polled")
    monkeypatch.setattr(one.ledger, "record_update", one.ledger.coordination.polled)
    await anyio.sleep(100)

    assert len(vendor.reads) <= 4


async def test_a_defect_in_a_read_is_not_repeated_for_a_minute(
    one: Process, vendor: Vendor, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends neither the poller nor the server (ours)."""
    await one.accept("job1")
    await one.accept("job2")

    async def fail(name: str) -> None:
        if name == "job1":
            raise RuntimeError("a defect")

    vendor.before_answer = fail
    async with anyio.create_task_group() as tasks:
        for name in ("job1", "job2"):
            tasks.start_soon(one.wait, name, 100)

    assert vendor.count()["job1"] <= 3
    assert vendor.count()["job2"] >= 15
    assert "a read of job job1 broke" in caplog.text


async def test_without_the_ledger_too_one_odd_answer_is_not_the_end_of_a_job(
    one: Process, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process remembers the first report while nothing can be written down (ours)."""
    await one.accept("job1")
    make_unavailable(one, monkeypatch, "read", "write")
    vendor.jobs["job1"] = job_body("job1", "expired")
    answers = [await one.jobs.check("job1")]
    for seconds in (2, 3):
        await anyio.sleep(seconds)
        answers.append(await one.jobs.check("job1"))

    assert [answer.status.value for answer in answers] == ["running", "running", "failed"]
    assert [answer.end_is_unconfirmed for answer in answers] == [True, True, False]
