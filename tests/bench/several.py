"""What twenty takes cost an agent in calls and bytes: a loop of its own, and one wait for all.

Run it by hand, from the root of the project (half a minute on a quiet machine)::

    python -m tests.bench.several [jobs]

The agent and the real server are in one process, PixelDojo is the sandbox, and time is virtual. The
loop is what such a program had to write before a wait took several ids: places for as many jobs as
the limit allows, a repetition of what is safe to repeat, and a wait for each job. The other one
orders all and waits once. The bytes are those of all calls and of all answers as data, which is
what a model reads; a token is about four of them. If the second one needs another call, or brings
fewer videos, the exit code is 1.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from tests.bench.waiting import Report
from tests.connected import Host, connected
from tests.virtual_time import VirtualLoop, VirtualTime, watched_threads
from wan_mcp.sandbox import Terms

JOBS = 20
AT_ONCE = 3
BYTES_PER_TOKEN = 4
TERMS = Terms(pending_seconds=5, processing_seconds=85, credits=100_000)
ROOM = {"WAN_MCP_MAX_CREDITS_PER_DAY": "100000", "WAN_MCP_MAX_SUBMITS_PER_MINUTE": "60"}


@dataclass
class Agent:
    """A program that calls tools, and what it has cost.

    Attributes:
        calls: how many calls it has made.
        bytes: of their arguments and their answers.
        videos: the links to the finished videos.
    """

    host: Host
    calls: int = 0
    bytes: int = 0
    videos: set[str] = field(default_factory=set)

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The answer of one call."""
        answer = await self.host.call(tool, **arguments)
        self.calls += 1
        self.bytes += len(json.dumps([tool, arguments])) + len(json.dumps(answer))
        return answer

    def order(self, seed: int) -> dict[str, Any]:
        """The arguments of one take."""
        sandbox = self.host.sandbox
        return {
            "video": sandbox.source_video_url,
            "character_image": sandbox.image_url,
            "seed": seed,
        }


async def by_a_loop(agent: Agent, jobs: int) -> None:
    """The script of before: places, repetitions and waits by hand."""
    places = anyio.CapacityLimiter(AT_ONCE)

    async def safely(tool: str, **arguments: Any) -> dict[str, Any]:
        while True:
            answer = await agent.call(tool, **arguments)
            if not answer.get("retry_safe"):
                return answer
            await anyio.sleep(answer.get("retry_after_seconds", 10))

    async def one(seed: int) -> None:
        async with places:
            answer = await safely("replace_character", **agent.order(seed))
            while answer.get("status") in ("submitting", "running"):
                answer = await safely("wait_for_job", job_id=answer["job_id"])
            agent.videos.add(answer["video_url"])

    async with anyio.create_task_group() as tasks:
        for seed in range(1, jobs + 1):
            tasks.start_soon(one, seed)


async def by_one_wait(agent: Agent, jobs: int) -> None:
    """All orders at once, and one wait."""
    orders = [agent.call("replace_character", **agent.order(n)) for n in range(1, jobs + 1)]
    answers = await asyncio.gather(*orders)
    ids = ",".join(answer["job_id"] for answer in answers)
    waited = await agent.call("wait_for_job", job_id=ids, timeout_seconds=900)
    agent.videos.update(job["video_url"] for job in waited["jobs"])


async def measured(
    program: Callable[[Agent, int], Awaitable[None]], jobs: int, time: VirtualTime, folder: Path
) -> tuple[Agent, float]:
    """What a program has cost, and the seconds that it took."""
    in_flight = AT_ONCE if program is by_a_loop else jobs
    settings = {**ROOM, "WAN_MCP_MAX_IN_FLIGHT": str(in_flight)}
    async with connected(time, folder, terms=TERMS, settings=settings) as host:
        agent = Agent(host)
        began = time.now
        await program(agent, jobs)
        return agent, time.now - began


def run(program: Callable[[Agent, int], Awaitable[None]], jobs: int) -> tuple[Agent, float]:
    """The same in virtual time, with a ledger of its own."""
    time = VirtualTime(0.0)
    with TemporaryDirectory() as folder, watched_threads():
        loop = VirtualLoop(time, sockets=True)
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(measured(program, jobs, time, Path(folder)))


def main() -> int:
    """Run both. Returns 0 if no target is missed."""
    report, jobs = Report(), int([*sys.argv, str(JOBS)][1])
    for name, program in (("a loop of its own", by_a_loop), ("one wait", by_one_wait)):
        agent, seconds = run(program, jobs)
        target = jobs + 1 if program is by_one_wait else None
        report.line(name, jobs)
        report.line("  calls", agent.calls, target)
        report.line("  bytes", agent.bytes)
        report.line("  tokens, about", agent.bytes / BYTES_PER_TOKEN)
        report.line("  seconds until the last video", seconds)
        report.line("  videos that are missing", jobs - len(agent.videos), 0)
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
