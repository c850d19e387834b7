"""The rooms of `wan_mcp.jobs` without a server: processes on one ledger, in virtual time."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
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
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.videos.saver import Archive

BASE = "https://api.example/api/v1"
NO_LIMITS = SpendingLimits(None, None, None, None)
LIST = "jobs"

Answer = tuple[int, Any, dict[str, str]]


def page(name: str, status: str = "pending", **facts: object) -> dict[str, object]:
    """What PixelDojo tells of a job."""
    return {"jobId": name, "status": status, **facts}


def film(name: str) -> dict[str, object]:
    """What it tells of one that is done."""
    return page(name, "completed", output={"video": f"https://cdn.example/{name}.mp4"})


class Vendor(httpx.AsyncBaseTransport):
    """PixelDojo as pages that a test turns.

    Attributes:
        reads: when each request came, from the start, and for what: a job's id, or LIST.
        jobs: the page of each job that is not just running.
        answers: what reads of a job, or of LIST, answer instead; the last one is given for ever.
        shown: the ids in the list.
        listed: makes an entry of the list from a job's page.
        headers: of every answer.
        before_answer: awaited with the name, when the answer is settled and not yet given.
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
        """When these were asked for; without a name, when anything was."""
        return [at for at, name in self.reads if name in names or not names]

    def count(self) -> Counter[str]:
        """How often each thing was asked for."""
        return Counter(name for _, name in self.reads)

    def _answer(self, name: str) -> Answer:
        answers = self.answers.get(name)
        if not answers:
            return 200, self._body(name), {}
        return answers.pop(0) if answers[1:] else answers[0]

    def _body(self, name: str) -> object:
        if name == LIST:
            return [self.listed(self._page(each)) for each in self.shown]
        return self._page(name)

    def _page(self, name: str) -> dict[str, object]:
        return self.jobs.get(name, page(name))


async def _at_once(name: str) -> None:
    await anyio.lowlevel.checkpoint()


class Update(NamedTuple):
    """One update that a waiter received.

    Attributes:
        at: seconds from the start.
        what: the job's status, or the code of the error that ended the wait.
        trouble: the code of what the look met.
    """

    at: float
    what: str
    last_error: str | None = None


@dataclass
class Process:
    """The rooms of one process, as the server wires them.

    Attributes:
        running: what goes on in its background; to cancel it is to freeze the process.
    """

    time: VirtualTime
    ledger: Ledger
    account: str
    jobs: Jobs
    limiter: SharedRateLimiter
    running: anyio.CancelScope

    async def die(self) -> None:
        """End as of kill -9: the kernel drops its lock, and nothing else is put in order."""
        self.running.cancel()
        with patch.object(ProcessLock, "release", ProcessLock.drop_inherited):
            await self.ledger.aclose()

    async def submit(self, name: str) -> Record:
        """A request on its way, whose job will have that id."""
        wanted = Replacement(video=f"https://a.example/{name}", character_image="https://a.ex/i")
        claim = await self.ledger.claim(self.account, wanted, generated_seed=1, estimate=1)
        return await sent(self.ledger, claim.record)

    async def accept(self, name: str) -> Record:
        """A job that PixelDojo accepted just now."""
        record = await self.submit(name)
        return await self.ledger.accept(record, Job(job_id=name, status=JobStatus.RUNNING))

    async def wait(
        self, id: str, seconds: float, heard: list[Update] | None = None
    ) -> list[Update]:
        """Wait for a job; every update, with what ended the wait if it failed."""
        heard = [] if heard is None else heard
        try:
            async for look in self.jobs.watch(id, seconds):
                status = "-" if isinstance(look, WanError) else look.status.value
                last_error = look if isinstance(look, WanError) else look.last_error
                code = None if last_error is None else last_error.code
                heard.append(Update(self.time.passed(), status, code))
        except WanError as failure:
            heard.append(Update(self.time.passed(), failure.code))
        return heard


class House:
    """Processes on one ledger before one PixelDojo."""

    def __init__(self, folder: Path, time: VirtualTime, vendor: Vendor) -> None:
        self._folder = folder
        self._time = time
        self._vendor = vendor

    @asynccontextmanager
    async def process(
        self, *, running: bool = True, archive: Callable[[VideoPolicy], Archive] | None = None
    ) -> AsyncIterator[Process]:
        """One more; at its end it dies as of kill -9.

        Args:
            running: whether anything goes on in the background.
            archive: where it keeps films.
        """
        clock, scope = self._time.clock(), anyio.CancelScope()
        ledger = SQLiteLedger(self._folder, limits=NO_LIMITS, now=clock.wall)
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
                dojo, ledger, account, limiter, tasks, clock, archive=archive, videos=videos
            )
            if running:
                tasks.start_soon(run, jobs)
            process = Process(self._time, ledger, name, jobs, limiter, scope)
            yield process
            tasks.cancel_scope.cancel()
        await dojo.aclose()
        await process.die()


@pytest.fixture
def vendor(time: VirtualTime) -> Vendor:
    return Vendor(time)


@pytest.fixture
def house(tmp_path: Path, time: VirtualTime, vendor: Vendor) -> House:
    return House(tmp_path / "ledger", time, vendor)


@pytest.fixture
async def one(house: House) -> AsyncIterator[Process]:
    """A process whose rooms run."""
    async with house.process() as process:
        yield process


def out_of_order(
    process: Process, monkeypatch: pytest.MonkeyPatch, *names: str
) -> Callable[[], None]:
    """From now on these cannot be used; calling what is returned mends them.

    Args:
        names: methods of the rota; "read" or "write", of the whole ledger.
    """
    broken = True

    def breaks(thing: Any, name: str) -> None:
        real = getattr(thing, name)

        async def method(*given: Any, **named: Any) -> Any:
            if broken:
                raise LedgerUnavailable("The ledger is away.")
            return await real(*given, **named)

        monkeypatch.setattr(thing, name, method)

    def mend() -> None:
        nonlocal broken
        broken = False

    ledger: Any = process.ledger
    for name in names:
        breaks(ledger._store if name in ("read", "write") else ledger.coordination, name)
    return mend


async def turns() -> None:
    """Let everything that could still happen happen."""
    for _ in range(200):
        await anyio.lowlevel.checkpoint()
