"""What waiting costs: requests to PixelDojo, and how late waiters learn of the end of a job.

Run it by hand, from the root of the project (a minute or two; most of it in virtual time)::

    python -m tests.bench.waiting [reads] [delay]

Job times are lognormal, with a median of 90 s and a 95th percentile of 300 s. A round trip takes
0.2 s. The poller is compared with the loop in PixelDojo's own sample code, which reads every 2 s.
If a target is missed, the exit code is 1.
"""

import asyncio
import math
import random
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import httpx

from tests.virtual_time import VirtualLoop, VirtualTime, watched_threads
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.ledger.status import require_view
from wan_mcp.models import Job, JobStatus, Replacement
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.pixeldojo.priority import Priority
from wan_mcp.polling.rate_limiter import SharedRateLimiter

MEDIAN_SECONDS, P95_SECONDS = 90.0, 300.0
ROUND_TRIP_SECONDS = 0.2
BASE = "https://api.example/api/v1"
MINUTE_SECONDS = 60.0


class Vendor(httpx.AsyncBaseTransport):
    """A PixelDojo without a network, whose jobs end at given times.

    Attributes:
        ends: when each job ends, by job id.
        reads: when each request was made, and whether it was for the list.
    """

    def __init__(self, limit: int | None, *, lists: bool = True, links: bool = True) -> None:
        self.ends: dict[str, float] = {}
        self.reads: list[tuple[float, bool]] = []
        self._limit = limit
        self._lists = lists
        self._links = links

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        self.reads.append((anyio.current_time(), name == "jobs"))
        await anyio.sleep(ROUND_TRIP_SECONDS)
        headers = {} if self._limit is None else {"X-RateLimit-Limit": str(self._limit)}
        if name != "jobs":
            return httpx.Response(200, json=self._job(name), headers=headers)
        if not self._lists:
            return httpx.Response(404, headers=headers)
        return httpx.Response(
            200, json=[self._job(each, self._links) for each in self.ends], headers=headers
        )

    def _job(self, name: str, link: bool = True) -> dict[str, Any]:
        done = anyio.current_time() >= self.ends[name]
        output = {"output": {"video": f"https://temp.pixeldojo.ai/{name}.mp4"}}
        known = {"jobId": name, "status": "completed" if done else "pending"}
        return known | (output if done and link else {})

    def busiest(self) -> int:
        """The largest number of requests in any 60 s."""
        times = [at for at, _ in self.reads]
        return max(sum(at <= each < at + MINUTE_SECONDS for each in times) for at in times)


class Unlimited(SharedRateLimiter):
    """A rate limiter that permits everything, so that only the schedule limits the requests."""

    async def acquire(self, priority: Priority) -> None:
        """Permit the request at once."""

    def spacing(self, priority: Priority, count: int) -> float:
        """No distance between requests."""
        return 0.0


@dataclass
class Run:
    """The result of a scenario.

    Attributes:
        delays: for each waiter, the seconds from the end of its job until it knew.
    """

    vendor: Vendor
    delays: list[float]
    minutes: float

    def crowded_rate(self) -> float:
        """Requests a minute while five or more jobs were live, without one for each ended job."""
        ends = sorted(self.vendor.ends.values())
        until = ends[-5]
        times = [at for at, _ in self.vendor.reads if at <= until]
        return (len(times) - len(ends) + 4) / ((until - times[0]) / MINUTE_SECONDS)

    @property
    def reads(self) -> int:
        """The number of all requests."""
        return len(self.vendor.reads)


def job_times(count: int, seed: int) -> list[float]:
    """How long each of the jobs takes, in seconds."""
    sigma = math.log(P95_SECONDS / MEDIAN_SECONDS) / 1.645
    rng = random.Random(seed)
    return [MEDIAN_SECONDS * math.exp(sigma * rng.gauss(0, 1)) for _ in range(count)]


