"""Lost answers: what PixelDojo's job list proves, what it does not, and no second request."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest

from wan_mcp.clock import Clock
from wan_mcp.errors import OutcomeUnknown
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.models import Job, JobStatus, Replacement
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.pixeldojo.priority import Priority
from wan_mcp.pixeldojo.wire import Listed
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.sandbox.http import faults

pytestmark = pytest.mark.anyio

RUN = "/api/v1/models/wan-2.2-replace/run"
LIST = "/api/v1/jobs"


@dataclass
class Time:
    """A clock that a test moves by hand. A task that sleeps wakes when its time has come."""

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

    async def advance_once_asleep(self, seconds: float) -> None:
        """Move the time as soon as a task sleeps."""
        await self.asleep.wait()
        self.asleep = anyio.Event()
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for due in [due for due in self.sleeping if due[0] <= self.now]:
            self.sleeping.remove(due)
            due[1].set()


@dataclass
class Server:
    """One server's jobs, on a sandbox and a new ledger."""

    jobs: Jobs
    ledger: SQLiteLedger
    account: Callable[[], Awaitable[str]]
    sandbox: Sandbox
    time: Time

    def wanted(self, seed: int | None = None) -> Replacement:
        return Replacement(
            video=self.sandbox.source_video_url, character_image=self.sandbox.image_url, seed=seed
        )

    async def of(self, name: str) -> "Server":
        """The same server as a user of its key who has a workspace of their own."""
        return replace(self, jobs=self.jobs.of(Workspace(name, await self.account())))

    async def lose_an_answer(self, seed: int | None = None, *, work: bool = True) -> str:
        """Submit and lose the answer. Returns the submission id."""
        self.sandbox.fault("POST", RUN, faults.dropped(work=work))
        with pytest.raises(OutcomeUnknown) as lost:
            await self.jobs.submit(self.wanted(seed))
        assert lost.value.job_id is not None
        return lost.value.job_id


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
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
            with anyio.fail_after(600):
                yield Server(jobs, ledger, account, sandbox, time)
            tasks.cancel_scope.cancel()
        await vendor.aclose()
        await ledger.aclose()


async def test_a_lost_job_is_found_by_its_generated_seed(server: Server) -> None:
    """If the list shows seeds, the submission id leads to the job (promises 7)."""
    submission_id = await server.lose_an_answer()

    found = await server.jobs.check(submission_id)

    assert found.status is JobStatus.RUNNING
    assert found.id == server.sandbox.charges[0].job_id
    assert len(server.sandbox.charges) == 1


async def test_a_reading_for_one_request_finds_the_jobs_of_all(server: Server) -> None:
    """The list shows the newest 50 jobs, and by its own turn a job may be older (ours)."""
    server.sandbox.terms = replace(server.sandbox.terms, list_lag_seconds=50)
    not_due = await server.lose_an_answer(seed=11)
    await server.jobs.check(not_due)
    server.sandbox.terms = replace(server.sandbox.terms, list_lag_seconds=0)
    asked_for = await server.lose_an_answer(seed=12)

    await server.jobs.check(asked_for)

    found = [await server.ledger.find(await server.account(), id) for id in (not_due, asked_for)]
    assert [each and each.job_id for each in found] == [
        each.job_id for each in server.sandbox.charges
    ]
    assert len(server.sandbox.seen("GET", LIST)) == 2


