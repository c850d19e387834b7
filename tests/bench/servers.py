"""What the benches share: a server without MCP, and a sandbox whose jobs the ledger knows."""

import asyncio
import time as real
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from unittest.mock import patch

import anyio

from tests.virtual_time import VirtualLoop, VirtualTime, watched_threads
from wan_mcp.clock import Clock
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.contract import Ledger
from wan_mcp.ledger.postgres.engine import PostgresLedger
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.ledger.wallets.workspace import Whose
from wan_mcp.models import Job, JobStatus, Replacement
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.pixeldojo.wire import run_body
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.sandbox import KEY, Fault, Sandbox, Terms
from wan_mcp.sandbox.http import faults
from wan_mcp.sandbox.http.faults import Scripts

ROUND_TRIP_SECONDS = 0.2
ENDLESS_VIDEO = "https://media.example/media/endless.mp4"
"""The video of a job that never ends in the sandbox."""
NO_LIMITS = SpendingLimits(None, None, None, None)

T = TypeVar("T")


@dataclass(frozen=True)
class Server:
    """A server without MCP."""

    jobs: Jobs
    ledger: Ledger
    account: str
    limiter: SharedRateLimiter


@asynccontextmanager
async def opened_server(
    folder: Path,
    base: str,
    clock: Clock | None = None,
    *,
    agent: str = "wan-mcp",
    limiter_type: type[SharedRateLimiter] = SharedRateLimiter,
) -> AsyncIterator[Server]:
    """A server with its background tasks, built as wan-mcp builds it; no spending limits."""
    clock = clock or Clock()
    ledger = SQLiteLedger(folder, limits=NO_LIMITS, now=clock.wall)
    account = partial(ledger.account, base, KEY)
    limiter = limiter_type(ledger.coordination, account, clock)
    dojo = PixelDojo(base, KEY, agent=agent, limiter=limiter)
    async with anyio.create_task_group() as background:
        jobs = Jobs(dojo, ledger, account, limiter, background, clock)
        background.start_soon(jobs.run)
        yield Server(jobs, ledger, await account(), limiter)
        background.cancel_scope.cancel()
    await dojo.aclose()
    await ledger.aclose()


async def add_running_jobs(
    sandbox: Sandbox, ledger: Ledger, account: Whose, count: int
) -> list[str]:
    """Add endless jobs to the sandbox and the ledger without a request. Returns their ids."""
    ids = []
    for number in range(count):
        wanted = Replacement(video=ENDLESS_VIDEO, character_image=sandbox.image_url, seed=number)
        job_id = sandbox.vendor.run(KEY, run_body(wanted)).id
        claim = await ledger.claim(account, wanted, generated_seed=number, estimate=10)
        await ledger.commit_sending(claim.record)
        await ledger.accept(claim.record, Job(job_id=job_id, status=JobStatus.RUNNING))
        ids.append(job_id)
    return ids


@asynccontextmanager
async def virtual_sandbox(time: VirtualTime, terms: Terms) -> AsyncIterator[Sandbox]:
    """A sandbox in virtual time, which sends real dates because the client compares them."""
    sandbox = Sandbox(terms, clock=time.monotonic, idle_seconds=1e9)

    def unix_time(at: float | None = None) -> float:
        return real.time() + (0.0 if at is None else at - time.now)

    # X-RateLimit-Reset is a date, and the client compares it with the date of this computer.
    with patch.object(sandbox.vendor, "unix_time", unix_time):
        async with sandbox:
            yield sandbox


def virtually(work: Callable[[VirtualTime], Coroutine[Any, Any, T]]) -> T:
    """Run `work` in virtual time, with real sockets."""
    time = VirtualTime()
    loop = partial(VirtualLoop, time, sockets=True)
    with (
        watched_threads(),
        patch("httpcore._async.http11.time", time),  # decides when idle connections are closed
        asyncio.Runner(loop_factory=loop) as runner,
    ):
        return runner.run(work(time))


class ArrivalLog(Scripts):
    """Notes when each request arrives at the sandbox."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self.arrived: list[tuple[float, str]] = []
        self._now = now

    def next(self, method: str, path: str) -> Fault:
        """The fault of a request; without one, an honest answer after the round trip."""
        self.arrived.append((self._now(), method))
        return super().next(method, path) or faults.held(faults.honest(), after=ROUND_TRIP_SECONDS)


async def wait(jobs: Jobs, job_id: str) -> None:
    """Wait for a job until cancelled."""
    while True:
        async for _ in jobs.watch(job_id, 900):
            pass


@dataclass(frozen=True)
class Scene:
    """A sandbox, and a ledger that knows the sandbox's jobs.

    Attributes:
        settings: of a server that uses both.
    """

    sandbox: Sandbox
    settings: dict[str, str]
    ledger: Ledger
    account: str
    ids: list[str]


@asynccontextmanager
async def opened_scene(
    terms: Terms, count: int, database: str | None = None
) -> AsyncIterator[Scene]:
    """A sandbox and a ledger with `count` running jobs, for which no request was made.

    Args:
        database: the URL of a migrated database for the ledger; None for a file.
    """
    async with AsyncExitStack() as stack:
        data = Path(stack.enter_context(TemporaryDirectory()))
        sandbox = await stack.enter_async_context(Sandbox(terms))
        sandbox.scripts = ArrivalLog(real.monotonic)
        settings = {
            "PIXELDOJO_API_KEY": KEY,
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "WAN_MCP_DATA_DIR": str(data),
        }
        ledger: Ledger
        if database is None:
            ledger = SQLiteLedger(data / "ledger", limits=NO_LIMITS)
        else:
            ledger = PostgresLedger(database, limits=NO_LIMITS)
            settings["WAN_MCP_LEDGER_URL"] = database
        stack.push_async_callback(ledger.aclose)
        account = await ledger.account(sandbox.api_base, KEY)
        ids = await add_running_jobs(sandbox, ledger, account, count)
        yield Scene(sandbox, settings, ledger, account, ids)
