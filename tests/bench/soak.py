"""Half an hour in which almost half of all requests fail: charges, records, files and tasks.

Run it by hand, from the root of the project (about a minute)::

    python -m tests.bench.soak [seed]

Two hundred jobs are submitted and waited for. Each of nine faults affects 5 % of all requests, also
after the half hour, until every record has its final state or an hour is over. Sockets are real and
time is virtual. The charges that the sandbox counts decide. If a target is missed, the exit code
is 1.
"""

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from tests.bench.servers import (
    ROUND_TRIP_SECONDS,
    Server,
    opened_server,
    virtual_sandbox,
    virtually,
)
from tests.bench.waiting import MINUTE_SECONDS, Report
from tests.virtual_time import VirtualTime
from wan_mcp.errors import WanError
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.record import FREE_OF_CHARGE, LIVE, Record, State
from wan_mcp.ledger.status import require_view
from wan_mcp.models import Replacement
from wan_mcp.sandbox import Charge, Fault, Sandbox, Terms
from wan_mcp.sandbox.http import faults
from wan_mcp.sandbox.http.faults import Scripts

JOBS = 200
SUBMIT_MINUTES = 30
MAX_DRAIN_MINUTES = 60
SHARE_OF_EACH_FAULT = 0.05
TERMS = Terms(
    credits=1e6, requests_per_minute=60, pending_seconds=5, processing_seconds=85, list_cap=50
)
HTML = "<!doctype html><title>502</title><h1>Bad gateway</h1>"

FAULTS: dict[str, Callable[[random.Random], Fault]] = {
    "reset": lambda rng: faults.reset(work=rng.random() < 0.5),
    "dropped": lambda rng: faults.dropped(work=True),
    "hung": lambda rng: faults.hung(work=rng.random() < 0.5),
    "500": lambda rng: faults.status(500, work=rng.random() < 0.5),
    "503": lambda rng: faults.status(503, work=rng.random() < 0.5),
    "429": lambda rng: faults.status(429, headers=rng.choice([{}, {"Retry-After": "2"}])),
    "garbage": lambda rng: faults.status(200, "\x00{]" + "?" * rng.randrange(99), work=True),
    "cut": lambda rng: faults.cut(rng.randrange(60)),
    "page": lambda rng: faults.status(200, HTML, work=True),
}
CHARGED_STATES = frozenset({State.ACCEPTED, State.COMPLETED, State.FAILED, State.LOST})
STATUSES = {State.COMPLETED: "completed", State.FAILED: "failed"}
LISTED_JOBS = 10
"""How many ended jobs are listed. Unknown outcomes are listed in addition."""
WAITS_PER_JOB = 4
COUNTS_PER_MINUTE = 12
"""So many that some fall between two bursts of requests, when only what stays is open."""
EARLY = slice(5 * COUNTS_PER_MINUTE, 15 * COUNTS_PER_MINUTE + 1)
LATE = slice(20 * COUNTS_PER_MINUTE, 30 * COUNTS_PER_MINUTE + 1)


