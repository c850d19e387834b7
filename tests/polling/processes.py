"""Several processes on one ledger, without MCP, and a simulated PixelDojo, in virtual time."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import anyio
import anyio.lowlevel
import httpx
import pytest

from tests.ledger.stores import sent
from tests.virtual_time import VirtualTime
from wan_mcp.errors import WanError
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.contract import Ledger, LedgerUnavailable, VideoPolicy
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.ledger.sqlite.liveness import ProcessLock
from wan_mcp.models import Job, JobStatus, Replacement
from wan_mcp.payments.input_check import Preflight
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.videos.saver import Archive

BASE = "https://api.example/api/v1"
NO_LIMITS = SpendingLimits(None, None, None, None)
LIST = "jobs"

Answer = tuple[int, Any, dict[str, str]]


def job_body(name: str, status: str = "pending", **facts: object) -> dict[str, object]:
    """The body of PixelDojo's reply about a job."""
    return {"jobId": name, "status": status, **facts}


def completed_body(name: str) -> dict[str, object]:
    """The same for a completed job with a link to its video."""
    return job_body(name, "completed", output={"video": f"https://cdn.example/{name}.mp4"})


class Vendor(httpx.AsyncBaseTransport):
    """A simulated PixelDojo, whose replies a test sets.

    Attributes:
        reads: the time of each request, in seconds from the start, and what it asked for: a job
            id, or LIST.
        jobs: the body of each job that is not running; a job without an entry is running.
        answers: answers that a job id, or LIST, gives instead, one after the other. The last one
            is repeated.
        shown: the job ids in the list.
        listed: makes an entry of the list from a job's body.
        headers: the headers of every answer.
        before_answer: is awaited with the name of what was asked for, after the answer is chosen
            and before it is sent.
    """

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self.reads: list[tuple[float, str]] = []
        self.jobs: dict[str, dict[str, object]] = {}
        self.answers: dict[str, list[Answer]] = {}
        self.shown: list[str] = []
        self.listed: Callable[[dict[str, object]], object] = lambda job: job
        self.headers = {"X-RateLimit-Limit": "60"}
        self.before_answer: Callable[[str], Awaitable[object]] = _at_once

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        self.reads.append((self._time.passed(), name))
        status, body, headers = self._answer(name)
        response = httpx.Response(status, json=body, headers=self.headers | headers)
        await self.before_answer(name)
        return response

    def times(self, *names: str) -> list[float]:
        """The times of the requests for these names, or of all requests if there is no name."""
        return [at for at, name in self.reads if name in names or not names]

    def count(self) -> Counter[str]:
        """How many requests there were for each name."""
        return Counter(name for _, name in self.reads)

    def _answer(self, name: str) -> Answer:
        answers = self.answers.get(name)
        if not answers:
            return 200, self._body(name), {}
        return answers.pop(0) if answers[1:] else answers[0]

    def _body(self, name: str) -> object:
        if name == LIST:
            return [self.listed(self._job(each)) for each in self.shown]
        return self._job(name)

    def _job(self, name: str) -> dict[str, object]:
        return self.jobs.get(name, job_body(name))


async def _at_once(name: str) -> None:
    await anyio.lowlevel.checkpoint()


class Update(NamedTuple):
    """One update that a waiter received.

    Attributes:
        at: seconds from the start.
        what: the job's status, or the code of the error that ended the wait.
        last_error: the code of the error that the update contains.
    """

    at: float
    what: str
    last_error: str | None = None


@dataclass
class Process:
    """The jobs of one process, built as the server builds them.

    Attributes:
        running: the scope of its background tasks. Cancelling it freezes the process.
    """

    time: VirtualTime
    ledger: Ledger
    account: str
    jobs: Jobs
    limiter: SharedRateLimiter
    running: anyio.CancelScope

    async def kill(self) -> None:
        """End as after `kill -9`: the system releases its lock, and nothing is closed in order."""
        self.running.cancel()
        with patch.object(ProcessLock, "release", ProcessLock.drop_inherited):
            await self.ledger.aclose()

    async def submit(self, name: str, seed: int = 1) -> Record:
        """Send a request, whose job will have that id. No answer has arrived yet."""
        wanted = Replacement(video=f"https://a.example/{name}", character_image="https://a.ex/i")
        claim = await self.ledger.claim(self.account, wanted, generated_seed=seed, estimate=1)
        return await sent(self.ledger, claim.record)

    async def accept(self, name: str) -> Record:
        """Record a job that PixelDojo has accepted just now."""
        record = await self.submit(name)
        return await self.ledger.accept(record, Job(job_id=name, status=JobStatus.RUNNING))

    async def wait(
        self, id: str, seconds: float, received: list[Update] | None = None
    ) -> list[Update]:
        """Wait for a job. Returns every update; the last one names the error if the wait failed."""
        received = [] if received is None else received
        try:
            async for update in self.jobs.watch(id, seconds):
                status = "-" if isinstance(update, WanError) else update.status.value
                last_error = update if isinstance(update, WanError) else update.last_error
                code = None if last_error is None else last_error.code
                received.append(Update(self.time.passed(), status, code))
        except WanError as failure:
            received.append(Update(self.time.passed(), failure.code))
        return received


