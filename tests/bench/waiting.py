"""What waiting costs: upstream reads, and how late waiters learn of the end of a job.

Run by hand, from the root of the project (a minute or two; most of it in virtual time)::

    python -m tests.bench.waiting [reads] [delay]

Job times are lognormal with a median of 90 s and a 95th percentile of 300 s, a round trip takes
0.2 s. Beside our poller runs the loop of PixelDojo's own sample: a read every 2 s. A target that
is missed makes the exit code 1.
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

MEDIAN, P95 = 90.0, 300.0
ROUND_TRIP = 0.2
BASE = "https://api.example/api/v1"
MINUTE = 60.0


class Vendor(httpx.AsyncBaseTransport):
    """PixelDojo without a network: each job ends at its time.

    Attributes:
        reads: when each request was made, and whether it was for the list.
    """

    def __init__(self, limit: int | None, *, lists: bool = True, films: bool = True) -> None:
        self.ends: dict[str, float] = {}
        self.reads: list[tuple[float, bool]] = []
        self._limit = limit
        self._lists = lists
        self._films = films

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        self.reads.append((anyio.current_time(), name == "jobs"))
        await anyio.sleep(ROUND_TRIP)
        headers = {} if self._limit is None else {"X-RateLimit-Limit": str(self._limit)}
        if name != "jobs":
            return httpx.Response(200, json=self._job(name), headers=headers)
        if not self._lists:
            return httpx.Response(404, headers=headers)
        return httpx.Response(
            200, json=[self._job(each, self._films) for each in self.ends], headers=headers
        )

    def _job(self, name: str, film: bool = True) -> dict[str, Any]:
        done = anyio.current_time() >= self.ends[name]
        output = {"output": {"video": f"https://temp.pixeldojo.ai/{name}.mp4"}}
        known = {"jobId": name, "status": "completed" if done else "pending"}
        return known | (output if done and film else {})

    def busiest(self) -> int:
        """The most requests in any 60 s."""
        times = [at for at, _ in self.reads]
        return max(sum(at <= each < at + MINUTE for each in times) for at in times)


class Unlimited(SharedRateLimiter):
    """No request budget: what the schedule alone asks for."""

    async def acquire(self, priority: Priority) -> None:
        """Let it go."""

    def spacing(self, priority: Priority, count: int) -> float:
        """As close together as the schedule wants."""
        return 0.0


@dataclass
class Run:
    """What a scenario came to.

    Attributes:
        delays: seconds between the end of a job and each waiter's knowing it.
    """

    vendor: Vendor
    delays: list[float]
    minutes: float

    def crowded_rate(self) -> float:
        """Requests a minute, less one for each job that ended, while five or more jobs lived."""
        ends = sorted(self.vendor.ends.values())
        until = ends[-5]
        times = [at for at, _ in self.vendor.reads if at <= until]
        return (len(times) - len(ends) + 4) / ((until - times[0]) / MINUTE)

    @property
    def reads(self) -> int:
        """Requests in all."""
        return len(self.vendor.reads)


def job_times(count: int, seed: int) -> list[float]:
    """How long each job takes, in seconds."""
    sigma = math.log(P95 / MEDIAN) / 1.645
    dice = random.Random(seed)
    return [MEDIAN * math.exp(sigma * dice.gauss(0, 1)) for _ in range(count)]


async def ours(
    time: VirtualTime,
    times: Sequence[float],
    waiters: int,
    vendor: Vendor,
    *,
    limited: bool = True,
    apart: float = 0.0,
) -> Run:
    """Waiters on jobs that are accepted `apart` seconds after each other, by our own rooms."""
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
    return Run(vendor, delays, (anyio.current_time() - began) / MINUTE)


async def sample_loop(time: VirtualTime, times: Sequence[float], vendor: Vendor) -> Run:
    """The loop of the vendor's sample: a read every 2 s, each waiter for itself."""
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
    return Run(vendor, delays, (anyio.current_time() - began) / MINUTE)