class RandomFaults(Scripts):
    """A random fault for each request, or none.

    Attributes:
        counts: how many requests had each fault.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self._dice = random.Random(seed)

    def next(self, method: str, path: str) -> Fault:
        """The fault of this request, or an honest answer after the round trip."""
        number = int(self._dice.random() / SHARE_OF_EACH_FAULT)
        name = [*FAULTS][number] if number < len(FAULTS) else "none"
        self.counts[name] += 1
        if name == "none":
            return faults.held(faults.honest(), after=ROUND_TRIP_SECONDS)
        return FAULTS[name](self._dice)


@dataclass
class Soak:
    """What was measured.

    Attributes:
        injected: the faults of the requests.
        records: all records of the ledger.
        listed: the submission ids in a short list of the jobs.
        charges: the charges of the sandbox.
        statuses: the status of each job of the sandbox.
        files: the number of open file descriptors, COUNTS_PER_MINUTE times each virtual minute.
        tasks: the number of tasks, as often.
        minutes: how many virtual minutes the soak took.
    """

    injected: RandomFaults
    records: list[Record] = field(default_factory=list)
    listed: set[str] = field(default_factory=set)
    charges: list[Charge] = field(default_factory=list)
    statuses: dict[str, str] = field(default_factory=dict)
    files: list[int] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    minutes: float = 0.0

    def count_open(self) -> None:
        """Count the open file descriptors and the tasks."""
        self.files.append(len(os.listdir("/proc/self/fd")))
        self.tasks.append(len(asyncio.all_tasks()))

    def of(self, *states: State) -> list[Record]:
        """The records in these states."""
        return [record for record in self.records if record.state in states]

    def charged(self, records: Iterable[Record]) -> int:
        """How many of these records were charged; the seed identifies the charge."""
        seeds = {charge.body["seed"] for charge in self.charges}
        return sum(record.seed in seeds for record in records)


async def soak(time: VirtualTime, seed: int) -> Soak:
    """Submit for half an hour, and wait until the work is done."""
    began = anyio.current_time()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        sandbox = await stack.enter_async_context(virtual_sandbox(time, TERMS))
        injected = sandbox.scripts = RandomFaults(seed)
        opened = opened_server(Path(folder), sandbox.api_base, time.clock())
        server = await stack.enter_async_context(opened)
        run = Soak(injected)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_count_open, run)
            await _submit_all(server.jobs)
            await _drain(server)
            tasks.cancel_scope.cancel()
        run.minutes = (anyio.current_time() - began) / MINUTE_SECONDS
        await _measure(server, sandbox, run)
    return run


async def _count_open(run: Soak) -> None:
    while True:
        run.count_open()
        await anyio.sleep(MINUTE_SECONDS / COUNTS_PER_MINUTE)


async def _submit_all(jobs: Jobs) -> None:
    async with anyio.create_task_group() as agents:
        for number in range(JOBS):
            agents.start_soon(_agent, jobs, number)
            await anyio.sleep(SUBMIT_MINUTES * MINUTE_SECONDS / JOBS)


async def _agent(jobs: Jobs, number: int) -> None:
    """Submit a job and wait for it a few times, as an impatient agent does."""
    try:
        id = (await jobs.submit(_request(number))).id
    except WanError as failure:
        if failure.job_id is None:
            return
        id = failure.job_id
    for _ in range(WAITS_PER_JOB):
        with suppress(WanError):
            async for update in jobs.watch(id, 45):
                if require_view(update).settled:
                    return
        await anyio.sleep(5)


def _request(number: int) -> Replacement:
    """A request. Every tenth has a seed of its own, and its job fails."""
    fails = number % 10 == 0
    name = "media/no-person" if fails else f"video{number}"
    return Replacement(
        video=f"https://media.example/{name}.mp4",
        character_image="https://media.example/face.png",
        seed=number if fails else None,
    )


async def _drain(server: Server) -> None:
    """Wait until no record can change by itself, or MAX_DRAIN_MINUTES are over."""
    for _ in range(MAX_DRAIN_MINUTES):
        if not any(map(_can_change, await server.ledger.recent(server.account))):
            return
        await anyio.sleep(MINUTE_SECONDS)


def _can_change(record: Record) -> bool:
    return record.state in LIVE and (
        record.state is not State.UNKNOWN or record.next_check_at is not None
    )


async def _measure(server: Server, sandbox: Sandbox, run: Soak) -> None:
    run.count_open()
    run.records = await server.ledger.recent(server.account, limit=2 * JOBS)
    listed = await server.jobs.recent(None, LISTED_JOBS)
    run.listed = {each.record.submission_id for each in listed if each.record}
    run.charges = sandbox.charges
    run.statuses = {id: sandbox.vendor.status(job) for id, job in sandbox.vendor.jobs.items()}


def report_records(report: Report, run: Soak) -> None:
    """Check that every submit has its final state, and the right one."""
    unknown = run.of(State.UNKNOWN)
    ended = {record.job_id: STATUSES.get(record.state) for record in run.of(*CHARGED_STATES)}
    wrong = sum(run.statuses.get(id or "") != status for id, status in ended.items())
    report.line("submits without a record", JOBS - len(run.records), 0)
    report.line("records without a final state", len(run.of(*LIVE - {State.UNKNOWN})), 0)
    report.line("states that differ from the sandbox's", wrong, 0)
    without_link = sum(record.video_url is None for record in run.of(State.COMPLETED))
    report.line("completed jobs without a link", without_link, 0)
    report.line(
        "unknown and not listed",
        sum(record.submission_id not in run.listed for record in unknown),
        0,
    )
    report.line("unknown and listed", len(unknown))
    report.line("of these, charged: videos that nobody gets", run.charged(unknown))
    states = Counter(str(record.state) for record in run.records)
    report.line("completed", states["completed"], note=_listing(states))


def report_money(report: Report, run: Soak) -> None:
    """Check that the ledger knows every charge of the sandbox, and no other."""
    charged, unknown = run.of(*CHARGED_STATES), run.of(State.UNKNOWN)
    repeats = Counter(charge.body["seed"] for charge in run.charges)
    report.line("charges", len(run.charges), len(charged) + len(unknown))
    report.line("requests charged twice", sum(n - 1 for n in repeats.values()), 0)
    report.line("charges without a record", len(repeats) - run.charged(run.records), 0)
    report.line("charges for records that say free", run.charged(run.of(*FREE_OF_CHARGE)), 0)
    report.line(
        "records that say charged, without a charge", len(charged) - run.charged(charged), 0
    )


def report_growth(report: Report, run: Soak) -> None:
    """Check that open files and tasks do not grow, and that none is left when the work is done."""
    # One connection may stay open for the next request, and both its ends are in this process. The
    # third descriptor is SQLite's: when the ledger's file was open twice, SQLite keeps the second
    # descriptor for the next reader, because closing it would release the locks of the first.
    for name, counts, may_stay in (("open files", run.files, 3), ("tasks", run.tasks, 0)):
        early, late = counts[EARLY], counts[LATE]
        note = f"from {min(early)}-{max(early)} to {min(late)}-{max(late)}, at the end {counts[-1]}"
        # What is in use at one moment depends on the machine. A leak also raises the minimum.
        growth = min(late) - min(early)
        report.line(f"{name}: growth from minutes 5-15 to 20-30", growth, 5, note)
        report.line(f"{name}: more at the end than at the start", counts[-1] - counts[0], may_stay)


def main() -> int:
    """Run the soak once. Returns 0 if no target is missed."""
    report = Report()
    run = virtually(partial(soak, seed=int([*sys.argv, "1"][1])))
    counts = run.injected.counts
    note = _listing(counts)
    report.line("virtual minutes", run.minutes)
    report.line("requests with a fault [%]", 100 * (1 - counts["none"] / counts.total()), note=note)
    for report_part in (report_records, report_money, report_growth):
        report_part(report, run)
    return 1 if report.missed else 0


def _listing(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