class Cluster:
    """Processes that share one ledger and one PixelDojo.

    Args:
        ledger: the folder of the ledger's file, or the address of a database that has one.
    """

    def __init__(
        self, ledger: Path | str, time: VirtualTime, vendor: httpx.AsyncBaseTransport
    ) -> None:
        self._place = ledger
        self._time = time
        self._vendor = vendor

    @asynccontextmanager
    async def process(
        self,
        *,
        running: bool = True,
        archive: Callable[[VideoPolicy], Archive] | None = None,
        limits: SpendingLimits = NO_LIMITS,
        preflight: Preflight | None = None,
    ) -> AsyncIterator[Process]:
        """Start one more process. At the end of the context it ends as after `kill -9`.

        Args:
            running: whether its background tasks run.
            archive: opens the place where it saves videos; None to save none.
            limits: what its operator allows.
            preflight: looks at inputs; None to look at none.
        """
        clock, scope = self._time.clock(), anyio.CancelScope()
        ledger = self._ledger(limits, clock.wall)
        name = await ledger.account(BASE, "key")

        async def account() -> str:
            return name

        async def run(jobs: Jobs) -> None:
            with scope:
                await jobs.run()

        limiter = SharedRateLimiter(ledger.coordination, account, clock)
        dojo = PixelDojo(BASE, "key", limiter=limiter, transport=self._vendor)
        async with anyio.create_task_group() as tasks:
            videos = None if archive is None else VideoPolicy("videos")
            jobs = Jobs(
                dojo,
                ledger,
                account,
                limiter,
                tasks,
                clock,
                preflight,
                archive=archive,
                videos=videos,
            )
            if running:
                tasks.start_soon(run, jobs)
            process = Process(self._time, ledger, name, jobs, limiter, scope)
            yield process
            tasks.cancel_scope.cancel()
        await dojo.aclose()
        await process.kill()

    def _ledger(self, limits: SpendingLimits, now: Callable[[], datetime]) -> Ledger:
        if isinstance(self._place, Path):
            return SQLiteLedger(self._place, limits=limits, now=now)
        from wan_mcp.ledger.postgres.engine import PostgresLedger  # psycopg may be missing

        return PostgresLedger(self._place, limits=limits, now=now)


@pytest.fixture
def vendor(time: VirtualTime) -> Vendor:
    return Vendor(time)


@pytest.fixture
def cluster(tmp_path: Path, time: VirtualTime, vendor: Vendor) -> Cluster:
    return Cluster(tmp_path / "ledger", time, vendor)


@pytest.fixture
async def one(cluster: Cluster) -> AsyncIterator[Process]:
    """A process whose background tasks run."""
    async with cluster.process() as process:
        yield process


def make_unavailable(
    process: Process, monkeypatch: pytest.MonkeyPatch, *names: str
) -> Callable[[], None]:
    """Let these methods raise LedgerUnavailable until the returned function is called.

    Args:
        names: methods of the coordination, or "read" or "write" for the whole ledger.
    """
    broken = True

    def replace(thing: Any, name: str) -> None:
        real = getattr(thing, name)

        async def method(*given: Any, **named: Any) -> Any:
            if broken:
                raise LedgerUnavailable("The ledger cannot be read.")
            return await real(*given, **named)

        monkeypatch.setattr(thing, name, method)

    def repair() -> None:
        nonlocal broken
        broken = False

    ledger: Any = process.ledger
    for name in names:
        replace(ledger._store if name in ("read", "write") else ledger.coordination, name)
    return repair


async def run_pending() -> None:
    """Run all tasks until nothing can happen without a timer."""
    for _ in range(200):
        await anyio.lowlevel.checkpoint()
