"""Any history of calls, losses, crashes and time, against a model of what may be charged.

Two servers share one ledger and one vendor; one clock, which only the test moves, is everybody's.
The model is `Model`: it looks at the vendor's books alone, never at how the ledger came to them.
"""

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import anyio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from wan_mcp.clock import Clock
from wan_mcp.errors import WanError
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.contract import Claim
from wan_mcp.ledger.record import REPEAT_WINDOW, UNSETTLED, Record, State
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.ledger.sqlite.liveness import ProcessLock
from wan_mcp.models import Job, Replacement
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.sandbox.http import faults

RUN = "/api/v1/models/*/run"
PRICE = 10.0
CAPS = SpendingLimits(credits_per_job=None, credits_per_day=60, in_flight=4, submits_per_minute=3)
JOB_SECONDS = 60.0
DAY, MINUTE = 86_400.0, 60.0
DRIFT = 20.0
"""A cap counts from the claim; a charge may come that much later (a 429, a second connect)."""
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
"""Where a server dies: between each two of its marks in the ledger."""

T = TypeVar("T")


@dataclass
class Model:
    """What the vendor's books may look like, whatever happened."""

    sandbox: Sandbox

    def charges(self, wanted: Replacement | None = None) -> list[float]:
        """When each charge was made, on the vendor's clock; for one request, or all."""
        jobs = self.sandbox.vendor.jobs.values()
        return [job.created for job in jobs if wanted is None or is_for(job.body, wanted)]

    def may_follow(self, wanted: Replacement, first: float, second: float) -> bool:
        """Whether a request that was charged may be charged again: it failed, or ended long ago."""
        since_end = second - (first + JOB_SECONDS)
        if wanted.video.endswith("no-person.mp4"):
            return since_end >= 0
        return since_end >= REPEAT_WINDOW.total_seconds()

    def most_in(self, seconds: float) -> int:
        """The most charges in any stretch of that length."""
        times = self.charges()
        return max((sum(t <= u < t + seconds for u in times) for t in times), default=0)


def is_for(body: Any, wanted: Replacement) -> bool:
    same = (body["video"], body["character_image"]) == (wanted.video, wanted.character_image)
    return same and wanted.seed in (None, body["seed"])


