"""What a running server holds. It is opened on first use and closed in order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from typing import TYPE_CHECKING

import anyio.lowlevel

from wan_mcp.surface.video_views import VideoViews
from wan_mcp.videos.job_files import JobFiles, can_inspect

if TYPE_CHECKING:
    from pathlib import Path

    from anyio.abc import TaskGroup
    from httpx import AsyncBaseTransport

    from wan_mcp.clock import Clock
    from wan_mcp.inputs.local.files import LocalFiles
    from wan_mcp.inputs.received.reception import Reception
    from wan_mcp.jobs import Jobs
    from wan_mcp.ledger.contract import VideoPolicy
    from wan_mcp.ledger.coordination import Account
    from wan_mcp.ledger.record import Record
    from wan_mcp.ledger.spending_limits import SpendingLimits
    from wan_mcp.ledger.sqlite.places import Chosen
    from wan_mcp.ledger.threaded.ledger import ThreadedLedger
    from wan_mcp.models import InputReport, Replacement
    from wan_mcp.payments.staging import Staging
    from wan_mcp.pixeldojo.client import PixelDojo
    from wan_mcp.settings import Settings
    from wan_mcp.storage.delivery import Delivery
    from wan_mcp.storage.lending import Lending
    from wan_mcp.storage.uploads import Uploads

OPEN_AFTER_SECONDS = 1.0
"""After this time from the start the ledger is opened, if no call has needed it before."""
FIRST_PAYMENT = (
    *("httpx", "truststore", "sqlite3", "wan_mcp.ledger.sqlite.places"),
    *("wan_mcp.pixeldojo.exchange", "wan_mcp.pixeldojo.client", "wan_mcp.jobs"),
    *("wan_mcp.web.fetch", "wan_mcp.inputs.preflight", "wan_mcp.videos.kept"),
)
"""What the first payment imports, in pieces: each delays other calls by at most 30 ms."""
DRAIN_SECONDS = 1.2
"""How long a stopping stdio server waits for payments; hosts kill it after 2 s (observed)."""
SERVICE_DRAIN_SECONDS = 8.0
"""The same over HTTP; supervisors commonly kill a service after 10 s (assumed)."""


class App:
    """What a running server holds: client, ledger, jobs, and the files of the jobs.

    Args:
        settings: the operator's settings.
        tasks: the task group in which payments run. They outlive the call that started them.
        clock: time and randomness.
        transport: replaces the network in tests.
        agent: the User-Agent header of requests to PixelDojo.
        local: whether the caller is on this machine, as over stdio.
        upload_page: the address below which users upload files; None where they cannot.
    """

    def __init__(
        self,
        settings: Settings,
        tasks: TaskGroup,
        clock: Clock,
        transport: AsyncBaseTransport | None,
        *,
        agent: str,
        local: bool,
        upload_page: str | None = None,
    ) -> None:
        self._settings = settings
        self._upload_page = upload_page
        self._agent = agent
        self._local = local
        self._tasks = tasks
        self._clock = clock
        self._transport = transport
        self._parts: _Parts | None = None
        self._drained_at: float | None = None

    @property
    def jobs(self) -> Jobs:
        """The jobs of the configured account."""
        return self._opened().jobs

    @property
    def video_views(self) -> VideoViews:
        """What the account's videos look like to an assistant: images, links and pages."""
        parts = self._opened()
        return VideoViews(parts.jobs, parts.files)

    @property
    def reception(self) -> Reception | None:
        """Takes the files that users upload; None where they cannot."""
        return None if self._upload_page is None else self._opened().inputs.reception

    async def request_state_key(self) -> bytes:
        """The key that seals what a question carries: 32 bytes, random, one for each account.

        All servers of the account on this ledger have the same key. Raises LedgerUnavailable.
        """
        parts = self._opened()
        return await parts.ledger.secret(f"request state of {await parts.account()}")

    async def run(self) -> None:
        """Import what a payment needs while the host still thinks, and open the ledger.

        So the first payment is fast, and unknown outcomes are looked up soon after the start.
        """
        await anyio.sleep(OPEN_AFTER_SECONDS)
        if self._settings.api_key.get_secret_value():
            for name in FIRST_PAYMENT:
                import_module(name)
                await anyio.lowlevel.checkpoint()
            _ = self.jobs

    @property
    def operated(self) -> tuple[ThreadedLedger, Account] | None:
        """The ledger and the account, for an operator; None without a key."""
        has_key = self._settings.api_key.get_secret_value()
        return (self._opened().ledger, self._opened().account) if has_key else None

    async def drain(self) -> None:
        """Begin no more payments, end all waits, and wait a short time for payments in progress."""
        if self._parts is not None:
            now, until = self._clock.monotonic(), self._drained_at
            seconds = DRAIN_SECONDS if self._local else SERVICE_DRAIN_SECONDS
            self._drained_at = now + seconds if until is None else until
            await self._parts.jobs.drain(max(self._drained_at - now, 0.0))

    async def aclose(self) -> None:
        """Close the connections and the ledger."""
        if self._parts is not None:
            with anyio.CancelScope(shield=True):
                await self._parts.files.aclose()
                await self._parts.vendor.aclose()
                await self._parts.ledger.aclose()

    def _opened(self) -> _Parts:
        if self._parts is None:
            self._parts = self._open()
            self._tasks.start_soon(self._parts.jobs.run)
            self._tasks.start_soon(self._parts.inputs.run)
        return self._parts

    def _open(self) -> _Parts:
        # Importing these takes 30 ms, so it comes later, and httpx with the first request.
        from wan_mcp.jobs import Jobs
        from wan_mcp.pixeldojo.client import PixelDojo
        from wan_mcp.polling.rate_limiter import SharedRateLimiter

        settings = self._settings
        base, key = settings.api_base, settings.api_key.get_secret_value()
        chosen = _data_folder(settings)
        ledger = self._ledger(chosen)
        names: list[str] = []

        async def account() -> str:  # it never changes, and each call occupies the ledger's thread
            if names:
                return names[0]
            name = await ledger.account(base, key)
            if ledger.notice is None:  # or what was read may not be the user's ledger
                names.append(name)
            return name

        limiter = SharedRateLimiter(ledger.coordination, account, self._clock)
        vendor = PixelDojo(base, key, agent=self._agent, limiter=limiter, transport=self._transport)
        files = self._job_files(chosen, ledger)
        inputs = self._inputs(ledger, account, chosen, files)
        jobs = Jobs(
            vendor,
            ledger,
            account,
            limiter,
            self._tasks,
            self._clock,
            inputs.check if settings.wants("preflight", local=self._local) else None,
            files.archive,
            self._video_policy(chosen),
            files.inspect if can_inspect() else None,
            lambda: inputs.staging,
        )
        return _Parts(vendor, ledger, account, files, inputs, jobs)

    def _inputs(
        self, ledger: ThreadedLedger, account: Account, data: Chosen, files: JobFiles
    ) -> _Inputs:
        settings, tasks, clock = self._settings, self._tasks, self._clock
        saved = settings.video_folder(data.folder, local=self._local)
        own = None if isinstance(saved, str) else saved
        near, page = self._local, self._upload_page
        return _Inputs(settings, ledger, account, data, own, files, tasks, clock, near, page)

    def _job_files(self, data: Chosen, ledger: ThreadedLedger) -> JobFiles:
        from wan_mcp.videos.kept import KeptVideos

        return JobFiles(
            loopback=self._settings.on_loopback,
            clock=self._clock,
            data=data.folder,
            environment=self._settings.clouds,
            with_contact_sheets=self._settings.wants("poster", local=self._local),
            kept=KeptVideos(ledger.coordination),
        )

    def _ledger(self, data: Chosen) -> ThreadedLedger:
        from wan_mcp.ledger.sqlite.places import ledger_in

        settings = self._settings
        if url := settings.ledger_url.get_secret_value():
            from wan_mcp.ledger.postgres.opening import ledger_in_database

            listen_url = settings.ledger_listen_url.get_secret_value()
            return ledger_in_database(url, listen_url, data.folder, _limits(settings))
        return ledger_in(
            data,
            partial(_data_folder, settings),
            limits=_limits(settings),
            now=self._clock.wall,
            filesystem=settings.ledger_filesystem,
        )

    def _video_policy(self, data: Chosen) -> VideoPolicy:
        from wan_mcp.ledger.contract import VideoPolicy
        from wan_mcp.videos.paths import text_of

        folder = self._settings.video_folder(data.folder, local=self._local)
        if folder is None:
            return VideoPolicy(folder="")
        place = folder if isinstance(folder, str) else text_of(folder)
        return VideoPolicy(place, self._settings.video_limit_gb)


