"""A thousand waiters at one server, and four servers on one ledger. Real time, real processes.

Run by hand, on a quiet machine, from the root of the project (about three minutes)::

    python -m tests.bench.crowd [waiters] [processes]

The sandbox runs in this process; its jobs never end. Memory and answers are measured at
`python -m wan_mcp` as it is; the lag of its event loop in a second run, in which a task of ours
inside the server sleeps and looks how late it wakes. A target that is missed makes the exit code 1.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any
from unittest.mock import patch

import anyio

from tests.bench.bench import HELLO, OURS
from tests.bench.hand_over import be_a_server, hand_overs
from tests.bench.rooms import Scene, scene
from tests.bench.waiting import Report
from wan_mcp import __main__ as program
from wan_mcp.models import Job, JobStatus
from wan_mcp.sandbox import KEY, Terms
from wan_mcp.transports import stdio

WAITERS, WAITED_FOR, ENDED = 1_000, 100, 10
SETTLING, MEASURED = 5.0, 30.0
LOOK_EVERY, TICK = 0.02, 0.01
TERMS = Terms(credits=1e6, requests_per_minute=60, list_cap=200)
SELF = [sys.executable, "-m", "tests.bench.crowd"]


class Host:
    """What keeps many calls open at one server.

    Attributes:
        news: how many progress messages came.
        all_informed: every waiter has had one.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.update = 0
        self.all_informed = asyncio.Event()
        self._informed: set[int] = set()
        self._process = process
        self._calls = 0
        self._open: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """One request; its result."""
        self._calls += 1
        number = self._calls
        answer = self._open[number] = asyncio.get_running_loop().create_future()
        if method == "tools/call":
            params = {**params, "_meta": {"progressToken": number}}
        self.send({"id": number, "method": method, "params": params})
        result: dict[str, Any] = await answer
        return result

    async def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        """Call one tool; what it tells, which must not be an error."""
        result = await self.ask("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise RuntimeError(result)
        answer: dict[str, Any] = result["structuredContent"]
        return answer

    def cancel_all(self) -> None:
        """Give up every open call, as a host does."""
        for number, answer in self._open.items():
            given_up = {"requestId": number, "reason": "measured"}
            self.send({"method": "notifications/cancelled", "params": given_up})
            answer.cancel()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message as it is."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def listen(self) -> None:
        """Take in what the server says, to its end."""
        assert self._process.stdout
        async for line in self._process.stdout:
            said = json.loads(line)
            if said.get("method") == "notifications/progress":
                self._note(said["params"]["progressToken"])
            elif not (answer := self._open.pop(said["id"])).cancelled():
                answer.set_result(said["result"])

    def _note(self, call: int) -> None:
        self.update += 1
        self._informed.add(call)
        if len(self._informed) >= WAITERS:
            self.all_informed.set()

    def peak(self) -> float:
        """The most memory in MB that the server ever held (Linux)."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise RuntimeError("no VmHWM")


@asynccontextmanager
async def served(command: Sequence[str], place: Scene) -> AsyncIterator[Host]:
    """A server at that sandbox, greeted, and ended by the end of its input."""
    given = {
        "PIXELDOJO_API_KEY": KEY,
        "PIXELDOJO_API_BASE": place.sandbox.api_base,
        "WAN_MCP_DATA_DIR": str(place.data),
        # What is measured is answered from the ledger: nothing is to be fetched or drawn.
        "WAN_MCP_ARCHIVE": "off",
        "WAN_MCP_POSTER": "off",
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, limit=1 << 20, env={**os.environ, **given}
    )
    host = Host(process)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(host.listen())
        await host.ask("initialize", HELLO)
        host.send({"method": "notifications/initialized"})
        yield host
        assert process.stdin
        process.stdin.close()
        await process.wait()


@dataclass
class Crowd:
    """What a thousand waiters met.

    Attributes:
        looks: seconds that each look at an ended job took.
        peak: memory of the server, MB.
        news: progress messages a second.
        began: when the measured time began, monotonic; ended: when it was over.
    """

    looks: list[float] = field(default_factory=list)
    peak: float = 0.0
    update: float = 0.0
    began: float = 0.0
    ended: float = 0.0


async def crowd(command: Sequence[str]) -> Crowd:
    """Waiters at one server for a while, and looks at what has ended beside them."""
    found = Crowd()
    async with scene(TERMS, WAITED_FOR + ENDED) as place:
        running, ended = place.ids[:WAITED_FOR], place.ids[WAITED_FOR:]
        for job_id in ended:
            film = f"https://temp.pixeldojo.ai/{job_id}.mp4"
            done = Job(job_id=job_id, status=JobStatus.COMPLETED, video_url=film)
            await place.ledger.record_update(place.account, done)
        async with served(command, place) as host:
            waits = [
                asyncio.create_task(
                    host.call("wait_for_job", job_id=running[n % WAITED_FOR], timeout_seconds=900)
                )
                for n in range(WAITERS)
            ]
            await host.all_informed.wait()
            await asyncio.sleep(SETTLING)
            await _measure(host, ended, found)
            if not_waiting := sum(wait.done() for wait in waits):
                raise RuntimeError(f"{not_waiting} calls did not wait")
            host.cancel_all()
            await asyncio.wait(waits)
    return found


async def _measure(host: Host, ended: Sequence[str], found: Crowd) -> None:
    update = host.update
    found.began = monotonic()
    async with asyncio.TaskGroup() as looks:
        # Not one after the other: while a slow answer is waited for, the next ones are slow too.
        for number in range(round(MEASURED / LOOK_EVERY)):
            looks.create_task(_look(host, ended[number % ENDED], found.looks))
            await asyncio.sleep(found.began + (number + 1) * LOOK_EVERY - monotonic())
    found.ended = monotonic()
    found.update = (host.update - update) / (found.ended - found.began)
    found.peak = host.peak()


async def _look(host: Host, job_id: str, looks: list[float]) -> None:
    began = monotonic()
    answer = await host.call("get_job_status", job_id=job_id)
    looks.append(monotonic() - began)
    assert answer["status"] == "completed"


def serve_and_watch(log: str) -> int:
    """Be the server, as it is, beside a task that notes how late the event loop wakes it."""
    plain = stdio.serve_stdio
    lags: list[tuple[float, float]] = []

    async def watch() -> None:
        while True:
            due = monotonic() + TICK
            await asyncio.sleep(TICK)
            lags.append((due, max(monotonic() - due, 0.0)))

    async def watched(server: Any) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await plain(server)
            tasks.cancel_scope.cancel()
        Path(log).write_text(json.dumps(lags))  # noqa: ASYNC240 - nothing is served any more

    sys.argv = ["wan-mcp"]
    with patch.object(stdio, "serve_stdio", watched):
        return program.main()


def lag_at_any_moment(lags: Sequence[tuple[float, float]], found: Crowd) -> list[float]:
    """How late a thing would have run that was due at any tick, also at those slept through."""
    return [
        lag - late
        for due, lag in lags
        if found.began <= due <= found.ended
        for late in (TICK * n for n in range(int(lag / TICK) + 1))
    ]


def waiters(report: Report) -> None:
    """Memory, answers from the ledger, and the event loop under a thousand waiters."""
    found = asyncio.run(crowd(OURS))
    report.line("1,000 waiters: memory at its peak [MB]", found.peak, 150)
    looks = [1000 * seconds for seconds in found.looks]
    note = f"median {median(looks):.1f}, longest {max(looks):.0f}, {len(looks)} looks"
    report.line("1,000 waiters: status from the ledger, p99 [ms]", p99(looks), 20, note)
    report.line("1,000 waiters: progress messages a second", found.update)
    with TemporaryDirectory() as folder:
        log = Path(folder) / "lags"
        found = asyncio.run(crowd([*SELF, "server", str(log)]))
        lags = [1000 * lag for lag in lag_at_any_moment(json.loads(log.read_text()), found)]
    note = f"median {median(lags):.1f}, longest {max(lags):.0f}"
    report.line("1,000 waiters: event-loop lag, p99 [ms]", p99(lags), 50, note)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return quantiles(values, n=100)[98]


def processes(report: Report) -> None:
    """One process polls at a time, and when it is gone another one does."""
    seen = asyncio.run(hand_overs())
    note = f"{seen.requests} requests, in turn by {', '.join(seen.agents)}"
    extra = len(seen.agents) - 3
    report.line("4 processes, 200 jobs: changes of poller without need", extra, 0, note)
    for how, (first, whole) in (("killed", seen.killed), ("stopped", seen.stopped)):
        report.line(f"its poller {how}: another one polls after [s]", first, 30)
        report.line(f"its poller {how}: every job was asked for after [s]", whole, 30)


SCENARIOS: dict[str, Callable[[Report], None]] = {"waiters": waiters, "processes": processes}


def main(given: Sequence[str]) -> int:
    """Run the named scenarios, or all; 0 when every target is met."""
    match given:
        case ["server", log]:
            return serve_and_watch(log)
        case ["process", folder, base, number]:
            asyncio.run(be_a_server(folder, base, int(number)))
    report = Report()
    for name in given or SCENARIOS:
        SCENARIOS[name](report)
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