@dataclass
class Time:
    """One clock for all; sleeping moves it."""

    seconds: float = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def wall(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


class MortalLedger(SQLiteLedger):
    """Its process freezes at a moment that is set, and is then found dead."""

    dies: str | None = None

    async def claim(self, *args: Any, **named: Any) -> Claim:
        claim = await super().claim(*args, **named)
        await self._reach("claimed")
        return claim

    async def commit_sending(self, submission_id: str) -> None:
        await self._reach("connected")
        await super().commit_sending(submission_id)
        await self._reach("committed")

    async def accept(self, submission_id: str, job: Job) -> Record:
        await self._reach("answered")
        record = await super().accept(submission_id, job)
        await self._reach("accepted")
        return record

    async def _reach(self, moment: str) -> None:
        if moment == self.dies:
            self.frozen.set()
            await anyio.sleep_forever()

    def die_at(self, moment: str) -> anyio.Event:
        self.dies, self.frozen = moment, anyio.Event()
        return self.frozen


class Server:
    """One process: it serves until it is stopped or killed."""

    def __init__(self, sandbox: Sandbox, folder: Path, time: Time) -> None:
        clock = Clock(time.monotonic, time.wall, time.sleep, lambda: 0.5)
        self.ledger = MortalLedger(folder, limits=CAPS, now=time.wall)
        self._vendor = PixelDojo(sandbox.api_base, sandbox.key)
        self._account = partial(self.ledger.account, sandbox.api_base, sandbox.key)
        self._clock = clock
        self._up = anyio.Event()
        self._task = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        async with anyio.create_task_group() as tasks:
            self._jobs = Jobs(
                self._vendor,
                self.ledger,
                self._account,
                SharedRateLimiter(self.ledger.coordination, self._account, self._clock),
                tasks,
                self._clock,
            )
            self._up.set()
            await anyio.sleep_forever()

    async def jobs(self) -> Jobs:
        await self._up.wait()
        return self._jobs

    async def stop(self) -> None:
        """End in order."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._vendor.aclose()
        await self.ledger.aclose()

    async def die(self) -> None:
        """End as at kill -9: the kernel drops the lock, and the lock file stays."""
        with patch.object(ProcessLock, "release", ProcessLock.drop_inherited):
            await self.stop()


class Money(RuleBasedStateMachine):
    """The histories, and after every step of them what has to be true."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.time = Time()
        self.terms = Terms(credits=10_000, price=PRICE, pending_seconds=0)
        self.terms = replace(self.terms, processing_seconds=JOB_SECONDS)
        self.sandbox = Sandbox(self.terms, clock=self.time.monotonic, epoch=0)
        self.model = Model(self.sandbox)
        self.told: set[str] = set()
        self.run(self.sandbox.__aenter__())
        self.servers = [self.run(self._start()) for _ in range(3)]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(_in_time(work))

    async def _start(self) -> Server:
        return Server(self.sandbox, Path(self.folder.name) / "ledger", self.time)

    def teardown(self) -> None:
        for server in self.servers:
            self.run(server.stop())
        self.run(self.sandbox.__aexit__())
        self.runner.close()
        self.folder.cleanup()

    # What happens.

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
    def die_during_a_submit(self, request: Replacement, at: int, moment: str) -> None:
        self.run(self._die(self.servers[at], request, moment))
        self.servers[at] = self.run(self._start())

    @rule(at=st.integers(0, 1))
    def restart(self, at: int) -> None:
        self.run(self.servers[at].stop())
        self.servers[at] = self.run(self._start())

    @rule(at=st.integers(0, 1), order=st.sampled_from([1, -1]))
    def look_at_every_job(self, at: int, order: int) -> None:
        self.run(self._look(self.servers[at], order))

    @rule(seconds=st.sampled_from([1, 10, 61, 200, 700, 1000, 90_000]))
    def time_passes(self, seconds: float) -> None:
        self.time.seconds += seconds

    @rule(lag=st.sampled_from([0, 100]), echo=st.booleans(), exists=st.booleans())
    def the_list_changes(self, lag: float, echo: bool, exists: bool) -> None:
        self.sandbox.terms = replace(
            self.terms, list_lag_seconds=lag, list_echoes_input=echo, list_exists=exists
        )

    # What is true after each of these.

    @invariant()
    def nothing_is_charged_twice(self) -> None:
        for wanted in REQUESTS:
            for first, second in pairwise(self.model.charges(wanted)):
                assert self.model.may_follow(wanted, first, second), (wanted, first, second)

    @invariant()
    def caps_hold(self) -> None:
        assert self.model.most_in(DAY - DRIFT) * PRICE <= (CAPS.credits_per_day or 0)
        assert self.model.most_in(MINUTE - DRIFT) <= (CAPS.submits_per_minute or 0)
        assert self.model.most_in(JOB_SECONDS - DRIFT) <= (CAPS.in_flight or 0)

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
                if record.state is State.UNKNOWN and row_of(record, wanted)
            ]
            assert len(missing) <= len(unknown), (wanted, missing)

    @invariant()
    def every_job_has_one_row_of_its_own_request(self) -> None:
        jobs = self.sandbox.vendor.jobs
        for record in self.records():
            if record.job_id is not None:
                body = jobs[record.job_id].body
                assert record.arguments["character_image"] == body["character_image"]
                assert record.seed == body["seed"]

    @invariant()
    def every_id_that_was_told_is_found(self) -> None:
        records = self.records()
        assert self.told <= {record.submission_id for record in records} | {
            record.job_id for record in records
        }

    @invariant()
    def no_submit_is_left_half_way(self) -> None:
        assert not [record for record in self.records() if record.state in UNSETTLED]

    def records(self) -> list[Record]:
        """Every row, as a server sees it that has nothing to do with the rest."""
        return self.run(self._rows())

    async def _rows(self) -> list[Record]:
        jobs = await self.servers[2].jobs()
        await self.servers[2].ledger.recover()
        return [each.record for each in await jobs.recent(None, 1000) if each.record]

    async def _submit(self, server: Server, request: Replacement) -> None:
        jobs = await server.jobs()
        try:
            self.told.add((await jobs.submit(request)).id)
        except WanError as failure:
            self.told |= {failure.job_id} if failure.job_id else set()

    async def _die(self, server: Server, request: Replacement, moment: str) -> None:
        frozen = server.ledger.die_at(moment)
        call = asyncio.create_task(self._submit(server, request))
        waiting = asyncio.create_task(frozen.wait())
        await asyncio.wait([call, waiting], return_when=asyncio.FIRST_COMPLETED)
        call.cancel()
        waiting.cancel()
        await asyncio.wait([call, waiting])
        await server.die()

    async def _look(self, server: Server, order: int) -> None:
        jobs = await server.jobs()
        for record in (await self._rows())[::order]:
            with suppress(WanError):
                await jobs.check(record.public_id)


def row_of(record: Record, wanted: Replacement) -> bool:
    return is_for({**record.arguments, "seed": record.seed}, wanted)


async def _in_time(work: Coroutine[Any, Any, T]) -> T:
    with anyio.fail_after(10):
        return await work


def test_no_history_charges_twice_or_hides_a_charge() -> None:
    """Repeats, losses, crashes, lagging lists, time (reliability.md, "The paid submit")."""
    run_state_machine_as_test(
        Money,
        settings=settings(max_examples=30, stateful_step_count=25, derandomize=True, deadline=None),
    )


def test_requests_that_share_a_seed_do_not_share_a_job() -> None:
    """One never landed, the other one's answer was lost (reliability.md, rule 7)."""
    _, _, one, other = REQUESTS
    history = Money()
    try:
        history.submit(one, 0, "request dropped")
        history.submit(other, 0, "answer dropped")
        history.look_at_every_job(0, -1)

        history.every_job_has_one_row_of_its_own_request()
    finally:
        history.teardown()
