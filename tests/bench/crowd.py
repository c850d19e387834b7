"""A thousand waiters at one server, and four servers on one ledger, in real time.

Run it by hand, on a quiet machine, from the root of the project (about four minutes)::

    python -m tests.bench.crowd [waiters] [on_postgres] [processes]

The sandbox runs in this process, and its jobs never end. Memory and answer times are measured with
the unchanged `python -m wan_mcp`. The lag of its event loop is measured in a second run, in which
an additional task inside the server sleeps and notes how late it wakes. The memory of a server with
its ledger in PostgreSQL is measured with a PostgreSQL that is started for this. If a target is
missed, the exit code is 1.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any
from unittest.mock import patch

import anyio

from tests.bench.bench import HELLO, OURS
from tests.bench.database import count_connections, own_server
from tests.bench.hand_over import hand_overs, run_process
from tests.bench.servers import Scene, opened_scene
from tests.bench.waiting import Report
from tests.memory import most_memory
from tests.postgres.server import Server as Database
from wan_mcp import __main__ as program
from wan_mcp.ledger.postgres.connection import connect
from wan_mcp.ledger.postgres.migrations import migrate
from wan_mcp.models import Job, JobStatus
from wan_mcp.sandbox import Terms
from wan_mcp.transports import stdio

WAITERS, WATCHED_JOBS, ENDED_JOBS = 1_000, 100, 10
SETTLE_SECONDS, MEASURED_SECONDS = 5.0, 30.0
CHECK_INTERVAL_SECONDS, TICK_SECONDS = 0.02, 0.01
TERMS = Terms(credits=1e6, requests_per_minute=60, list_cap=200)
SELF = [sys.executable, "-m", "tests.bench.crowd"]


class Host:
    """A host with many open calls at one server.

    Attributes:
        leaves: whether the server may end, because its standard input is being closed.
        notifications: how many progress notifications have arrived.
        all_informed: is set when every waiter has got one.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.leaves = False
        self.notifications = 0
        self.all_informed = asyncio.Event()
        self._informed: set[int] = set()
        self._process = process
        self._calls = 0
        self._open: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send one request. Returns its result."""
        self._calls += 1
        number = self._calls
        answer = self._open[number] = asyncio.get_running_loop().create_future()
        if method == "tools/call":
            params = {**params, "_meta": {"progressToken": number}}
        self.send({"id": number, "method": method, "params": params})
        result: dict[str, Any] = await answer
        return result

    async def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        """Call one tool. Returns its structured result, which must not be an error."""
        result = await self.ask("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise RuntimeError(result)
        answer: dict[str, Any] = result["structuredContent"]
        return answer

    def cancel_all(self) -> None:
        """Cancel every open call, as a host does."""
        for number, answer in self._open.items():
            cancelled = {"requestId": number, "reason": "measured"}
            self.send({"method": "notifications/cancelled", "params": cancelled})
            answer.cancel()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def hang_up(self) -> None:
        """Send nothing more: a server ends then."""
        assert self._process.stdin
        self._process.stdin.close()

    async def listen(self) -> None:
        """Read what the server sends until it ends.

        Raises:
            RuntimeError: it ended by itself, so no open call will ever be answered.
        """
        assert self._process.stdout
        async for line in self._process.stdout:
            message = json.loads(line)
            if message.get("method") == "notifications/progress":
                self._note(message["params"]["progressToken"])
            elif not (answer := self._open.pop(message["id"])).cancelled():
                answer.set_result(message["result"])
        if not self.leaves:
            raise RuntimeError("the server ended by itself; its last words are above")

    def _note(self, call: int) -> None:
        self.notifications += 1
        self._informed.add(call)
        if len(self._informed) >= WAITERS:
            self.all_informed.set()

    def peak(self) -> float:
        """The peak of the server's resident memory in MB (Linux)."""
        return most_memory(self._process.pid) / 1e6


@asynccontextmanager
async def served(command: Sequence[str], scene: Scene) -> AsyncIterator[Host]:
    """An initialized server that uses that sandbox. It ends when its standard input is closed."""
    given = {
        **scene.settings,
        # The ledger answers what is measured here: no video is downloaded or decoded.
        "WAN_MCP_ARCHIVE": "off",
        "WAN_MCP_POSTER": "off",
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, limit=1 << 20, env={**os.environ, **given}
    )
    host = Host(process)
    try:
        # If the server ends by itself, `listen` fails, and the group cancels whatever waits here.
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(host.listen())
            await host.ask("initialize", HELLO)
            host.send({"method": "notifications/initialized"})
            yield host
            host.leaves = True
            host.hang_up()
            await process.wait()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        host.hang_up()
        await process.wait()


@dataclass
class Crowd:
    """What was measured with a thousand waiters.

    Attributes:
        checks: how long each check of an ended job took, in seconds.
        peak: the peak of the server's memory, in MB.
        notifications_per_second: progress notifications a second.
        began, ended: the measured time, on the monotonic clock.
    """

    checks: list[float] = field(default_factory=list)
    peak: float = 0.0
    notifications_per_second: float = 0.0
    began: float = 0.0
    ended: float = 0.0


