"""From five live jobs on, one read of the job list serves them all, as long as it is right."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import anyio
import pytest

from tests.polling import processes
from tests.polling.processes import LIST, Answer, Process, Update, Vendor, completed_body, job_body
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.record import Record, State
from wan_mcp.polling.job_list import LIST_INTERVAL_SECONDS, MIN_LIVE_JOBS, PROBE_INTERVAL_SECONDS

pytestmark = pytest.mark.anyio

JOBS = [f"job{number}" for number in range(8)]


time, anyio_backend = in_virtual_time()
cluster, one = processes.cluster, processes.one


@pytest.fixture
def vendor(time: VirtualTime) -> Vendor:
    made = Vendor(time)
    made.before_answer = lambda name: anyio.sleep(0.2)
    made.shown = list(JOBS)
    return made


@asynccontextmanager
async def waited_for(
    process: Process, seconds: float, names: list[str] = JOBS
) -> AsyncIterator[dict[str, list[Update]]]:
    """Start jobs with one waiter each, and wait for the waiters at the end.

    Yields what each waiter got, by the name of its job.
    """
    received: dict[str, list[Update]] = {name: [] for name in names}
    for name in names:
        await process.accept(name)
    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(process.wait, name, seconds, received[name])
        yield received


def single_reads(vendor: Vendor) -> int:
    """How many reads were reads of one job."""
    return sum(name != LIST for _, name in vendor.reads)


@pytest.mark.parametrize(("count", "lists"), [(MIN_LIVE_JOBS - 1, False), (MIN_LIVE_JOBS, True)])
async def test_the_list_is_read_from_five_jobs_on(
    one: Process, vendor: Vendor, count: int, lists: bool
) -> None:
    """It is read every 5 s; one job a minute is read on its own, to check the list (ours)."""
    async with waited_for(one, 59, JOBS[:count]):
        pass

    assert vendor.count()[LIST] == (pytest.approx(12, abs=1) if lists else 0)
    assert single_reads(vendor) == (pytest.approx(1, abs=1) if lists else count * 11)


async def test_waiters_get_an_update_from_every_list_and_the_end(
    one: Process, vendor: Vendor
) -> None:
    """No single read is needed where the list names the video. A failure in it counts once two
    readings of the job itself confirm it, because a list may come from a cache twice (ours).
    """
    async with waited_for(one, 60) as received:
        await anyio.sleep(21)
        vendor.jobs["job1"] = completed_body("job1")
        vendor.jobs["job2"] = job_body("job2", "failed", error="No person was found")
        await anyio.sleep(20)
        reads = vendor.count()

    assert received["job1"][-1].what == "completed"
    assert received["job1"][-1].at == pytest.approx(23, abs=3)
    assert received["job2"][-1].what == "failed"
    assert received["job2"][-1].at == pytest.approx(28, abs=3)
    assert received["job3"][-1] == (60, "running", None)
    assert len(received["job3"]) >= 10
    assert sum(reads[name] for name in JOBS if name != "job2") <= 1  # the probe
    assert reads["job2"] == pytest.approx(2, abs=1)


async def test_a_failure_that_only_the_list_shows_ends_no_job(one: Process, vendor: Vendor) -> None:
    """The job's own readings decide: a list is not documented, and may be a copy."""
    vendor.listed = lambda job: {**job, "status": "failed", "error": "odd"}
    async with waited_for(one, 40) as received:
        pass

    assert {received[name][-1].what for name in JOBS} == {"running"}
    assert len(await one.ledger.recent(one.account, frozenset({State.FAILED}))) == len(JOBS)
    assert all(record.state is State.ACCEPTED for record in await one.ledger.recent(one.account))


Entry = dict[str, object]

LOST_SEED = 12


async def lose_an_answer(process: Process) -> Record:
    """Send a request whose answer is lost."""
    record = await process.submit("lost", seed=LOST_SEED)
    return await process.ledger.conclude(record, State.UNKNOWN, "no answer")


def with_seed(job: Entry) -> object:
    return {**job, "input": {"seed": LOST_SEED}} if job["jobId"] == "lost" else job