@dataclass(frozen=True)
class _Parts:
    vendor: PixelDojo
    ledger: ThreadedLedger
    account: Account
    files: JobFiles
    inputs: _Inputs
    jobs: Jobs


@dataclass
class _Inputs:
    """The inputs of requests that are no links. Nothing is imported or opened before it is needed.

    Attributes:
        own: the folder in which videos are saved, whose files may be inputs as well; None if
            that is in object storage, or nowhere.
        job_files: looks at inputs.
        local: whether the caller is on this machine; otherwise its files have to be uploaded.
        upload_page: where that can be done; None for nowhere.
    """

    settings: Settings
    ledger: ThreadedLedger
    account: Account
    data: Chosen
    own: Path | None
    job_files: JobFiles
    tasks: TaskGroup
    clock: Clock
    local: bool
    upload_page: str | None = None

    @cached_property
    def files(self) -> LocalFiles | None:
        """The files that may be inputs."""
        from wan_mcp.inputs.local.files import LocalFiles
        from wan_mcp.inputs.local.folders import input_folders

        if not self.local:
            return None
        folders = input_folders(self.settings.input_dirs, self.own, self.settings.home)
        return LocalFiles(folders, int(self.settings.max_input_mb * 1e6), self.tasks)

    @cached_property
    def staging(self) -> Staging:
        """Makes inputs available to PixelDojo."""
        from wan_mcp.inputs.preparing.prepare import prepare, remove_leftovers
        from wan_mcp.inputs.received.own_uploads import OwnUploads
        from wan_mcp.payments.sources import Sources
        from wan_mcp.payments.staging import Staging
        from wan_mcp.web.addresses import media_url

        folder = self._folder("prepared")
        remove_leftovers(folder)
        delivers = self.local and self.delivery is not None
        own = OwnUploads(self.reception, self.account) if self.reception else None
        find, link = self._find, self.job_files.stored_link
        sources = Sources(self.files, find, self.clock, link, own, delivers=delivers)
        public = partial(media_url, loopback=self.settings.on_loopback)
        return Staging(sources, prepare, self.delivery, folder, self.clock, require_public=public)

    @property
    def delivery(self) -> Delivery | None:
        """How files reach PixelDojo; None if there is no way."""
        return self.lending or self.uploads

    @cached_property
    def lending(self) -> Lending | None:
        """Lends files through an address of the user's."""
        url = self.settings.public_url
        if url is None or not self.local:
            return None
        from wan_mcp.storage.lending import Lending

        return Lending(
            url,
            self.settings.public_port,
            self._folder("lent"),
            secret=partial(self.ledger.secret, "lending"),
            is_live=self._is_live,
            tasks=self.tasks,
            clock=self.clock,
        )

    @cached_property
    def uploads(self) -> Uploads | None:
        """Uploads files into storage of the user's."""
        if self.settings.storage_url is None or not (self.local or self.upload_page):
            return None
        from wan_mcp.storage.object_store import ObjectStore
        from wan_mcp.storage.uploads import Uploads

        return Uploads(ObjectStore(self.settings.storage_url, self.settings.clouds), self.clock)

    @cached_property
    def reception(self) -> Reception | None:
        """Takes the files that users upload; None where they cannot."""
        if self.upload_page is None or self.uploads is None:
            return None
        from wan_mcp.inputs.received.reception import Reception

        secret, most = partial(self.ledger.secret, "uploads"), self.settings.max_input_mb * 1e6
        store, folder, now = self.uploads.store, self._folder("prepared"), self.clock.wall
        return Reception(store, secret, folder, int(most), now, self.upload_page)

    async def check(self, wanted: Replacement, *, seconds: float) -> InputReport:
        """Look at both inputs, see `inputs.preflight`."""
        from wan_mcp.ledger.fingerprint import has_links_only

        files = None if has_links_only(wanted) else self.files
        return await self.job_files.check_inputs(wanted, seconds=seconds, files=files)

    async def run(self) -> None:
        """Lend files, and delete old uploads, until cancelled."""
        if self.data.folder is None:
            return
        if self.lending is not None:
            self.tasks.start_soon(self.lending.run)
        if self.uploads is None:
            return
        from wan_mcp.storage.old_objects import delete_regularly

        received = [self.reception.shelves.delete_old] if self.reception else []
        await delete_regularly([self.uploads.delete_old, *received], self.clock)

    def _folder(self, name: str) -> Path:
        from wan_mcp.ledger.contract import LedgerUnavailable

        if self.data.folder is None:
            raise LedgerUnavailable("There is no folder for the ledger and for prepared files.")
        return self.data.folder / name

    async def _find(self, id: str) -> Record | None:
        return await self.ledger.find(await self.account(), id)

    async def _is_live(self, submission_id: str) -> bool:
        from wan_mcp.ledger.record import LIVE

        # Of any account on the ledger: all of their servers share the port and the folder.
        records = await self.ledger.coordination.records([submission_id])
        return any(record.state in LIVE for record in records)


def _data_folder(settings: Settings) -> Chosen:
    from wan_mcp.ledger.sqlite.places import choose

    return choose(settings.data_places.usual, settings.data_places.old, given=settings.data_dir)


def _limits(settings: Settings) -> SpendingLimits:
    from wan_mcp.ledger.spending_limits import SpendingLimits

    return SpendingLimits(
        credits_per_job=settings.max_credits_per_job,
        credits_per_day=settings.max_credits_per_day,
        in_flight=settings.max_in_flight,
        submits_per_minute=settings.max_submits_per_minute,
        read_only=bool(settings.read_only),
        queued=settings.max_queued,
    )