async def test_a_request_lost_after_the_list_was_read_gets_no_job_of_that_list(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seed then belongs to a job that another ledger has bought (ours)."""
    wanted, later = server.wanted(), list[str]()
    other = {"video": wanted.video, "character_image": wanted.character_image}
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.post(
            f"{server.sandbox.origin}{RUN}",
            headers={"Authorization": f"Bearer {server.sandbox.key}"},
            json={**other, "video_duration": 5, "seed": 12},
        )
    asked_for, read = await server.lose_an_answer(seed=11), PixelDojo.jobs

    async def read_slowly(vendor: PixelDojo, priority: Priority) -> list[Listed]:
        listed = await read(vendor, priority)
        later.append(await server.lose_an_answer(seed=12, work=False))
        return listed

    monkeypatch.setattr(PixelDojo, "jobs", read_slowly)
    await server.jobs.check(asked_for)

    records = [await server.ledger.find(await server.account(), id) for id in (asked_for, *later)]
    assert [each and each.job_id for each in records] == [server.sandbox.charges[1].job_id, None]


async def test_an_answer_that_comes_while_the_list_is_searched_ends_no_search(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request is settled then, and the others still get their jobs (ours)."""
    server.sandbox.terms = replace(server.sandbox.terms, list_lag_seconds=50)
    ids = [await server.lose_an_answer(seed=seed) for seed in (11, 12)]
    await server.jobs.check(ids[0])  # so that these two are not due
    server.sandbox.terms = replace(server.sandbox.terms, list_lag_seconds=0)
    ids.append(await server.lose_an_answer(seed=13))
    account, in_wallet = await server.account(), server.ledger.in_wallet
    jobs = [each.job_id for each in server.sandbox.charges]
    late = await server.ledger.find(account, ids[0])
    assert late is not None

    async def answered_meanwhile(wallet: str, limit: int) -> list[Record]:
        records = await in_wallet(wallet, limit)
        await server.ledger.accept(late, Job(job_id=jobs[0], status=JobStatus.RUNNING))
        return records

    monkeypatch.setattr(server.ledger, "in_wallet", answered_meanwhile)
    await server.jobs.check(ids[2])

    found = [await server.ledger.find(account, id) for id in ids]
    assert [each and each.job_id for each in found] == jobs
    assert len(await server.ledger.recent(account)) == len(jobs)


async def test_a_list_from_before_the_request_does_not_prove_that_it_was_not_sent(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache may show an old list for long. What is found in it late is old, too (ours)."""
    await server.jobs.submit(server.wanted(11))
    server.time.advance(60)
    found_late = await server.lose_an_answer(seed=12)
    vendor = PixelDojo(server.sandbox.api_base, server.sandbox.key)
    old = await vendor.jobs()
    await vendor.aclose()

    async def cached(vendor: PixelDojo, priority: Priority) -> list[Listed]:
        return old

    monkeypatch.setattr(PixelDojo, "jobs", cached)
    server.time.advance(1)
    paid = await server.lose_an_answer(seed=13)
    for _ in range(12):
        server.time.advance(200)
        await server.jobs.check(found_late)
        await server.jobs.check(paid)

    record = await server.ledger.find(await server.account(), paid)
    assert record is not None
    assert (record.state, len(server.sandbox.charges)) == (State.UNKNOWN, 3)


async def test_an_equal_call_after_a_lost_answer_sends_nothing(server: Server) -> None:
    """A second request could be paid twice (promises 7 and 8)."""
    submission_id = await server.lose_an_answer()

    with pytest.raises(OutcomeUnknown) as again:
        await server.jobs.submit(server.wanted())

    assert again.value.job_id == submission_id
    assert len(server.sandbox.seen("POST", RUN)) == 1


async def test_a_found_job_answers_the_equal_call_without_a_charge(server: Server) -> None:
    """The same request is the same job (promises 8)."""
    submission_id = await server.lose_an_answer()
    await server.jobs.check(submission_id)

    submitted = await server.jobs.submit(server.wanted())

    assert submitted.joined
    assert submitted.id == server.sandbox.charges[0].job_id
    assert len(server.sandbox.charges) == 1


async def test_a_list_without_seeds_leaves_the_outcome_unknown_and_the_answer_says_so(
    server: Server,
) -> None:
    """The fields of the list are not documented; without seeds it proves nothing (assumed)."""
    server.sandbox.terms = replace(server.sandbox.terms, list_echoes_input=False)
    submission_id = await server.lose_an_answer()

    found = await server.jobs.check(submission_id)

    assert found.status is JobStatus.UNKNOWN
    assert found.record is not None
    assert "does not show" in (found.record.findings or "")


@pytest.mark.parametrize(
    "fault", [faults.status(500), faults.status(404), faults.dropped(work=False)]
)
async def test_a_list_that_cannot_be_read_leaves_the_outcome_unknown(
    server: Server, fault: faults.Fault
) -> None:
    """The list appears only in PixelDojo's own SDK, and may not exist (observed elsewhere)."""
    server.sandbox.fault("GET", LIST, fault, times=None)
    submission_id = await server.lose_an_answer()

    found = await server.jobs.check(submission_id)

    assert found.status is JobStatus.UNKNOWN
    assert found.record is not None
    assert "could not be read" in (found.record.findings or "")


async def test_a_job_that_the_list_shows_late_is_found_on_the_schedule(server: Server) -> None:
    """The list is read 3 s, 15 s, 60 s, 180 s, 600 s and 1,800 s after the request (ours)."""
    server.sandbox.terms = replace(server.sandbox.terms, list_lag_seconds=50)
    submission_id = await server.lose_an_answer()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.jobs.work.reconcile)
        for seconds in (3, 12, 45):
            await server.time.advance_once_asleep(seconds)
        await server.sandbox.until(lambda: len(server.sandbox.seen("GET", LIST)) == 4)
        found = await server.jobs.check(submission_id)
        tasks.cancel_scope.cancel()

    assert found.id == server.sandbox.charges[0].job_id
    assert len(server.sandbox.seen("GET", LIST)) == 4


async def test_a_request_that_started_no_job_may_be_sent_anew_after_the_last_reading(
    server: Server,
) -> None:
    """The list shows earlier and later jobs, but none for it (promises 7)."""
    await server.jobs.submit(server.wanted(seed=1))
    server.time.advance(30)
    submission_id = await server.lose_an_answer(work=False)
    server.time.advance(30)
    await server.jobs.submit(server.wanted(seed=2))

    for seconds in (3, 12, 45, 120, 430):
        server.time.advance(seconds)
        found = await server.jobs.check(submission_id)
        assert found.status is JobStatus.UNKNOWN
    for seconds in (600, 600):
        server.time.advance(seconds)
        found = await server.jobs.check(submission_id)

    assert found.status is JobStatus.NOT_SENT
    submitted = await server.jobs.submit(server.wanted())
    assert not submitted.joined
    assert len(server.sandbox.charges) == 3


@pytest.mark.parametrize("before", [False, True])
async def test_nothing_is_concluded_without_jobs_from_before_and_after_the_request(
    server: Server, before: bool
) -> None:
    """The list may be short, or may show jobs late (promises 7)."""
    if before:
        await server.jobs.submit(server.wanted(seed=1))
        server.time.advance(30)
    submission_id = await server.lose_an_answer(work=False)
    if not before:
        server.time.advance(30)
        await server.jobs.submit(server.wanted(seed=1))

    for seconds in (3, 12, 45, 120, 430, 10_000):
        server.time.advance(seconds)
        found = await server.jobs.check(submission_id)

    assert found.status is JobStatus.UNKNOWN


async def test_a_jump_of_the_clock_concludes_nothing_at_the_first_reading(server: Server) -> None:
    """Age alone is no proof; three readings are needed as well (promises 7)."""
    await server.jobs.submit(server.wanted(seed=1))
    server.time.advance(30)
    server.sandbox.terms = replace(server.sandbox.terms, list_lag_seconds=3_000)
    submission_id = await server.lose_an_answer()
    server.time.advance(2_000)
    await server.jobs.submit(server.wanted(seed=2))

    found = await server.jobs.check(submission_id)

    assert found.status is JobStatus.UNKNOWN


async def test_the_list_is_not_read_before_its_retry_after_is_over(server: Server) -> None:
    """`Retry-After` holds for the list as for a job (ours)."""
    busy = faults.status(429, headers={"Retry-After": "60"})
    server.sandbox.fault("GET", LIST, busy, times=None)
    submission_id = await server.lose_an_answer()

    for _ in range(10):
        await server.jobs.check(submission_id)
        server.time.advance(5)

    assert len(server.sandbox.seen("GET", LIST)) == 1


async def test_a_seed_that_the_caller_chose_does_not_match_the_job_of_another_video(
    server: Server,
) -> None:
    """Only a generated seed is unique; several jobs may have seed 7 (ours)."""
    other = server.wanted(seed=7).model_copy(update={"video": server.sandbox.origin + "/other.mp4"})
    await server.jobs.submit(other)
    server.time.advance(5)
    stranger = PixelDojo(server.sandbox.api_base, server.sandbox.key)
    await stranger.submit(other)  # another program with the same key: not in this ledger
    await stranger.aclose()
    submission_id = await server.lose_an_answer(seed=7, work=False)

    for seconds in (3, 12, 45, 120, 430, 10_000):
        server.time.advance(seconds)
        found = await server.jobs.check(submission_id)

    assert found.status is JobStatus.UNKNOWN


async def test_readings_of_the_list_are_at_least_3_s_apart(server: Server) -> None:
    """An agent that asks in a loop must not use up the rate limit (ours)."""
    server.sandbox.terms = replace(server.sandbox.terms, list_echoes_input=False)
    submission_id = await server.lose_an_answer()

    for _ in range(5):
        await server.jobs.check(submission_id)

    assert len(server.sandbox.seen("GET", LIST)) == 1


async def test_a_seed_given_again_on_purpose_does_not_take_the_job_of_the_other_request(
    server: Server,
) -> None:
    """Both answers were lost, and only the second request became a job. The first one taking that
    job would prove the second one not sent, which would then be paid twice (promises 7).
    """
    first = await server.lose_an_answer(work=False)
    record = await server.ledger.find(await server.account(), first)
    assert record is not None
    taller = server.wanted(record.seed).model_copy(update={"resolution": "720"})
    server.sandbox.fault("POST", RUN, faults.dropped(work=True))
    with pytest.raises(OutcomeUnknown) as lost:
        await server.jobs.submit(taller)
    second = lost.value.job_id or ""
    server.time.advance(4)

    one, two = await server.jobs.check(first), await server.jobs.check(second)
    again = await server.jobs.submit(taller)

    [charge] = server.sandbox.charges
    assert one.status is JobStatus.UNKNOWN
    assert (two.status, two.id) == (JobStatus.RUNNING, charge.job_id)
    assert (again.joined, again.id) == (True, charge.job_id)
    assert len(server.sandbox.charges) == 1


async def test_what_two_requests_could_have_started_stays_unknown_and_is_never_proven_away(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list shows seeds and nothing else: whose job it is cannot be known (promises 7)."""
    whole_list = PixelDojo.jobs

    async def only_seeds(vendor: PixelDojo, priority: Priority) -> list[Listed]:
        listed = await whole_list(vendor, priority)
        return [each._replace(arguments={"seed": each.seed or 0}) for each in listed]

    monkeypatch.setattr(PixelDojo, "jobs", only_seeds)
    before = await server.jobs.submit(server.wanted(seed=1))
    server.time.advance(60)
    await server.jobs.check(before.id)  # it has ended, and is no longer in flight
    first = await server.lose_an_answer(work=False)
    record = await server.ledger.find(await server.account(), first)
    assert record is not None
    server.sandbox.fault("POST", RUN, faults.dropped(work=True))
    with pytest.raises(OutcomeUnknown) as lost:
        await server.jobs.submit(
            server.wanted(record.seed).model_copy(update={"resolution": "720"})
        )
    server.time.advance(60)
    await server.jobs.submit(server.wanted(seed=2))
    found = []
    for seconds in (3, 600, 600, 600, 600):
        server.time.advance(seconds)
        found = [await server.jobs.check(id) for id in (first, lost.value.job_id or "")]

    assert [view.status for view in found] == [JobStatus.UNKNOWN] * 2
    assert all(server.sandbox.charges[1].job_id in view.why for view in found)


async def test_jobs_of_all_users_of_a_key_prove_that_one_of_them_has_none(server: Server) -> None:
    """PixelDojo's list shows the jobs of the key, whosever they are (promises 7)."""
    ann, ben = [await server.of(name) for name in ("ann", "ben")]
    await ben.jobs.submit(server.wanted(seed=1))
    server.time.advance(30)
    submission_id = await ann.lose_an_answer(work=False)
    server.time.advance(30)
    await ben.jobs.submit(server.wanted(seed=2))

    for seconds in (3, 12, 45, 120, 430, 600, 600):
        server.time.advance(seconds)
        found = await ann.jobs.check(submission_id)

    assert found.status is JobStatus.NOT_SENT


async def test_what_stays_unknown_names_no_job_of_another_user(server: Server) -> None:
    """The one job in the list could be of either lost request, so neither gets it. (ours)"""
    ann, ben = [await server.of(name) for name in ("ann", "ben")]
    lost = await ben.lose_an_answer(seed=5)
    submission_id = await ann.lose_an_answer(seed=5, work=False)

    found = await ann.jobs.check(submission_id)

    assert found.status is JobStatus.UNKNOWN
    assert found.record is not None
    assert "shows 1 job that could be that of this request" in (found.record.findings or "")
    assert lost not in (found.record.findings or "")
    assert server.sandbox.charges[0].job_id not in (found.record.findings or "")