async def test_a_list_that_is_read_for_live_jobs_is_searched_for_lost_requests(
    one: Process, vendor: Vendor
) -> None:
    """It is read for the request itself only after half a minute here, and the job is gone then:
    the list shows the newest jobs alone (ours).
    """
    vendor.listed = with_seed
    async with waited_for(one, 50):
        lost = await lose_an_answer(one)
        await anyio.sleep(16)
        vendor.shown.append("lost")
        await anyio.sleep(10)
        vendor.shown.remove("lost")
        found = await one.ledger.find(one.account, lost.submission_id)

    assert found is not None
    assert (found.state, found.job_id) == (State.ACCEPTED, "lost")


async def test_a_request_lost_while_the_list_is_read_gets_no_job_of_that_list(
    one: Process, vendor: Vendor
) -> None:
    """The same seed then belongs to a job that another ledger has bought (ours)."""
    vendor.listed = with_seed
    lost: list[Record] = []

    async def lose_one(name: str) -> None:
        if name == LIST and not lost:
            vendor.shown.remove("lost")
            lost.append(await lose_an_answer(one))

    vendor.shown.append("lost")
    vendor.before_answer = lose_one
    async with waited_for(one, 30):
        pass

    found = await one.ledger.find(one.account, lost[0].submission_id)
    assert found is not None
    assert (found.state, found.job_id) == (State.UNKNOWN, None)


async def unavailable(*given: object) -> NoReturn:
    raise LedgerUnavailable("The ledger cannot be read.", transient=True)


def broken(*given: object) -> NoReturn:
    raise RuntimeError("a defect")


@pytest.mark.parametrize(
    ("place", "fails"),
    [
        ("ledger.threaded.ledger.ThreadedLedger.unknowns", unavailable),
        ("ledger.threaded.ledger.ThreadedLedger.in_wallet", unavailable),
        ("ledger.threaded.ledger.ThreadedLedger.match", unavailable),
        ("payments.matching.ListedJobs.job_of", broken),
    ],
)
async def test_waiters_get_their_updates_while_lost_requests_cannot_be_searched(
    one: Process,
    vendor: Vendor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
    fails: Callable[..., object],
) -> None:
    """The list is read as before, and only a defect is an error in the log (ours)."""
    vendor.listed = with_seed
    vendor.shown.append("lost")
    await lose_an_answer(one)
    monkeypatch.setattr(f"wan_mcp.{place}", fails)
    async with waited_for(one, 59) as received:
        await anyio.sleep(21)
        vendor.jobs["job1"] = completed_body("job1")

    assert received["job1"][-1].what == "completed"
    assert vendor.count()[LIST] >= 11  # the reconciler reads it now and then, too
    logged = {each.name for each in caplog.records}
    assert ("wan_mcp.polling.poller" in logged, bool(logged)) == (fails is broken,) * 2


def without(*fields: str) -> Callable[[Entry], object]:
    return lambda job: {name: job[name] for name in job if name not in fields}


def stuck(job: Entry) -> object:
    return job_body(str(job["jobId"]))


UNUSABLE = [
    pytest.param(without("status"), None, id="without statuses"),
    pytest.param(without("jobId"), None, id="without ids"),
    pytest.param(lambda job: job_body("another"), None, id="of other jobs"),
    pytest.param(lambda job: "job", None, id="of strings"),
    pytest.param(None, (404, {}, {}), id="missing"),
    pytest.param(None, (401, {}, {}), id="refused"),
    pytest.param(None, (200, {"total": 6}, {}), id="no list"),
    pytest.param(None, (200, 7, {}), id="a number"),
    pytest.param(None, (200, [], {}), id="empty"),
]


@pytest.mark.parametrize(("listed", "answer"), UNUSABLE)
async def test_without_a_usable_list_jobs_are_read_one_by_one(
    one: Process,
    vendor: Vendor,
    listed: Callable[[Entry], object] | None,
    answer: Answer | None,
) -> None:
    """The list is not documented (ours)."""
    vendor.listed = listed or vendor.listed
    vendor.answers[LIST] = [answer] if answer else []
    async with waited_for(one, 30, JOBS[:5]) as received:
        await anyio.sleep(16)
        vendor.jobs["job1"] = completed_body("job1")

    assert vendor.count()[LIST] == 1
    assert received["job1"][-1].what == "completed"
    assert received["job1"][-1].at == pytest.approx(19, abs=3)
    assert min(len(updates) for updates in received.values()) >= 5


