"""Random histories of calls, lost answers, crashes and time, checked against what may be charged.

Two servers share one ledger, one PixelDojo and one clock, which only the test moves. `Model` says
what may be charged; it reads the jobs of the sandbox and nothing of the ledger.
"""

import asyncio
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.ledger.stores import PostgresStore
from wan_mcp.clock import Clock
from wan_mcp.errors import NotFound, WanError
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.contract import Claim
from wan_mcp.ledger.fingerprint import without_query
from wan_mcp.ledger.queueing.contract import QuotasOf
from wan_mcp.ledger.record import UNSETTLED, Record, SentInputs, State
from wan_mcp.ledger.rules import REPEAT_WINDOW
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.ledger.sqlite.liveness import ProcessLock
from wan_mcp.ledger.threaded.ledger import ThreadedLedger
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.models import Job, Replacement
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.sandbox.http import faults

RUN = "/api/v1/models/*/run"
PRICE = 10.0
LIMITS = SpendingLimits(credits_per_job=None, credits_per_day=60, in_flight=4, submits_per_minute=3)
JOB_SECONDS = 60.0
DAY_SECONDS, MINUTE_SECONDS = 86_400.0, 60.0
DRIFT_SECONDS = 20.0
"""Limits count from the claim; the charge may come that much later (a 429, a second connection)."""
MEDIA = "https://media.example"
REQUESTS = (
    Replacement(video=f"{MEDIA}/a.mp4", character_image=f"{MEDIA}/x.png"),
    Replacement(video=f"{MEDIA}/media/no-person.mp4", character_image=f"{MEDIA}/x.png"),
    Replacement(video=f"{MEDIA}/b.mp4", character_image=f"{MEDIA}/x.png", seed=7),
    Replacement(video=f"{MEDIA}/b.mp4", character_image=f"{MEDIA}/y.png", seed=7),
)
LOSSES = {
    "none": [faults.honest()],
    "answer dropped": [faults.dropped(work=True)],
    "request dropped": [faults.dropped(work=False)],
    "reset": [faults.reset(work=True)],
    "answer cut before the id": [faults.cut(5)],
    "answer cut after the id": [faults.cut('"status"')],
    "500, charged": [faults.status(500, work=True)],
    "500, not charged": [faults.status(500)],
    "402": [faults.status(402)],
    "422": [faults.status(422)],
    "429 twice": [faults.status(429, headers={"Retry-After": "9"})] * 2,
    "429, then lost": [
        faults.status(429, headers={"Retry-After": "9"}),
        faults.dropped(work=True),
    ],
}
MOMENTS = ("claimed", "connected", "committed", "answered", "accepted")
"""Where a server is killed: before and after each of its changes of the ledger."""

EMPTY = "DELETE FROM jobs; DELETE FROM keys; DELETE FROM requests; DELETE FROM owners"
HANG_SECONDS = 600.0
"""A step that takes longer hangs; a slow machine does not."""

T = TypeVar("T")


@dataclass
class Model:
    """What PixelDojo may have charged after any history."""

    sandbox: Sandbox

    def charges(self, wanted: Replacement | None = None) -> list[float]:
        """When each charge was made, in seconds; those for one request, or all."""
        jobs = self.sandbox.vendor.jobs.values()
        return [job.created for job in jobs if wanted is None or is_for(job.body, wanted)]

    def may_follow(self, wanted: Replacement, first: float, second: float) -> bool:
        """Whether a request may be charged again, because its job failed or ended long ago."""
        since_end = second - (first + JOB_SECONDS)
        if wanted.video.endswith("no-person.mp4"):
            return since_end >= 0
        return since_end >= REPEAT_WINDOW.total_seconds()

    def most_in(self, seconds: float) -> int:
        """The largest number of charges within any period of that length."""
        return most_in(self.charges(), seconds)


def most_in(times: Sequence[float], seconds: float) -> int:
    """The largest number of these moments within any period of that length."""
    return max((sum(t <= u < t + seconds for u in times) for t in times), default=0)


def is_for(body: Any, wanted: Replacement) -> bool:
    """Whether a job with these arguments can come from that request."""
    same = (body["video"], without_query(body["character_image"])) == (
        wanted.video,
        wanted.character_image,
    )
    return same and wanted.seed in (None, body["seed"])


