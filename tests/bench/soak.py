"""Half an hour in which nearly every second request goes wrong: what becomes of money and rows.

Run by hand, from the root of the project (about a minute)::

    python -m tests.bench.soak [seed]

Two hundred jobs are submitted and waited for, while each of nine faults meets 5 % of all requests.
Sockets are real, time is virtual. Then the faults go on until every row has its verdict, or for
an hour. The sandbox's charges are the judge; a target that is missed makes the exit code 1.
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
from statistics import median
from tempfile import TemporaryDirectory

import anyio

from tests.bench.rooms import ROUND_TRIP, Rooms, rooms, virtual_sandbox, virtually
from tests.bench.waiting import MINUTE, Report
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
MINUTES = 30
LONGEST_DRAIN = 60
SHARE = 0.05
TERMS = Terms(
    credits=1e6, requests_per_minute=60, pending_seconds=5, processing_seconds=85, list_cap=50
)
HTML = "<!doctype html><title>502</title><h1>Bad gateway</h1>"

FAULTS: dict[str, Callable[[random.Random], Fault]] = {
    "reset": lambda dice: faults.reset(work=dice.random() < 0.5),
    "dropped": lambda dice: faults.dropped(work=True),
    "hung": lambda dice: faults.hung(work=dice.random() < 0.5),
    "500": lambda dice: faults.status(500, work=dice.random() < 0.5),
    "503": lambda dice: faults.status(503, work=dice.random() < 0.5),
    "429": lambda dice: faults.status(429, headers=dice.choice([{}, {"Retry-After": "2"}])),
    "garbage": lambda dice: faults.status(200, "\x00{]" + "?" * dice.randrange(99), work=True),
    "cut": lambda dice: faults.cut(dice.randrange(60)),
    "page": lambda dice: faults.status(200, HTML, work=True),
}
LANDED = frozenset({State.ACCEPTED, State.COMPLETED, State.FAILED, State.LOST})
VERDICTS = {State.COMPLETED: "completed", State.FAILED: "failed"}
FEW = 10
"""How many ended jobs the list is asked for; those of unknown outcome come besides."""
WAITS = 4
EARLY, LATE = slice(5, 16), slice(20, 31)


class Weather(Scripts):
    """A fault for each request, or none, by the dice.

    Attributes:
        met: how many requests met which.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.met: Counter[str] = Counter()
        self._dice = random.Random(seed)

    def next(self, method: str, path: str) -> Fault:
        """The fault of this request; an honest answer takes the time it travels."""
        number = int(self._dice.random() / SHARE)
        name = [*FAULTS][number] if number < len(FAULTS) else "none"
        self.met[name] += 1
        if name == "none":
            return faults.held(faults.honest(), after=ROUND_TRIP)
        return FAULTS[name](self._dice)


@dataclass
class Soak:
    """What is left when all is over.

    Attributes:
        rows: all of the ledger.
        listed: handles of those that a short list shows.
        verdicts: what the sandbox says of each of its jobs.
        files: open file descriptors, each virtual minute; tasks: likewise.
        minutes: how long it took.
    """

    weather: Weather
    records: list[Record] = field(default_factory=list)
    listed: set[str] = field(default_factory=set)
    charges: list[Charge] = field(default_factory=list)
    verdicts: dict[str, str] = field(default_factory=dict)
    files: list[int] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    minutes: float = 0.0

    def look_around(self) -> None:
        """Count what is open."""
        self.files.append(len(os.listdir("/proc/self/fd")))
        self.tasks.append(len(asyncio.all_tasks()))

    def of(self, *states: State) -> list[Record]:
        """The rows in these states."""
        return [record for record in self.records if record.state in states]

    def charged(self, records: Iterable[Record]) -> int:
        """How many of these rows cost something, by the seed that was sent."""
        seeds = {charge.body["seed"] for charge in self.charges}
        return sum(record.seed in seeds for record in records)


async def soak(time: VirtualTime, seed: int) -> Soak:
    """Half an hour, and what it takes afterwards."""
    began = anyio.current_time()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        sandbox = await stack.enter_async_context(virtual_sandbox(time, TERMS))
        weather = sandbox.scripts = Weather(seed)
        opened = rooms(Path(folder), sandbox.api_base, time.clock())
        here = await stack.enter_async_context(opened)
        run = Soak(weather)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_look_around, run)
            await _submit_all(here.jobs)
            await _drain(here)
            tasks.cancel_scope.cancel()
        run.minutes = (anyio.current_time() - began) / MINUTE
        await _look_back(here, sandbox, run)
    return run


async def _look_around(run: Soak) -> None:
    while True:
        run.look_around()
        await anyio.sleep(MINUTE)