async def test_a_list_that_was_unusable_is_tried_again_after_five_minutes(
    one: Process, vendor: Vendor
) -> None:
    """PixelDojo may show more by then (ours)."""
    vendor.listed = without("status")
    async with waited_for(one, 5):
        pass
    vendor.listed = lambda job: job
    await anyio.sleep(290)
    before = vendor.count()[LIST]
    await anyio.sleep(50)

    assert before == 1
    assert vendor.count()[LIST] == 2


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_list_that_fails_is_tried_three_times(
    one: Process, vendor: Vendor, status: int
) -> None:
    """Waiters see the error; then the jobs are read one by one (ours)."""
    vendor.answers[LIST] = [(status, {}, {})]
    async with waited_for(one, 60) as received:
        await anyio.sleep(30)
        vendor.jobs["job1"] = completed_body("job1")

    assert vendor.count()[LIST] == 3
    assert any(each.last_error for each in received["job3"])
    assert received["job1"][-1].what == "completed"


async def test_a_list_that_fails_now_and_then_is_still_used(one: Process, vendor: Vendor) -> None:
    """Only three failures in a row count (ours)."""
    good: Answer = (200, [job_body(name) for name in JOBS], {})
    bad: Answer = (503, {}, {})
    vendor.answers[LIST] = [bad, bad, good, bad, bad, good]
    async with waited_for(one, 60):
        pass

    assert vendor.count()[LIST] >= 10
    assert single_reads(vendor) <= 2


async def test_jobs_that_the_list_does_not_show_are_read_one_by_one(
    one: Process, vendor: Vendor
) -> None:
    """The list may show only the newest jobs (assumed)."""
    vendor.shown = JOBS[3:]
    async with waited_for(one, 62) as received:
        await anyio.sleep(30)
        vendor.jobs["job0"] = completed_body("job0")
        vendor.jobs["job3"] = completed_body("job3")
    reads = vendor.count()

    assert min(reads[name] for name in ("job1", "job2")) >= 10
    assert max(reads[name] for name in ("job4", "job5")) <= 2
    assert received["job0"][-1].what == "completed"
    assert received["job0"][-1].at == pytest.approx(33, abs=4)
    assert received["job3"][-1].what == "completed"
    assert received["job3"][-1].at == pytest.approx(33, abs=4)


async def test_an_end_without_a_video_link_costs_one_single_read(
    one: Process, vendor: Vendor
) -> None:
    """The list shows that the job ended; a read of the job itself shows the result (ours)."""
    vendor.listed = without("output")
    async with waited_for(one, 60) as received:
        await anyio.sleep(21)
        before = vendor.count()["job1"]
        vendor.jobs["job1"] = completed_body("job1")

    assert vendor.count()["job1"] == before + 1
    assert received["job1"][-1].what == "completed"
    assert received["job1"][-1].at == pytest.approx(23, abs=4)


@pytest.mark.parametrize("lag", [8, 30])
async def test_a_list_that_lags_delays_the_end_by_its_lag(
    one: Process, vendor: Vendor, lag: float
) -> None:
    """The end comes later, and nothing is lost (ours)."""
    vendor.listed = lambda job: job if one.time.passed() > 21 + lag else stuck(job)
    async with waited_for(one, 100) as received:
        await anyio.sleep(21)
        vendor.jobs["job5"] = completed_body("job5")

    assert received["job5"][-1].what == "completed"
    assert received["job5"][-1].at == pytest.approx(21 + lag + 3, abs=4)


async def test_a_list_that_does_not_change_is_detected(one: Process, vendor: Vendor) -> None:
    """One job a minute is read on its own; then all are read one by one (ours)."""
    vendor.listed = stuck
    async with waited_for(one, 160) as received:
        await anyio.sleep(70)
        for name in JOBS:
            vendor.jobs[name] = completed_body(name)
        vendor.reads.clear()

    assert {updates[-1].what for updates in received.values()} == {"completed"}
    assert (
        max(updates[-1].at for updates in received.values())
        <= 70 + PROBE_INTERVAL_SECONDS + 4 * LIST_INTERVAL_SECONDS
    )
    assert vendor.count()[LIST] <= PROBE_INTERVAL_SECONDS / LIST_INTERVAL_SECONDS + 4