async def with_poller(
    time: VirtualTime,
    times: Sequence[float],
    waiters: int,
    vendor: Vendor,
    *,
    limited: bool = True,
    apart: float = 0.0,
) -> Run:
    """Let waiters wait for jobs that wan-mcp polls. The jobs start `apart` seconds apart."""
    clock = time.clock()
    began = anyio.current_time()
    with TemporaryDirectory() as scratch:
        ledger = SQLiteLedger(
            Path(scratch), limits=SpendingLimits(None, None, None, None), now=clock.wall
        )
        account = partial(ledger.account, BASE, "key")
        limiter = (SharedRateLimiter if limited else Unlimited)(ledger.coordination, account, clock)
        dojo = PixelDojo(BASE, "key", limiter=limiter, transport=vendor)
        delays: list[float] = []
        async with anyio.create_task_group() as background:
            jobs = Jobs(dojo, ledger, account, limiter, background, clock)
            background.start_soon(jobs.run)
            async with anyio.create_task_group() as tasks:
                for number, seconds in enumerate(times):
                    await _accept(ledger, await account(), number)
                    vendor.ends[f"job{number}"] = anyio.current_time() + seconds
                    for _ in range(waiters // len(times)):
                        tasks.start_soon(_wait, jobs, f"job{number}", vendor, delays)
                    await anyio.sleep(apart)
            background.cancel_scope.cancel()
        await dojo.aclose()
        await ledger.aclose()
    return Run(vendor, delays, (anyio.current_time() - began) / MINUTE_SECONDS)


async def sample_loop(time: VirtualTime, times: Sequence[float], vendor: Vendor) -> Run:
    """Wait as PixelDojo's sample code does: every waiter reads its job every 2 s."""
    began = anyio.current_time()
    delays: list[float] = []

    async def loop(name: str) -> None:
        async with httpx.AsyncClient(transport=vendor) as client:
            while True:
                await anyio.sleep(2)
                answer = await client.get(f"{BASE}/jobs/{name}")
                if answer.json()["status"] == "completed":
                    delays.append(anyio.current_time() - vendor.ends[name])
                    return

    async with anyio.create_task_group() as tasks:
        for number, seconds in enumerate(times):
            vendor.ends[f"job{number}"] = began + seconds
            tasks.start_soon(loop, f"job{number}")
    return Run(vendor, delays, (anyio.current_time() - began) / MINUTE_SECONDS)


async def _accept(ledger: SQLiteLedger, account: str, number: int) -> None:
    wanted = Replacement(video=f"https://a.example/{number}.mp4", character_image="https://a.ex/p")
    claim = await ledger.claim(account, wanted, generated_seed=number, estimate=1)
    await ledger.commit_sending(claim.record)
    await ledger.accept(claim.record, Job(job_id=f"job{number}", status=JobStatus.RUNNING))


async def _wait(jobs: Jobs, id: str, vendor: Vendor, delays: list[float]) -> None:
    while True:
        async for update in jobs.watch(id, 900):
            if require_view(update).settled:
                delays.append(anyio.current_time() - vendor.ends[id])
                return


def virtually(work: Callable[..., Coroutine[Any, Any, Run]], *args: Any, **named: Any) -> Run:
    """Run `work` in virtual time, which is its first argument."""
    time = VirtualTime()
    with watched_threads(), asyncio.Runner(loop_factory=partial(VirtualLoop, time)) as runner:
        return runner.run(work(time, *args, **named))


class Report:
    """Figures beside their targets."""

    def __init__(self) -> None:
        self.missed = False

    def line(self, what: str, figure: float, target: float | None = None, note: str = "") -> None:
        """Print a figure, and mark it if it misses its target."""
        limit = "" if target is None else f" (at most {target:g})"
        missed = target is not None and figure > target
        self.missed |= missed
        print(f"{what:<58} {figure:9.2f}{limit}{' MISSED' if missed else ''} {note}".rstrip())


def run_all(scenarios: Mapping[str, Callable[[Report], None]]) -> int:
    """Run the scenarios that the command line names, or all. Returns 0 if no target is missed."""
    report = Report()
    for name in sys.argv[1:] or scenarios:
        scenarios[name](report)
    return 1 if report.missed else 0


def reads(report: Report) -> None:
    """Measure how many requests many waiters cost."""
    times = job_times(100, 1)
    few, many = (
        virtually(with_poller, times, waiters, Vendor(None, lists=False), limited=False)
        for waiters in (100, 1_000)
    )
    report.line("reads a job, no limiter, 100 waiters", few.reads / 100, 25)
    report.line("reads a job, no limiter, 1,000 waiters", many.reads / 100, 25)
    report.line("reads that 900 more waiters cost", abs(many.reads - few.reads), 0)
    run = virtually(with_poller, times, 1_000, Vendor(60, links=False))
    report.line("list mode, limit 60: reads a minute, without ended jobs", run.crowded_rate(), 13)
    report.line("list mode, limit 60: most requests in any 60 s", run.vendor.busiest(), 60)
    run = virtually(with_poller, times, 1_000, Vendor(10))
    report.line("list mode, limit 10: most requests in any 60 s", run.vendor.busiest(), 10)
    fixed = virtually(sample_loop, times, Vendor(None))
    report.line("the sample's loop, 2 s: reads a job", fixed.reads / 100)
    report.line("the sample's loop, 2 s: most requests in any 60 s", fixed.vendor.busiest())


def delay(report: Report) -> None:
    """Measure how late waiters learn of the end."""
    for count in (1, 4):
        delays: list[float] = []
        for batch in range(60 // count):
            delays += virtually(with_poller, job_times(count, batch), count, Vendor(60)).delays
        report.line(f"mean delay, {count} jobs at a time, limit 60 [s]", mean(delays), 3.3)
    run = virtually(with_poller, job_times(100, 2), 100, Vendor(60))
    report.line("mean delay, 100 jobs, list mode, limit 60 [s]", mean(run.delays), 3.5)
    run = virtually(with_poller, job_times(100, 2), 100, Vendor(60, links=False))
    report.line("the same, if the list contains no links [s]", mean(run.delays))
    run = virtually(with_poller, job_times(100, 2), 100, Vendor(60, links=False), apart=3.0)
    report.line("the same, if the jobs start 3 s apart [s]", mean(run.delays), 3.5)
    run = virtually(with_poller, job_times(4, 3), 4, Vendor(10))
    report.line("mean delay, 4 jobs, limit 10 [s]", mean(run.delays))
    fixed = virtually(sample_loop, job_times(100, 2), Vendor(None))
    report.line("the sample's loop, 2 s: mean delay [s]", mean(fixed.delays))


SCENARIOS = {"reads": reads, "delay": delay}


if __name__ == "__main__":
    sys.exit(run_all(SCENARIOS))
