"""Whether no request is refused once the limit is known, and whether a submit still gets through.

Run by hand, from the root of the project (a minute and a half; 90 minutes of virtual time)::

    python -m tests.bench.limiter [10] [60] [unknown]

The sandbox counts and refuses; it and our rooms meet over real sockets, in one virtual time. Twelve
jobs are waited for: by the job list or, where there is none, by reads of each job; without and
with an agent that asks for the status of another one in a loop. A target that is missed makes the
exit code 1.
"""

import math
import random
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from tests.bench.rooms import Diary, rooms, run_already, virtual_sandbox, virtually, wait
from tests.bench.waiting import MINUTE, Report, run_all
from tests.virtual_time import VirtualTime
from wan_mcp.errors import WanError
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.coordination import WINDOW_SECONDS
from wan_mcp.models import Replacement
from wan_mcp.pixeldojo.priority import Priority
from wan_mcp.pixeldojo.reply import Reply
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.sandbox.http import faults

WAITED_FOR = 12
MINUTES = 10
ASKING_EVERY = 3.1
"""Seconds; a little more than those for which a look is answered from the ledger."""
API = "/api/v1/*"


class Witness(SharedRateLimiter):
    """The budget, with a record of what PixelDojo answered.

    Attributes:
        refused: when a 429 came.
        known_at: when an answer first named the limit.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.refused: list[float] = []
        self.known_at: float | None = None

    async def observe(self, reply: Reply, *, paid: bool) -> None:
        if reply.status == 429:
            self.refused.append(anyio.current_time())
        elif reply.allowance.limit and self.known_at is None:
            self.known_at = anyio.current_time()
        await super().observe(reply, paid=paid)

    @property
    def per_minute(self) -> int:
        """How many requests a minute it takes for allowed: a submit may use them all."""
        return round(WINDOW_SECONDS / self.spacing(Priority.SUBMIT, 1))


@dataclass
class Run:
    """What ten minutes of full load brought.

    Attributes:
        began: when each submit was called.
        bought_nothing: what submits answered instead.
        allowed: requests a minute as the limiter knew them, each second from the refusal on.
    """

    diary: Diary
    limiter: Witness
    began: list[float] = field(default_factory=list)
    bought_nothing: list[str] = field(default_factory=list)
    allowed: list[tuple[float, int]] = field(default_factory=list)

    def delays(self) -> list[float]:
        """Seconds from each call to the arrival of its POST at the sandbox."""
        posts = [at for at, method in self.diary.arrived if method == "POST"]
        ends = [*self.began[1:], math.inf]
        return [
            min((at for at in posts if begin <= at < end), default=math.inf) - begin
            for begin, end in zip(self.began, ends, strict=True)
        ]

    def refused(self) -> int:
        """429 answers since the limit was known."""
        known_at = math.inf if self.limiter.known_at is None else self.limiter.known_at
        return sum(at > known_at for at in self.limiter.refused)

    def within(self, begin: float, end: float) -> int:
        """Requests that arrived in a stretch of time."""
        return sum(begin < at <= end for at, _ in self.diary.arrived)

    def rate(self) -> float:
        """Requests a minute after the first, in which a new process may burst."""
        times = [at for at, _ in self.diary.arrived]
        return self.within(times[0] + MINUTE, times[-1]) * MINUTE / (times[-1] - times[0] - MINUTE)


async def full_load(
    time: VirtualTime, terms: Terms, *, asking: bool = False, refuse_at: float | None = None
) -> Run:
    """Jobs that are waited for, and a submit every 20 to 30 s.

    Args:
        asking: an agent asks get_job_status in a loop besides.
        refuse_at: minutes after which one read is refused without a word about the limit.
    """
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        sandbox = await stack.enter_async_context(virtual_sandbox(time, terms))
        diary = sandbox.scripts = Diary(time.monotonic)
        opened = rooms(Path(folder), sandbox.api_base, time.clock(), kind=Witness)
        here = await stack.enter_async_context(opened)
        assert isinstance(here.limiter, Witness)
        run = Run(diary, here.limiter)
        ids = await run_already(sandbox, here.ledger, here.account, WAITED_FOR + 1)
        async with anyio.create_task_group() as tasks:
            for job_id in ids[1:]:
                tasks.start_soon(wait, here.jobs, job_id)
            if asking:
                tasks.start_soon(_ask, here.jobs, ids[0])
            if refuse_at is not None:
                tasks.start_soon(_refuse_once, sandbox, refuse_at * MINUTE, run)
            await _submit_now_and_then(here.jobs, run)
            tasks.cancel_scope.cancel()
    return run


async def _submit_now_and_then(jobs: Jobs, run: Run) -> None:
    dice = random.Random(1)
    until = anyio.current_time() + MINUTES * MINUTE
    while anyio.current_time() < until:
        await anyio.sleep(dice.uniform(20, 30))
        run.began.append(anyio.current_time())
        clip = f"https://media.example/{len(run.began)}.mp4"
        wanted = Replacement(video=clip, character_image="https://media.example/face.png")
        try:
            await jobs.submit(wanted)
        except WanError as failure:
            run.bought_nothing.append(failure.what)


async def _ask(jobs: Jobs, job_id: str) -> None:
    while True:
        with suppress(WanError):
            await jobs.check(job_id)
        await anyio.sleep(ASKING_EVERY)


async def _refuse_once(sandbox: Sandbox, seconds: float, run: Run) -> None:
    await anyio.sleep(seconds)
    sandbox.fault("GET", API, faults.status(429))
    while True:
        run.allowed.append((anyio.current_time(), run.limiter.per_minute))
        await anyio.sleep(1)


def known(report: Report, limit: int) -> None:
    """A vendor that tells its limit in every answer."""
    ways = {
        "list": (Terms(), False),
        "reads": (Terms(list_exists=False), False),
        "list+agent": (Terms(), True),
        "reads+agent": (Terms(list_exists=False), True),
    }
    for way, (terms, asking) in ways.items():
        terms = replace(terms, credits=1e6, requests_per_minute=limit)
        run = virtually(partial(full_load, terms=terms, asking=asking))
        report.line(f"{limit} a minute, {way}: requests a minute", run.rate(), limit)
        report.line(f"{limit} a minute, {way}: 429 after it was known", run.refused(), 0)
        delays = run.delays()
        note = f"median {median(delays):.2f}, {len(delays)} submits"
        report.line(f"{limit} a minute, {way}: slowest submit [s]", max(delays), 2, note)
        report.line(
            f"{limit} a minute, {way}: submits that bought nothing", len(run.bought_nothing), 0
        )


def unknown(report: Report) -> None:
    """A vendor that never tells its limit, and refuses once."""
    run = virtually(partial(full_load, terms=Terms(credits=1e6), refuse_at=3))
    (refused,) = run.limiter.refused
    after = [(at - refused, allowed) for at, allowed in run.allowed if at > refused]
    report.line("unknown: requests a minute before a 429", run.within(refused - 60, refused), 10)
    report.line("unknown: taken for allowed after it", after[0][1], 5)
    report.line("unknown: requests in the minute after it", run.within(refused, refused + 60), 5)
    back = next((since for since, allowed in after if allowed >= 10), math.inf)
    report.line("unknown: minutes until it is 10 again", back / MINUTE, 6)
    report.line("unknown: slowest submit [s]", max(run.delays()), 2)


SCENARIOS: dict[str, Callable[[Report], None]] = {
    "10": partial(known, limit=10),
    "60": partial(known, limit=60),
    "unknown": unknown,
}


if __name__ == "__main__":
    sys.exit(run_all(SCENARIOS))