async def test_probes_take_turns(one: Process, vendor: Vendor) -> None:
    """So the end of any job is found in time (ours)."""
    for name in JOBS:
        await one.accept(name)
    await anyio.sleep((len(JOBS) + 1) * PROBE_INTERVAL_SECONDS)
    probed = [name for _, name in vendor.reads if name != LIST]

    assert set(probed) == set(JOBS)
    assert len(probed) == pytest.approx(len(JOBS) + 1, abs=1)


async def test_a_list_that_was_sent_before_an_end_does_not_count_as_wrong(
    one: Process, vendor: Vendor
) -> None:
    """The list was on its way when somebody read the job itself (ours)."""
    ending = ["job1", "job2"]

    async def answer(name: str) -> None:
        if name == LIST and one.time.passed() > 20 and ending:
            ended = ending.pop()
            vendor.jobs[ended] = completed_body(ended)
            await one.jobs.check(ended)
        await anyio.sleep(0.2)

    vendor.before_answer = answer
    async with waited_for(one, 60) as received:
        pass

    assert ending == []
    assert [received[name][-1].what for name in ("job1", "job2")] == ["completed"] * 2
    assert vendor.count()[LIST] >= 10


async def test_without_room_under_the_rate_limit_the_list_is_read_later(
    one: Process, vendor: Vendor
) -> None:
    """A limit of 10 leaves 6 for the list, and no waiter gets an error (ours)."""
    vendor.headers = {"X-RateLimit-Limit": "10"}
    async with waited_for(one, 150) as received:
        await anyio.sleep(20)
        for _ in range(10):  # an agent in a loop uses up the limit
            await one.jobs.check("job5")
            await anyio.sleep(3.1)
        vendor.jobs["job1"] = completed_body("job1")
    times = [at for at, _ in vendor.reads]

    assert max(sum(at <= each < at + 60 for each in times) for at in times) <= 10
    assert received["job1"][-1].what == "completed"
    assert received["job1"][-1].at == pytest.approx(75, abs=20)
    assert {(each.what, each.last_error) for each in received["job2"]} == {("running", None)}


async def test_after_a_defect_in_the_list_the_jobs_are_read_one_by_one(
    one: Process, vendor: Vendor, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise they would not be read at all (ours)."""

    async def defect(name: str) -> None:
        await anyio.sleep(0.2)
        if name == LIST:
            raise RuntimeError("a defect")

    vendor.before_answer = defect
    async with waited_for(one, 60) as received:
        await anyio.sleep(20)
        vendor.jobs["job1"] = completed_body("job1")

    assert received["job1"][-1].what == "completed"
    assert vendor.count()[LIST] <= 5
    assert "reading the job list broke" in caplog.text


async def test_a_new_job_is_served_by_the_list_and_the_last_four_are_not(
    one: Process, vendor: Vendor
) -> None:
    """The number of live jobs decides how they are read (ours)."""
    async with waited_for(one, 90, JOBS[:6]) as received:
        await anyio.sleep(15)
        await one.accept("job6")
        await anyio.sleep(15)
        joined = vendor.count()["job6"]
        for name in ("job1", "job2", "job6"):
            vendor.jobs[name] = completed_body(name)
        await anyio.sleep(15)
        vendor.reads.clear()

    assert joined <= 1
    assert received["job2"][-1].what == "completed"
    assert vendor.count()[LIST] == 0
    assert vendor.count()["job3"] >= 8


async def test_unwatched_jobs_are_listed_once_a_minute(one: Process, vendor: Vendor) -> None:
    """Nobody waits, but the videos have to be saved before their links expire (ours)."""
    records = [await one.accept(name) for name in JOBS]
    await anyio.sleep(200)
    vendor.jobs = {name: completed_body(name) for name in JOBS}
    await anyio.sleep(61)
    found = await one.ledger.coordination.records([record.submission_id for record in records])

    assert vendor.count()[LIST] == 5
    assert single_reads(vendor) <= 5
    assert {record.state for record in found} == {State.COMPLETED}