async def _submit_all(jobs: Jobs) -> None:
    async with anyio.create_task_group() as agents:
        for number in range(JOBS):
            agents.start_soon(_agent, jobs, number)
            await anyio.sleep(MINUTES * MINUTE / JOBS)


async def _agent(jobs: Jobs, number: int) -> None:
    """Submit one, and wait for it a few times, as an agent with little patience does."""
    try:
        id = (await jobs.submit(_film(number))).id
    except WanError as failure:
        if failure.job_id is None:
            return
        id = failure.job_id
    for _ in range(WAITS):
        with suppress(WanError):
            async for look in jobs.watch(id, 45):
                if require_view(look).settled:
                    return
        await anyio.sleep(5)


def _film(number: int) -> Replacement:
    """Most succeed and leave the seed to us; every tenth fails, and gives one."""
    fails = number % 10 == 0
    clip = "media/no-person" if fails else f"clip{number}"
    return Replacement(
        video=f"https://media.example/{clip}.mp4",
        character_image="https://media.example/face.png",
        seed=number if fails else None,
    )


async def _drain(here: Rooms) -> None:
    """Until nothing more happens by itself, or the patience is over."""
    for _ in range(LONGEST_DRAIN):
        if not any(map(_is_restless, await here.ledger.recent(here.account))):
            return
        await anyio.sleep(MINUTE)


def _is_restless(record: Record) -> bool:
    return record.state in LIVE and (
        record.state is not State.UNKNOWN or record.next_check_at is not None
    )


async def _look_back(here: Rooms, sandbox: Sandbox, run: Soak) -> None:
    run.look_around()
    run.records = await here.ledger.recent(here.account, limit=2 * JOBS)
    listed = await here.jobs.recent(None, FEW)
    run.listed = {each.record.submission_id for each in listed if each.record}
    run.charges = sandbox.charges
    run.verdicts = {id: sandbox.vendor.status(job) for id, job in sandbox.vendor.jobs.items()}


def judge_rows(report: Report, run: Soak) -> None:
    """Whether every submit has its verdict, and the right one."""
    unknown = run.of(State.UNKNOWN)
    ended = {record.job_id: VERDICTS.get(record.state) for record in run.of(*LANDED)}
    wrong = sum(run.verdicts.get(id or "") != verdict for id, verdict in ended.items())
    report.line("submits without a row", JOBS - len(run.records), 0)
    report.line("rows without a verdict", len(run.of(*LIVE - {State.UNKNOWN})), 0)
    report.line("verdicts that are not the sandbox's", wrong, 0)
    films = sum(record.video_url is None for record in run.of(State.COMPLETED))
    report.line("completed jobs without their film", films, 0)
    report.line(
        "unknown and not listed",
        sum(record.submission_id not in run.listed for record in unknown),
        0,
    )
    report.line("unknown and listed", len(unknown))
    report.line("of these, charged: films that nobody gets", run.charged(unknown))
    states = Counter(str(record.state) for record in run.records)
    report.line("completed", states["completed"], note=_counts(states))


def judge_money(report: Report, run: Soak) -> None:
    """Whether the sandbox's charges are those that the ledger knows of."""
    landed, unknown = run.of(*LANDED), run.of(State.UNKNOWN)
    repeats = Counter(charge.body["seed"] for charge in run.charges)
    report.line("charges", len(run.charges), len(landed) + len(unknown))
    report.line("requests charged twice", sum(n - 1 for n in repeats.values()), 0)
    report.line("charges without a row", len(repeats) - run.charged(run.records), 0)
    report.line("charges for rows called free", run.charged(run.of(*FREE_OF_CHARGE)), 0)
    report.line("rows called paid without a charge", len(landed) - run.charged(landed), 0)


def judge_growth(report: Report, run: Soak) -> None:
    """Whether open files and tasks stay level, and go when the work is done."""
    # One more connection that is kept for the next request: both its ends are here.
    for name, counts, kept in (("open files", run.files, 2), ("tasks", run.tasks, 0)):
        early, late = counts[EARLY], counts[LATE]
        note = f"from {min(early)}-{max(early)} to {min(late)}-{max(late)}, at the end {counts[-1]}"
        growth = median(late) - median(early)
        report.line(f"{name}: growth from minutes 5-15 to 20-30", growth, 5, note)
        report.line(f"{name}: more at the end than at first", counts[-1] - counts[0], kept)


def main() -> int:
    """Soak once; 0 when every target is met."""
    report = Report()
    run = virtually(partial(soak, seed=int([*sys.argv, "1"][1])))
    met = run.weather.met
    note = _counts(met)
    report.line("virtual minutes", run.minutes)
    report.line("requests that met a fault [%]", 100 * (1 - met["none"] / met.total()), note=note)
    for judge in (judge_rows, judge_money, judge_growth):
        judge(report, run)
    return 1 if report.missed else 0


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
