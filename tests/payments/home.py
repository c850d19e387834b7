"""This computer with its files, servers on one ledger, and the PixelDojo that they use."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import anyio
import pytest

from tests.ledger.stores import NO_LIMITS
from tests.payments.local_inputs import CLIP, PICTURE, Bucket, Disk, Preparation
from tests.virtual_time import EPOCH, VirtualTime
from wan_mcp.inputs.verdict import VIDEO
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.queueing.contract import QuotasOf
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.ledger.sqlite.liveness import ProcessLock
from wan_mcp.ledger.status import JobView
from wan_mcp.ledger.wallets.workspace import CallersWorkspace
from wan_mcp.models import Replacement
from wan_mcp.payments.sources import Sources
from wan_mcp.payments.staging import Staging
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.storage.delivery import Content
from wan_mcp.web.addresses import media_url

TERMS = Terms(credits=1_000, pending_seconds=5, processing_seconds=55)


@pytest.fixture
async def sandbox(time: VirtualTime) -> AsyncIterator[Sandbox]:
    epoch = EPOCH.timestamp()
    async with Sandbox(TERMS, clock=time.monotonic, epoch=epoch, idle_seconds=1e9) as sandbox:
        yield sandbox


@dataclass
class Server:
    """One server process with a ledger that others share."""

    jobs: Jobs
    ledger: SQLiteLedger
    account: Callable[[], Awaitable[str]]
    opened: list[Staging]

    async def submit(self, wanted: Replacement) -> JobView:
        """What a call does."""
        began = self.jobs.clock.monotonic()
        return await self.jobs.submit(await self.jobs.located(wanted), began=began)


@dataclass
class Home:
    """This computer, its bucket, and the PixelDojo that its servers use."""

    time: VirtualTime
    sandbox: Sandbox
    folder: Path
    disk: Disk
    bucket: Bucket
    preparation: Preparation

    @asynccontextmanager
    async def server(
        self,
        *,
        delivers: bool = True,
        files: bool = True,
        killed: bool = False,
        loopback: bool = True,
        limits: SpendingLimits = NO_LIMITS,
        running: bool = False,
        quotas: QuotasOf | None = None,
    ) -> AsyncIterator[Server]:
        """One more server.

        Args:
            quotas: the limits of each workspace, where the key has several.
            running: whether its background tasks run, the dispatcher among them.
        """
        vendor = PixelDojo(self.sandbox.api_base, self.sandbox.key)
        ledger = SQLiteLedger(self.folder / "ledger", limits=limits, now=self.time.wall)
        account = partial(ledger.account, self.sandbox.api_base, self.sandbox.key)
        clock = self.time.clock()
        opened: list[Staging] = []

        def staging(_whose: CallersWorkspace) -> Staging:
            async def find(id: str) -> Record | None:
                return await ledger.find(await account(), id)

            if not opened:
                sources = Sources(self.disk if files else None, find, clock, delivers=delivers)  # type: ignore[arg-type]
                bucket = self.bucket if delivers else None
                folder = self.folder / "prepared"
                public = partial(media_url, loopback=loopback)
                opened.append(
                    Staging(sources, self.preparation, bucket, folder, clock, require_public=public)
                )
            return opened[0]

        async with anyio.create_task_group() as tasks:
            limiter = SharedRateLimiter(ledger.coordination, account, clock)
            jobs = Jobs(
                vendor, ledger, account, limiter, tasks, clock, staging=staging, quotas=quotas
            )
            if running:
                tasks.start_soon(jobs.run)
            yield Server(jobs, ledger, account, opened)
            if killed:  # the kernel releases the lock, and nothing is written any more
                with patch.object(ProcessLock, "release", ProcessLock.drop_inherited):
                    await ledger.aclose()
            tasks.cancel_scope.cancel()
        await vendor.aclose()
        await ledger.aclose()

    def wanted(self, **changes: object) -> Replacement:
        """A request for five seconds of a clip of this computer, with a picture of it."""
        given = {"video": f"{CLIP}#t=12,17", "character_image": PICTURE}
        return Replacement.model_validate(given | changes)

    async def content(self, uri: str) -> Content:
        """The bytes of a file of this computer."""
        return self.disk.content(await self.disk.locate(uri, VIDEO))

    @property
    def bodies(self) -> list[dict[str, object]]:
        """What PixelDojo was asked for and charged."""
        return [dict(charge.body) for charge in self.sandbox.charges]


@pytest.fixture
def home(time: VirtualTime, sandbox: Sandbox, tmp_path: Path) -> Home:
    (tmp_path / "prepared").mkdir()
    disk = Disk()
    bucket = Bucket(f"{sandbox.api_base}/bucket")
    return Home(time, sandbox, tmp_path, disk, bucket, Preparation())