@dataclass
class Time:
    """The clock that all share; a sleep moves it."""

    seconds: float = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def wall(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


class MortalLedger(ThreadedLedger):
    """A ledger whose process stops at a given moment and never goes on."""

    _stops_at: str | None = None

    async def claim(self, *args: Any, **named: Any) -> Claim:
        claim = await super().claim(*args, **named)
        await self._reach("claimed")
        return claim

    async def commit_sending(self, record: Record, sent: SentInputs | None = None) -> None:
        await self._reach("connected")
        await super().commit_sending(record, sent)
        await self._reach("committed")

    async def accept(self, record: Record, job: Job) -> Record:
        await self._reach("answered")
        accepted = await super().accept(record, job)
        await self._reach("accepted")
        return accepted

    async def _reach(self, moment: str) -> None:
        if moment == self._stops_at:
            self._stopped.set()
            await anyio.sleep_forever()

    def stop_at(self, moment: str) -> anyio.Event:
        """Stop there; what is returned is set when the moment has come."""
        self._stops_at, self._stopped = moment, anyio.Event()
        return self._stopped


class MortalSQLite(MortalLedger, SQLiteLedger):
    """The same in a file."""


class Server:
    """One server process, until it is stopped or killed."""

    def __init__(
        self,
        sandbox: Sandbox,
        ledger: MortalLedger,
        time: Time,
        quotas: QuotasOf | None = None,
    ) -> None:
        self._quotas = quotas
        clock = Clock(time.monotonic, time.wall, time.sleep, lambda: 0.5)
        self.ledger = ledger
        self._vendor = PixelDojo(sandbox.api_base, sandbox.key)
        self.account = partial(self.ledger.account, sandbox.api_base, sandbox.key)
        self._clock = clock
        self._up = anyio.Event()
        self._task = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        async with anyio.create_task_group() as tasks:
            self._jobs = Jobs(
                self._vendor,
                self.ledger,
                self.account,
                SharedRateLimiter(self.ledger.coordination, self.account, self._clock),
                tasks,
                self._clock,
                quotas=self._quotas,
            )
            self._up.set()
            await anyio.sleep_forever()

    async def jobs(self) -> Jobs:
        await self._up.wait()
        return self._jobs

    async def stop(self) -> None:
        """End as after a signal."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._vendor.aclose()
        await self.ledger.aclose()


class Money(RuleBasedStateMachine):
    """What may happen in a history, and what must be true after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.time = Time()
        self.terms = Terms(credits=10_000, price=PRICE, pending_seconds=0)
        self.terms = replace(self.terms, processing_seconds=JOB_SECONDS)
        self.sandbox = Sandbox(self.terms, clock=self.time.monotonic, epoch=0)
        self.model = Model(self.sandbox)
        self.ids: set[str] = set()
        self.run(self.sandbox.__aenter__())
        self.servers = [self.run(self._start()) for _ in range(3)]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(_in_time(work))

    async def _start(self) -> Server:
        return Server(self.sandbox, self.ledger(), self.time)

    def ledger(self) -> MortalLedger:
        """The ledger of another process."""
        return MortalSQLite(Path(self.folder.name) / "ledger", limits=LIMITS, now=self.time.wall)

    async def kill(self, server: Server) -> None:
        """End as by kill -9: the kernel releases the lock, and the lock file stays."""
        with patch.object(ProcessLock, "release", ProcessLock.drop_inherited):
            await server.stop()

    def teardown(self) -> None:
        for server in self.servers:
            self.run(server.stop())
        self.run(self.sandbox.__aexit__())
        self.runner.close()
        self.folder.cleanup()

    # What may happen.

    @rule(
        request=st.sampled_from(REQUESTS),
        at=st.integers(0, 1),
        loss=st.sampled_from(sorted(LOSSES)),
    )
    def submit(self, request: Replacement, at: int, loss: str) -> None:
        self.sandbox.fault("POST", RUN, *LOSSES[loss])
        self.run(self._submit(self.servers[at], request))
        self.sandbox.clear_faults()

    @rule(request=st.sampled_from(REQUESTS), at=st.integers(0, 1))
    def submit_while_the_vendor_is_down(self, request: Replacement, at: int) -> None:
        self.run(self.sandbox.__aexit__())
        self.run(self._submit(self.servers[at], request))
        self.run(self.sandbox.__aenter__())

    @rule(request=st.sampled_from(REQUESTS), at=st.integers(0, 1), moment=st.sampled_from(MOMENTS))
    def kill_during_a_submit(self, request: Replacement, at: int, moment: str) -> None:
        self.run(self._kill_at(self.servers[at], request, moment))
        self.servers[at] = self.run(self._start())

    @rule(at=st.integers(0, 1))
    def restart(self, at: int) -> None:
        self.run(self.servers[at].stop())
        self.servers[at] = self.run(self._start())

    @rule(at=st.integers(0, 1), order=st.sampled_from([1, -1]))
    def check_every_job(self, at: int, order: int) -> None:
        self.run(self._check(self.servers[at], order))

    @rule(seconds=st.sampled_from([1, 10, 61, 200, 700, 1000, 90_000]))
    def time_passes(self, seconds: float) -> None:
        self.time.seconds += seconds

    @rule(lag=st.sampled_from([0, 100]), echo=st.booleans(), exists=st.booleans())
    def the_list_changes(self, lag: float, echo: bool, exists: bool) -> None:
        self.sandbox.terms = replace(
            self.terms, list_lag_seconds=lag, list_echoes_input=echo, list_exists=exists
        )

    # What must be true after each of them.

    @invariant()
    def nothing_is_charged_twice(self) -> None:
        for wanted in REQUESTS:
            for first, second in pairwise(self.model.charges(wanted)):
                assert self.model.may_follow(wanted, first, second), (wanted, first, second)

    @invariant()
    def spending_limits_hold(self) -> None:
        assert self.model.most_in(DAY_SECONDS - DRIFT_SECONDS) * PRICE <= (
            LIMITS.credits_per_day or 0
        )
        assert self.model.most_in(MINUTE_SECONDS - DRIFT_SECONDS) <= (
            LIMITS.submits_per_minute or 0
        )
        assert self.model.most_in(JOB_SECONDS - DRIFT_SECONDS) <= (LIMITS.in_flight or 0)

    @invariant()
    def every_possible_charge_is_listed(self) -> None:
        records = self.records()
        listed = {record.job_id for record in records}
        for wanted in REQUESTS:
            jobs = self.sandbox.vendor.jobs.values()
            missing = [job for job in jobs if is_for(job.body, wanted) and job.id not in listed]
            unknown = [
                record
                for record in records
                if record.state is State.UNKNOWN and record_is_for(record, wanted)
            ]
            assert len(missing) <= len(unknown), (wanted, missing)

    @invariant()
    def every_job_has_a_record_of_its_own_request(self) -> None:
        jobs = self.sandbox.vendor.jobs
        for record in self.records():
            if record.job_id is not None:
                body = jobs[record.job_id].body
                assert record.arguments["character_image"] == without_query(body["character_image"])
                assert record.seed == body["seed"]

    @invariant()
    def every_id_that_a_call_returned_is_found(self) -> None:
        records = self.records()
        assert self.ids <= {record.submission_id for record in records} | {
            record.job_id for record in records
        }

    @invariant()
    def no_submit_is_left_unsettled(self) -> None:
        assert not [record for record in self.records() if record.state in UNSETTLED]

    def records(self) -> list[Record]:
        """All records, read by a server that takes no part in the history."""
        return self.run(self._records())

    async def _records(self) -> list[Record]:
        jobs = await self.servers[2].jobs()
        await self.servers[2].ledger.recover()
        return [each.record for each in await jobs.recent(None, 1000) if each.record]

    async def _submit(self, server: Server, request: Replacement) -> None:
        jobs = await server.jobs()
        try:
            self.ids.add((await jobs.submit(request)).id)
        except WanError as failure:
            self.ids |= {failure.job_id} if failure.job_id else set()

    async def _kill_at(self, server: Server, request: Replacement, moment: str) -> None:
        stopped = server.ledger.stop_at(moment)
        call = asyncio.create_task(self._submit(server, request))
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait([call, waiting], return_when=asyncio.FIRST_COMPLETED)
        call.cancel()
        waiting.cancel()
        await asyncio.wait([call, waiting])
        await self.kill(server)

    async def _check(self, server: Server, order: int) -> None:
        jobs = await server.jobs()
        for record in (await self._records())[::order]:
            with suppress(WanError):
                await jobs.check(record.public_id)


def record_is_for(record: Record, wanted: Replacement) -> bool:
    return is_for({**record.arguments, "seed": record.seed}, wanted)


async def _in_time(work: Coroutine[Any, Any, T]) -> T:
    with anyio.fail_after(HANG_SECONDS):
        return await work


def test_no_history_charges_twice_or_hides_a_charge() -> None:
    """Repeated calls, lost answers, crashes, late lists (promises 1 to 10)."""
    run_state_machine_as_test(
        Money,
        settings=settings(max_examples=30, stateful_step_count=25, derandomize=True, deadline=None),
    )


USERS = ("ann", "ben")
OWN_LIMITS = replace(LIMITS, credits_per_day=40, in_flight=2)


async def quotas_of(workspace: str, *, fresh: bool = False) -> Sequence[Quota]:
    return Quota(OWN_LIMITS, "your own", frozenset({workspace})), Quota(LIMITS, "of the key")


class SharedMoney(Money):
    """The same histories by two users of one key, of whom each has a workspace."""

    def __init__(self) -> None:
        self.user = USERS[0]
        super().__init__()

    async def _start(self) -> Server:
        return Server(self.sandbox, self.ledger(), self.time, quotas_of)

    @rule(user=st.sampled_from(USERS))
    def the_next_calls_are_of(self, user: str) -> None:
        self.user = user

    async def _of(self, server: Server, user: str) -> Jobs:
        return (await server.jobs()).of(Workspace(user, await server.account()))

    async def _submit(self, server: Server, request: Replacement) -> None:
        # Equal requests of both users: a query makes no other request, and tells them apart here.
        image = f"{request.character_image}?of={self.user}"
        jobs = await self._of(server, self.user)
        try:
            view = await jobs.submit(request.model_copy(update={"character_image": image}))
            self.ids.add(view.id)
        except WanError as failure:
            self.ids |= {failure.job_id} if failure.job_id else set()

    async def _check(self, server: Server, order: int) -> None:
        for record in (await self._records())[::order]:
            with suppress(WanError):
                await (await self._of(server, record.account)).check(record.public_id)

    async def _records(self) -> list[Record]:
        await self.servers[2].ledger.recover()
        views = [
            view
            for user in USERS
            for view in await (await self._of(self.servers[2], user)).recent(None, 1000)
        ]
        return [view.record for view in views if view.record]

    def charges_of(self, user: str, wanted: Replacement | None = None) -> list[float]:
        """When each charge was made for what a user asked for."""
        jobs = self.sandbox.vendor.jobs.values()
        return [
            job.created
            for job in jobs
            if made_by(job.body) == user and (wanted is None or is_for(job.body, wanted))
        ]

    @invariant()
    def nothing_is_charged_twice(self) -> None:
        for user in USERS:
            for wanted in REQUESTS:
                for first, second in pairwise(self.charges_of(user, wanted)):
                    assert self.model.may_follow(wanted, first, second), (user, wanted)

    @invariant()
    def every_users_own_limits_hold(self) -> None:
        for user in USERS:
            times = self.charges_of(user)
            assert most_in(times, DAY_SECONDS - DRIFT_SECONDS) * PRICE <= 40
            assert most_in(times, JOB_SECONDS - DRIFT_SECONDS) <= 2

    @invariant()
    def every_job_belongs_to_whoever_asked_for_it(self) -> None:
        for record in self.records():
            if record.job_id is not None:
                job = self.sandbox.vendor.jobs[record.job_id]
                assert made_by(job.body) == record.account

    @invariant()
    def nobody_learns_of_a_job_of_another_user(self) -> None:
        for record in self.records():
            (other,) = set(USERS) - {record.account}
            assert self.run(self._finds_nothing(other, record.public_id))

    async def _finds_nothing(self, user: str, id: str) -> bool:
        try:
            await (await self._of(self.servers[2], user)).known(id)
        except NotFound:
            return True
        return False


def made_by(body: Any) -> str:
    """The user whose request a job comes from."""
    return str(body["character_image"]).rpartition("?of=")[2]


def test_no_history_of_two_users_of_a_key_charges_twice_or_mixes_up_their_jobs() -> None:
    """Equal requests of two users are two jobs, and the key has limits of its own (ours)."""
    run_state_machine_as_test(
        SharedMoney,
        settings=settings(max_examples=3, stateful_step_count=25, derandomize=True, deadline=None),
    )


def test_requests_that_share_a_seed_do_not_share_a_job() -> None:
    """One was not received, and the answer to the other was lost (promises 7)."""
    _, _, one, other = REQUESTS
    history = Money()
    try:
        history.submit(one, 0, "request dropped")
        history.submit(other, 0, "answer dropped")
        history.check_every_job(0, -1)

        history.every_job_has_a_record_of_its_own_request()
    finally:
        history.teardown()


@pytest.mark.parametrize(("machine", "histories"), [(Money, 4), (SharedMoney, 3)])
def test_no_history_charges_twice_or_hides_a_charge_in_postgresql(
    database: str, machine: type[Money], histories: int
) -> None:
    """The same rules on the other engine, in fewer histories (promises 1 to 10)."""
    from wan_mcp.ledger.postgres.engine import PostgresLedger

    class MortalPostgres(MortalLedger, PostgresLedger):
        """A ledger in the database."""

    class InPostgres(machine):  # type: ignore[valid-type, misc]
        """The same histories."""

        def __init__(self) -> None:
            PostgresStore(database).execute(EMPTY)
            super().__init__()

        def ledger(self) -> MortalLedger:
            return MortalPostgres(database, limits=LIMITS, now=self.time.wall, poll_seconds=0.2)

        async def kill(self, server: Server) -> None:
            PostgresStore(database).kill(server.ledger)
            await server.stop()

    run_state_machine_as_test(
        InPostgres,
        settings=settings(
            max_examples=histories, stateful_step_count=25, derandomize=True, deadline=None
        ),
    )