async def _accept(ledger: SQLiteLedger, account: str, number: int) -> None:
    wanted = Replacement(video=f"https://a.example/{number}.mp4", character_image="https://a.ex/p")
    claim = await ledger.claim(account, wanted, generated_seed=number, estimate=1)
    await ledger.commit_sending(claim.record)
    await ledger.accept(claim.record, Job(job_id=f"job{number}", status=JobStatus.RUNNING))


async def _wait(jobs: Jobs, id: str, vendor: Vendor, delays: list[float]) -> None:
    while True:
        async for look in jobs.watch(id, 900):
            if require_view(look).settled:
                delays.append(anyio.current_time() - vendor.ends[id])
                return


def virtually(work: Callable[..., Coroutine[Any, Any, Run]], *args: Any, **named: Any) -> Run:
    """Run it in virtual time, which is its first argument."""
    time = VirtualTime()
    with watched_threads(), asyncio.Runner(loop_factory=partial(VirtualLoop, time)) as runner:
        return runner.run(work(time, *args, **named))


class Report:
    """Figures beside their targets."""

    def __init__(self) -> None:
        self.missed = False

    def line(self, what: str, figure: float, most: float | None = None, note: str = "") -> None:
        """Print one; a target that is missed is marked."""
        target = "" if most is None else f" (at most {most:g})"
        missed = most is not None and figure > most
        self.missed |= missed
        print(f"{what:<58} {figure:9.2f}{target}{' MISSED' if missed else ''} {note}".rstrip())


def run_all(scenarios: Mapping[str, Callable[[Report], None]]) -> int:
    """Run those that the command line names, or all; 0 when every target is met."""
    report = Report()
    for name in sys.argv[1:] or scenarios:
        scenarios[name](report)
    return 1 if report.missed else 0


def reads(report: Report) -> None:
    """How many requests many waiters cost."""
    times = job_times(100, 1)
    few, many = (
        virtually(ours, times, waiters, Vendor(None, lists=False), limited=False)
        for waiters in (100, 1_000)
    )
    report.line("reads a job, no limiter, 100 waiters", few.reads / 100, 25)
    report.line("reads a job, no limiter, 1,000 waiters", many.reads / 100, 25)
    report.line("reads that 900 more waiters cost", abs(many.reads - few.reads), 0)
    run = virtually(ours, times, 1_000, Vendor(60, films=False))
    report.line("list mode, limit 60: reads a minute besides ended jobs", run.crowded_rate(), 13)
    report.line("list mode, limit 60: most requests in any 60 s", run.vendor.busiest(), 60)
    run = virtually(ours, times, 1_000, Vendor(10))
    report.line("list mode, limit 10: most requests in any 60 s", run.vendor.busiest(), 10)
    fixed = virtually(sample_loop, times, Vendor(None))
    report.line("the sample's loop, 2 s: reads a job", fixed.reads / 100)
    report.line("the sample's loop, 2 s: most requests in any 60 s", fixed.vendor.busiest())


def delay(report: Report) -> None:
    """How late waiters learn of the end."""
    for count in (1, 4):
        delays: list[float] = []
        for batch in range(60 // count):
            delays += virtually(ours, job_times(count, batch), count, Vendor(60)).delays
        report.line(f"mean delay, {count} jobs at a time, limit 60 [s]", mean(delays), 3.3)
    run = virtually(ours, job_times(100, 2), 100, Vendor(60))
    report.line("mean delay, 100 jobs, list mode, limit 60 [s]", mean(run.delays), 3.5)
    run = virtually(ours, job_times(100, 2), 100, Vendor(60, films=False))
    report.line("the same, where the list names no films: 60 reads are few", mean(run.delays))
    run = virtually(ours, job_times(100, 2), 100, Vendor(60, films=False), apart=3.0)
    report.line("the same, the jobs begun 3 s apart [s]", mean(run.delays), 3.5)
    run = virtually(ours, job_times(4, 3), 4, Vendor(10))
    report.line("mean delay, 4 jobs, limit 10 [s]", mean(run.delays))
    fixed = virtually(sample_loop, job_times(100, 2), Vendor(None))
    report.line("the sample's loop, 2 s: mean delay [s]", mean(fixed.delays))


SCENARIOS = {"reads": reads, "delay": delay}


if __name__ == "__main__":
    sys.exit(run_all(SCENARIOS))
