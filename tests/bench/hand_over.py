"""Four servers on one ledger: who of them polls, and who does when that one is gone.

Part of `tests.bench.crowd`, which is run by hand. Real time, real processes.
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

from tests.bench.rooms import Scene, rooms, scene, wait
from wan_mcp.sandbox import Terms

PROCESSES, JOBS = 4, 200
CALM, PATIENCE = 15.0, 60.0
TERMS = Terms(credits=1e6, requests_per_minute=60, list_cap=JOBS)
COMMAND = [sys.executable, "-m", "tests.bench.crowd", "process"]


class Servers:
    """Processes on one ledger, each with its agent's name."""

    def __init__(self, place: Scene) -> None:
        self._place = place
        self._running = {
            f"process/{number}": subprocess.Popen(
                [*COMMAND, str(place.data / "ledger"), place.sandbox.api_base, str(number)]
            )
            for number in range(PROCESSES)
        }

    def signal(self, agent: str, number: signal.Signals) -> None:
        """Send a signal to one."""
        self._running[agent].send_signal(number)

    def close(self) -> None:
        """End all of them."""
        for process in self._running.values():
            process.kill()
            process.wait()

    def agents(self) -> list[str]:
        """Whose each request was, in the order of their arrival."""
        return [request.headers["user-agent"] for request in self._place.sandbox.requests]

    async def taken_over(self, agent: str) -> tuple[float, float]:
        """Seconds until another process polls, and until it has asked for every job."""
        began, date = monotonic(), datetime.now(UTC)
        first = math.inf
        with anyio.move_on_after(PATIENCE):
            await self._place.sandbox.until(lambda: self.agents()[-1] != agent)
            first = monotonic() - began
            while True:
                records = await self._place.ledger.recent(self._place.account)
                if all(
                    record.last_polled_at is not None and record.last_polled_at > date
                    for record in records
                ):
                    return first, monotonic() - began
                await anyio.sleep(0.2)
        return first, math.inf


async def be_a_server(folder: str, base: str, number: int) -> None:
    """One process: its rooms, and waiters for its share of the jobs."""
    async with rooms(Path(folder), base, agent=f"process/{number}") as here:
        found = await here.jobs.recent(None, 0)
        async with anyio.create_task_group() as tasks:
            for view in found[number::PROCESSES]:
                tasks.start_soon(wait, here.jobs, view.id)


@dataclass
class HandOvers:
    """What the vendor saw of four processes.

    Attributes:
        killed, stopped: seconds until another polled, and until it had asked for every job.
        agents: whose the requests were, each after its hand-over.
        requests: how many there were.
    """

    killed: tuple[float, float]
    stopped: tuple[float, float]
    agents: list[str]
    requests: int


async def hand_overs() -> HandOvers:
    """Kill the process that polls; stop the next one for a while."""
    async with scene(TERMS, JOBS) as place:
        servers = Servers(place)
        try:
            await anyio.sleep(CALM)
            servers.signal(poller := servers.agents()[-1], signal.SIGKILL)
            killed = await servers.taken_over(poller)
            await anyio.sleep(CALM)
            servers.signal(poller := servers.agents()[-1], signal.SIGSTOP)
            stopped = await servers.taken_over(poller)
            await anyio.sleep(CALM)
            servers.signal(poller, signal.SIGCONT)
            await anyio.sleep(CALM)
        finally:
            servers.close()
        agents = servers.agents()
    in_turn = [agent for agent, _ in groupby(agents)]
    return HandOvers(killed, stopped, in_turn, len(agents))
