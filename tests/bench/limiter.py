"""Whether PixelDojo refuses no request once the limit is known, and submits are still sent soon.

Run it by hand, from the root of the project (a minute and a half; 90 minutes of virtual time)::

    python -m tests.bench.limiter [10] [60] [unknown]

The sandbox enforces the limit. It and the server are connected by real sockets, in the same virtual
time. Twelve jobs have waiters. They are read by the job list or, if there is none, one by one. In
half of the scenarios an agent also checks another job in a loop. If a target is missed, the exit
code is 1.
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

from tests.bench.servers import (
    ArrivalLog,
    add_running_jobs,
    opened_server,
    virtual_sandbox,
    virtually,
    wait,
)
from tests.bench.waiting import MINUTE_SECONDS, Report, run_all
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

WATCHED_JOBS = 12
RUN_MINUTES = 10
CHECK_INTERVAL_SECONDS = 3.1
"""A little more than the time for which a check is answered from the ledger."""
API = "/api/v1/*"


class ObservedRateLimiter(SharedRateLimiter):
    """The rate limiter, with a record of what PixelDojo answered.

    Attributes:
        refused: the times of the HTTP 429 answers.
        known_at: the time of the first answer that stated the limit.
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
        """How many requests a minute it permits; a submit may use them all."""
        return round(WINDOW_SECONDS / self.spacing(Priority.SUBMIT, 1))


@dataclass
class Run:
    """What was measured in ten minutes of full load.

    Attributes:
        began: the time at which each submit was called.
        submit_errors: the errors of the submits that started no job.
        allowed: how many requests a minute the limiter permitted, each second after the refusal.
    """

    arrivals: ArrivalLog
    limiter: ObservedRateLimiter
    began: list[float] = field(default_factory=list)
    submit_errors: list[str] = field(default_factory=list)
    allowed: list[tuple[float, int]] = field(default_factory=list)

    def delays(self) -> list[float]:
        """Seconds from each call to the arrival of its POST at the sandbox."""
        posts = [at for at, method in self.arrivals.arrived if method == "POST"]
        ends = [*self.began[1:], math.inf]
        return [
            min((at for at in posts if begin <= at < end), default=math.inf) - begin
            for begin, end in zip(self.began, ends, strict=True)
        ]

    def refused(self) -> int:
        """The number of HTTP 429 answers after the limit was known."""
        known_at = math.inf if self.limiter.known_at is None else self.limiter.known_at
        return sum(at > known_at for at in self.limiter.refused)

    def within(self, begin: float, end: float) -> int:
        """The number of requests that arrived in a period."""
        return sum(begin < at <= end for at, _ in self.arrivals.arrived)

    def rate(self) -> float:
        """Requests a minute, without the first minute, in which a new process may send a burst."""
        times = [at for at, _ in self.arrivals.arrived]
        return (
            self.within(times[0] + MINUTE_SECONDS, times[-1])
            * MINUTE_SECONDS
            / (times[-1] - times[0] - MINUTE_SECONDS)
        )


async def full_load(
    time: VirtualTime, terms: Terms, *, agent_asks: bool = False, refuse_at: float | None = None
) -> Run:
    """Run jobs with waiters, and submit a job every 20 s to 30 s.

    Args:
        agent_asks: whether an agent also checks a job in a loop.
        refuse_at: the minute in which one read is refused with an answer that states no limit.
    """
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        sandbox = await stack.enter_async_context(virtual_sandbox(time, terms))
        arrivals = sandbox.scripts = ArrivalLog(time.monotonic)
        opened = opened_server(
            Path(folder), sandbox.api_base, time.clock(), limiter_type=ObservedRateLimiter
        )
        server = await stack.enter_async_context(opened)
        assert isinstance(server.limiter, ObservedRateLimiter)
        run = Run(arrivals, server.limiter)
        ids = await add_running_jobs(sandbox, server.ledger, server.account, WATCHED_JOBS + 1)
        async with anyio.create_task_group() as tasks:
            for job_id in ids[1:]:
                tasks.start_soon(wait, server.jobs, job_id)
            if agent_asks:
                tasks.start_soon(_check_in_a_loop, server.jobs, ids[0])
            if refuse_at is not None:
                tasks.start_soon(_refuse_once, sandbox, refuse_at * MINUTE_SECONDS, run)
            await _submit_regularly(server.jobs, run)
            tasks.cancel_scope.cancel()
    return run


async def _submit_regularly(jobs: Jobs, run: Run) -> None:
    rng = random.Random(1)
    until = anyio.current_time() + RUN_MINUTES * MINUTE_SECONDS
    while anyio.current_time() < until:
        await anyio.sleep(rng.uniform(20, 30))
        run.began.append(anyio.current_time())
        video = f"https://media.example/{len(run.began)}.mp4"
        wanted = Replacement(video=video, character_image="https://media.example/face.png")
        try:
            await jobs.submit(wanted)
        except WanError as failure:
            run.submit_errors.append(failure.what)


async def _check_in_a_loop(jobs: Jobs, job_id: str) -> None:
    while True:
        with suppress(WanError):
            await jobs.check(job_id)
        await anyio.sleep(CHECK_INTERVAL_SECONDS)


async def _refuse_once(sandbox: Sandbox, seconds: float, run: Run) -> None:
    await anyio.sleep(seconds)
    sandbox.fault("GET", API, faults.status(429))
    while True:
        run.allowed.append((anyio.current_time(), run.limiter.per_minute))
        await anyio.sleep(1)


def known(report: Report, limit: int) -> None:
    """Measure with a PixelDojo that states its limit in every answer."""
    ways = {
        "list": (Terms(), False),
        "reads": (Terms(list_exists=False), False),
        "list+agent": (Terms(), True),
        "reads+agent": (Terms(list_exists=False), True),
    }
    for way, (terms, agent_asks) in ways.items():
        terms = replace(terms, credits=1e6, requests_per_minute=limit)
        run = virtually(partial(full_load, terms=terms, agent_asks=agent_asks))
        report.line(f"{limit} a minute, {way}: requests a minute", run.rate(), limit)
        report.line(f"{limit} a minute, {way}: 429 after it was known", run.refused(), 0)
        delays = run.delays()
        note = f"median {median(delays):.2f}, {len(delays)} submits"
        report.line(f"{limit} a minute, {way}: slowest submit [s]", max(delays), 2, note)
        report.line(
            f"{limit} a minute, {way}: submits that started no job", len(run.submit_errors), 0
        )


def unknown(report: Report) -> None:
    """Measure with a PixelDojo that never states its limit, and refuses one request."""
    run = virtually(partial(full_load, terms=Terms(credits=1e6), refuse_at=3))
    (refused,) = run.limiter.refused
    after = [(at - refused, allowed) for at, allowed in run.allowed if at > refused]
    report.line("unknown: requests a minute before a 429", run.within(refused - 60, refused), 10)
    report.line("unknown: requests a minute permitted after it", after[0][1], 5)
    report.line("unknown: requests in the minute after it", run.within(refused, refused + 60), 5)
    back = next((since for since, allowed in after if allowed >= 10), math.inf)
    report.line("unknown: minutes until it is 10 again", back / MINUTE_SECONDS, 6)
    report.line("unknown: slowest submit [s]", max(run.delays()), 2)


SCENARIOS: dict[str, Callable[[Report], None]] = {
    "10": partial(known, limit=10),
    "60": partial(known, limit=60),
    "unknown": unknown,
}


if __name__ == "__main__":
    sys.exit(run_all(SCENARIOS))
