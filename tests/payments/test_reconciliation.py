"""Lost answers: what the job list can tell, what it cannot, and that nothing is ever sent again."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import anyio
import pytest

from wan_mcp.clock import Clock
from wan_mcp.errors import OutcomeUnknown
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.models import JobStatus, Replacement
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.sandbox.http import faults

pytestmark = pytest.mark.anyio

RUN = "/api/v1/models/wan-2.2-replace/run"
LIST = "/api/v1/jobs"


@dataclass
class Time:
    """A clock that a test moves by hand; what sleeps on it wakes when its time has come."""

    now: float = 1_000.0
    sleeping: list[tuple[float, anyio.Event]] = field(default_factory=list)
    asleep: anyio.Event = field(default_factory=anyio.Event)

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> datetime:
        return datetime(2026, 11, 23, tzinfo=UTC) + timedelta(seconds=self.now)

    async def sleep(self, seconds: float) -> None:
        due = (self.now + seconds, anyio.Event())
        self.sleeping.append(due)
        self.asleep.set()
        await due[1].wait()

    async def pass_once_asleep(self, seconds: float) -> None:
        """Let time pass as soon as somebody waits for it."""
        await self.asleep.wait()
        self.asleep = anyio.Event()
        self.pass_(seconds)

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        for due in [due for due in self.sleeping if due[0] <= self.now]:
            self.sleeping.remove(due)
            due[1].set()


@dataclass
class House:
    """Jobs on a sandbox and a fresh ledger."""

    jobs: Jobs
    ledger: SQLiteLedger
    account: Callable[[], Awaitable[str]]
    sandbox: Sandbox
    time: Time

    def wanted(self, seed: int | None = None) -> Replacement:
        return Replacement(
            video=self.sandbox.source_video_url, character_image=self.sandbox.image_url, seed=seed
        )

    async def lose_an_answer(self, seed: int | None = None, *, work: bool = True) -> str:
        """Submit with the answer dropped; the handle to ask for it."""
        self.sandbox.fault("POST", RUN, faults.dropped(work=work))
        with pytest.raises(OutcomeUnknown) as lost:
            await self.jobs.submit(self.wanted(seed))
        assert lost.value.job_id is not None
        return lost.value.job_id


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    time = Time()
    clock = Clock(time.monotonic, time.wall, time.sleep, lambda: 0.5)
    async with Sandbox(Terms(), clock=time.monotonic) as sandbox:
        vendor = PixelDojo(sandbox.api_base, sandbox.key)
        ledger = SQLiteLedger(tmp_path / "ledger", now=time.wall)
        account = partial(ledger.account, sandbox.api_base, sandbox.key)
        async with anyio.create_task_group() as tasks:
            jobs = Jobs(
                vendor,
                ledger,
                account,
                SharedRateLimiter(ledger.coordination, account, clock),
                tasks,
                clock,
            )
            with anyio.fail_after(10):
                yield House(jobs, ledger, account, sandbox, time)
            tasks.cancel_scope.cancel()
        await vendor.aclose()
        await ledger.aclose()


async def test_a_lost_job_is_found_by_the_seed_that_was_planted(house: House) -> None:
    """The list shows each job's seed, so the handle leads to the job and its film (ours)."""
    submission_id = await house.lose_an_answer()

    found = await house.jobs.check(submission_id)

    assert found.status is JobStatus.RUNNING
    assert found.id == house.sandbox.charges[0].job_id
    assert len(house.sandbox.charges) == 1


async def test_an_equal_call_after_a_lost_answer_sends_nothing(house: House) -> None:
    """Unknown blocks an equal request: a second POST could pay twice (ours)."""
    submission_id = await house.lose_an_answer()

    with pytest.raises(OutcomeUnknown) as again:
        await house.jobs.submit(house.wanted())

    assert again.value.job_id == submission_id
    assert len(house.sandbox.seen("POST", RUN)) == 1


async def test_a_found_job_answers_the_equal_call_without_a_charge(house: House) -> None:
    """Reconciling unblocks the request; it never sends one (ours)."""
    submission_id = await house.lose_an_answer()
    await house.jobs.check(submission_id)

    submitted = await house.jobs.submit(house.wanted())

    assert submitted.joined
    assert submitted.id == house.sandbox.charges[0].job_id
    assert len(house.sandbox.charges) == 1


async def test_a_list_that_does_not_show_seeds_leaves_it_unknown_and_says_so(house: House) -> None:
    """What the list holds is not documented; without seeds it can tell nothing (assumed)."""
    house.sandbox.terms = replace(house.sandbox.terms, list_echoes_input=False)
    submission_id = await house.lose_an_answer()

    found = await house.jobs.check(submission_id)

    assert found.status is JobStatus.UNKNOWN
    assert found.record is not None
    assert "does not show" in (found.record.findings or "")


