"""Four processes on one ledger: which of them polls, and which one takes over when it is gone.

This is a part of `tests.bench.crowd`, which is run by hand. Time and processes are real.
"""

import math
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from time import monotonic

import anyio

from tests.bench.servers import Scene, opened_scene, opened_server, wait
from wan_mcp.sandbox import Terms

PROCESSES, JOBS = 4, 200
CALM_SECONDS, MAX_TAKE_OVER_SECONDS = 15.0, 60.0
TERMS = Terms(credits=1e6, requests_per_minute=60, list_cap=JOBS)
COMMAND = [sys.executable, "-m", "tests.bench.crowd", "process"]


class Processes:
    """Processes on one ledger, each with a user agent of its own."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        folder = Path(scene.settings["WAN_MCP_DATA_DIR"]) / "ledger"
        self._running = {
            f"process/{number}": subprocess.Popen(
                [*COMMAND, str(folder), scene.sandbox.api_base, str(number)]
            )
            for number in range(PROCESSES)
        }

    def signal(self, agent: str, number: signal.Signals) -> None:
        """Send a signal to the process with this user agent.

        Raises:
            RuntimeError: a process has ended that nobody killed.
        """
        self._require_all()
        self._running[agent].send_signal(number)
        if number is signal.SIGKILL:
            self._running.pop(agent).wait()

    def close(self) -> None:
        """Kill all processes."""
        for process in self._running.values():
            process.kill()
            process.wait()

    def _require_all(self) -> None:
        for agent, process in self._running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{agent} ended with {process.returncode}")

    def agents(self) -> list[str]:
        """The user agent of each request, in the order of arrival."""
        return [request.headers["user-agent"] for request in self._scene.sandbox.requests]

    async def taken_over(self, agent: str) -> tuple[float, float]:
        """Seconds until another process polls, and until it has read every job."""
        began, date = monotonic(), datetime.now(UTC)
        first = math.inf
        with anyio.move_on_after(MAX_TAKE_OVER_SECONDS):
            await self._scene.sandbox.until(lambda: self.agents()[-1] != agent)
            first = monotonic() - began
            while True:
                records = await self._scene.ledger.recent(self._scene.account)
                if all(
                    record.last_polled_at is not None and record.last_polled_at > date
                    for record in records
                ):
                    return first, monotonic() - began
                await anyio.sleep(0.2)
        return first, math.inf


async def run_process(folder: str, base: str, number: int) -> None:
    """Run one process with waiters for its share of the jobs."""
    async with opened_server(Path(folder), base, agent=f"process/{number}") as server:
        found = await server.jobs.recent(None, 0)
        async with anyio.create_task_group() as tasks:
            for view in found[number::PROCESSES]:
                tasks.start_soon(wait, server.jobs, view.id)


@dataclass
class HandOvers:
    """What the sandbox saw of four processes.

    Attributes:
        killed, stopped: seconds until another process polled, and until it had read every job.
        agents: the user agents in the order in which they polled.
        requests: how many requests there were.
    """

    killed: tuple[float, float]
    stopped: tuple[float, float]
    agents: list[str]
    requests: int


async def hand_overs() -> HandOvers:
    """Kill the process that polls, and stop the next one for a while."""
    async with opened_scene(TERMS, JOBS) as scene:
        processes = Processes(scene)
        try:
            await anyio.sleep(CALM_SECONDS)
            processes.signal(poller := processes.agents()[-1], signal.SIGKILL)
            killed = await processes.taken_over(poller)
            await anyio.sleep(CALM_SECONDS)
            processes.signal(poller := processes.agents()[-1], signal.SIGSTOP)
            stopped = await processes.taken_over(poller)
            await anyio.sleep(CALM_SECONDS)
            processes.signal(poller, signal.SIGCONT)
            await anyio.sleep(CALM_SECONDS)
        finally:
            processes.close()
        agents = processes.agents()
    in_turn = [agent for agent, _ in groupby(agents)]
    return HandOvers(killed, stopped, in_turn, len(agents))