async def crowd(command: Sequence[str], database: str | None = None) -> Crowd:
    """Let waiters wait at one server, and check ended jobs meanwhile.

    Args:
        database: of the ledger, see `opened_scene`.
    """
    found = Crowd()
    async with opened_scene(TERMS, WATCHED_JOBS + ENDED_JOBS, database) as scene:
        running, ended = scene.ids[:WATCHED_JOBS], scene.ids[WATCHED_JOBS:]
        for job_id in ended:
            video = f"https://temp.pixeldojo.ai/{job_id}.mp4"
            done = Job(job_id=job_id, status=JobStatus.COMPLETED, video_url=video)
            await scene.ledger.record_update(scene.account, done)
        async with served(command, scene) as host:
            waits = [
                asyncio.create_task(
                    host.call("wait_for_job", job_id=running[n % WATCHED_JOBS], timeout_seconds=900)
                )
                for n in range(WAITERS)
            ]
            await host.all_informed.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            await _measure(host, ended, found)
            if returned := sum(wait.done() for wait in waits):
                raise RuntimeError(f"{returned} calls did not wait")
            host.cancel_all()
            await asyncio.wait(waits)
    return found


async def _measure(host: Host, ended: Sequence[str], found: Crowd) -> None:
    before = host.notifications
    found.began = monotonic()
    async with asyncio.TaskGroup() as checks:
        # Not one after the other: a slow answer would delay the checks that would be slow too.
        for number in range(round(MEASURED_SECONDS / CHECK_INTERVAL_SECONDS)):
            checks.create_task(_check(host, ended[number % ENDED_JOBS], found.checks))
            await asyncio.sleep(found.began + (number + 1) * CHECK_INTERVAL_SECONDS - monotonic())
    found.ended = monotonic()
    found.notifications_per_second = (host.notifications - before) / (found.ended - found.began)
    found.peak = host.peak()


async def _check(host: Host, job_id: str, times: list[float]) -> None:
    began = monotonic()
    answer = await host.call("get_job_status", job_id=job_id)
    times.append(monotonic() - began)
    assert answer["status"] == "completed"


def serve_and_watch(log: str) -> int:
    """Run the server, with an additional task that notes how late the event loop wakes it."""
    serve_stdio = stdio.serve_stdio
    lags: list[tuple[float, float]] = []

    async def watch() -> None:
        while True:
            due = monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            lags.append((due, max(monotonic() - due, 0.0)))

    async def watched(*given: Any) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await serve_stdio(*given)
            tasks.cancel_scope.cancel()
        Path(log).write_text(json.dumps(lags))  # noqa: ASYNC240 - the server has ended

    sys.argv = ["wan-mcp"]
    with patch.object(stdio, "serve_stdio", watched):
        return program.main()


def lag_at_any_moment(lags: Sequence[tuple[float, float]], found: Crowd) -> list[float]:
    """How late work would have run that was due at any tick, also at ticks during a lag."""
    return [
        lag - late
        for due, lag in lags
        if found.began <= due <= found.ended
        for late in (TICK_SECONDS * n for n in range(int(lag / TICK_SECONDS) + 1))
    ]


def waiters(report: Report) -> None:
    """Measure memory, answers from the ledger, and the event loop with a thousand waiters."""
    found = asyncio.run(crowd(OURS))
    report.line("1,000 waiters: memory at its peak [MB]", found.peak, 150)
    checks = [1000 * seconds for seconds in found.checks]
    note = f"median {median(checks):.1f}, longest {max(checks):.0f}, {len(checks)} checks"
    report.line("1,000 waiters: status from the ledger, p99 [ms]", p99(checks), 20, note)
    report.line("1,000 waiters: progress notifications a second", found.notifications_per_second)
    with TemporaryDirectory() as folder:
        log = Path(folder) / "lags"
        found = asyncio.run(crowd([*SELF, "server", str(log)]))
        lags = [1000 * lag for lag in lag_at_any_moment(json.loads(log.read_text()), found)]
    note = f"median {median(lags):.1f}, longest {max(lags):.0f}"
    report.line("1,000 waiters: event-loop lag, p99 [ms]", p99(lags), 50, note)


def on_postgres(report: Report) -> None:
    """Measure memory and connections with a thousand waiters and the ledger in PostgreSQL."""
    with own_server() as database:
        with connect(database.url()) as plain:
            migrate(plain)
        found, connections = asyncio.run(_counted_crowd(database))
    what = "PostgreSQL, 1,000 waiters"
    report.line(f"{what}: memory at its peak [MB]", found.peak, 130)
    report.line(f"{what}: connections, with this bench's own", max(connections), 8)


async def _counted_crowd(database: Database) -> tuple[Crowd, list[int]]:
    connections = list[int]()
    counting = asyncio.create_task(count_connections(database, connections))
    found = await crowd(OURS, database.url())
    counting.cancel()
    return found, connections


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return quantiles(values, n=100)[98]


def processes(report: Report) -> None:
    """Measure that one process polls at a time, and how soon another one takes over."""
    seen = asyncio.run(hand_overs())
    note = f"{seen.requests} requests, in turn by {', '.join(seen.agents)}"
    extra = len(seen.agents) - 3
    report.line("4 processes, 200 jobs: changes of poller without need", extra, 0, note)
    for how, (first, whole) in (("killed", seen.killed), ("stopped", seen.stopped)):
        report.line(f"its poller {how}: another one polls after [s]", first, 30)
        report.line(f"its poller {how}: every job was read after [s]", whole, 30)


SCENARIOS: dict[str, Callable[[Report], None]] = {
    "waiters": waiters,
    "on_postgres": on_postgres,
    "processes": processes,
}


def main(given: Sequence[str]) -> int:
    """Run the named scenarios, or all; 0 when every target is met."""
    match given:
        case ["server", log]:
            return serve_and_watch(log)
        case ["process", folder, base, number]:
            asyncio.run(run_process(folder, base, int(number)))
            return 0
    report = Report()
    for name in given or SCENARIOS:
        SCENARIOS[name](report)
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