@pytest.mark.parametrize(
    "fault", [faults.status(500), faults.status(404), faults.dropped(work=False)]
)
async def test_a_list_that_cannot_be_read_leaves_it_unknown(
    house: House, fault: faults.Fault
) -> None:
    """The job list is only known from the vendor's SDK; it may not be there (vendor)."""
    house.sandbox.fault("GET", LIST, fault, times=None)
    submission_id = await house.lose_an_answer()

    found = await house.jobs.check(submission_id)

    assert found.status is JobStatus.UNKNOWN
    assert found.record is not None
    assert "could not be read" in (found.record.findings or "")


async def test_a_job_that_the_list_shows_late_is_found_by_the_schedule(house: House) -> None:
    """The list may lag: it is read at +3, +15, +60, +180 and +600 s (ours)."""
    house.sandbox.terms = replace(house.sandbox.terms, list_lag_seconds=50)
    submission_id = await house.lose_an_answer()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.jobs.reconcile)
        for seconds in (3, 12, 45):
            await house.time.pass_once_asleep(seconds)
        await house.sandbox.until(lambda: len(house.sandbox.seen("GET", LIST)) == 4)
        found = await house.jobs.check(submission_id)
        tasks.cancel_scope.cancel()

    assert found.id == house.sandbox.charges[0].job_id
    assert len(house.sandbox.seen("GET", LIST)) == 4


async def test_a_request_that_never_became_a_job_is_free_again_after_the_last_look(
    house: House,
) -> None:
    """The list shows jobs of ours from before and after, with seeds, and none for this (ours)."""
    await house.jobs.submit(house.wanted(seed=1))
    house.time.pass_(30)
    submission_id = await house.lose_an_answer(work=False)
    house.time.pass_(30)
    await house.jobs.submit(house.wanted(seed=2))

    for seconds in (3, 12, 45, 120, 430):
        house.time.pass_(seconds)
        found = await house.jobs.check(submission_id)
        assert found.status is JobStatus.UNKNOWN
    for seconds in (600, 600):
        house.time.pass_(seconds)
        found = await house.jobs.check(submission_id)

    assert found.status is JobStatus.NOT_SENT
    submitted = await house.jobs.submit(house.wanted())
    assert not submitted.joined
    assert len(house.sandbox.charges) == 3


@pytest.mark.parametrize("before", [False, True])
async def test_without_jobs_from_before_and_after_nothing_is_concluded(
    house: House, before: bool
) -> None:
    """A list may end too early or lag: it proves nothing about what it may not show yet (ours)."""
    if before:
        await house.jobs.submit(house.wanted(seed=1))
        house.time.pass_(30)
    submission_id = await house.lose_an_answer(work=False)
    if not before:
        house.time.pass_(30)
        await house.jobs.submit(house.wanted(seed=1))

    for seconds in (3, 12, 45, 120, 430, 10_000):
        house.time.pass_(seconds)
        found = await house.jobs.check(submission_id)

    assert found.status is JobStatus.UNKNOWN


async def test_a_clock_that_jumps_concludes_nothing_at_the_first_look(house: House) -> None:
    """Age alone is no proof: it takes three looks as well (ours)."""
    await house.jobs.submit(house.wanted(seed=1))
    house.time.pass_(30)
    house.sandbox.terms = replace(house.sandbox.terms, list_lag_seconds=3_000)
    submission_id = await house.lose_an_answer()
    house.time.pass_(2_000)
    await house.jobs.submit(house.wanted(seed=2))

    found = await house.jobs.check(submission_id)

    assert found.status is JobStatus.UNKNOWN


async def test_a_busy_list_is_left_alone_as_long_as_it_asks(house: House) -> None:
    """Retry-After holds for the list too (ours)."""
    busy = faults.status(429, headers={"Retry-After": "60"})
    house.sandbox.fault("GET", LIST, busy, times=None)
    submission_id = await house.lose_an_answer()

    for _ in range(10):
        await house.jobs.check(submission_id)
        house.time.pass_(5)

    assert len(house.sandbox.seen("GET", LIST)) == 1


async def test_a_seed_that_the_caller_chose_does_not_claim_another_clips_job(house: House) -> None:
    """Only a planted seed is ours alone; seed 7 may belong to several jobs (ours)."""
    other = house.wanted(seed=7).model_copy(update={"video": house.sandbox.origin + "/other.mp4"})
    await house.jobs.submit(other)
    house.time.pass_(5)
    stranger = PixelDojo(house.sandbox.api_base, house.sandbox.key)
    await stranger.submit(other)  # by another program with the same key: not in our ledger
    await stranger.aclose()
    submission_id = await house.lose_an_answer(seed=7, work=False)

    for seconds in (3, 12, 45, 120, 430, 10_000):
        house.time.pass_(seconds)
        found = await house.jobs.check(submission_id)

    assert found.status is JobStatus.UNKNOWN


async def test_looks_at_the_list_keep_three_seconds_apart(house: House) -> None:
    """An agent that asks in a loop must not spend the key's request budget (ours)."""
    house.sandbox.terms = replace(house.sandbox.terms, list_echoes_input=False)
    submission_id = await house.lose_an_answer()

    for _ in range(5):
        await house.jobs.check(submission_id)

    assert len(house.sandbox.seen("GET", LIST)) == 1
