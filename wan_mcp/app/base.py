"""What all wallets of a running server share: its ledger, its files, and how a wallet is opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from wan_mcp.app.inputs import Inputs
from wan_mcp.videos.job_files import JobFiles, can_inspect

if TYPE_CHECKING:
    from anyio.abc import TaskGroup
    from httpx import AsyncBaseTransport

    from wan_mcp.clock import Clock
    from wan_mcp.jobs import Jobs
    from wan_mcp.ledger.contract import VideoPolicy
    from wan_mcp.ledger.coordination import Account
    from wan_mcp.ledger.queueing.contract import QuotasOf
    from wan_mcp.ledger.spending_limits import SpendingLimits
    from wan_mcp.ledger.sqlite.places import Chosen
    from wan_mcp.ledger.threaded.ledger import ThreadedLedger
    from wan_mcp.payments.acts import NoteAct
    from wan_mcp.payments.staging import StagingOf
    from wan_mcp.pixeldojo.client import PixelDojo
    from wan_mcp.settings import Settings
    from wan_mcp.surface.video_views import VideoViews
    from wan_mcp.tenants.key_page import KeyPage

SERVICE_DRAIN_SECONDS = 8.0
"""How long a stopping server over HTTP waits for payments; supervisors commonly kill a service
after 10 s (assumed)."""


class Services(NamedTuple):
    """What one call works with.

    Attributes:
        jobs: the jobs of the caller's account.
        video_views: what their videos look like to an assistant: images, links and pages.
    """

    jobs: Jobs
    video_views: VideoViews


@dataclass(frozen=True)
class Plan:
    """What a server is to be, before anything of it is opened.

    Attributes:
        settings: the operator's.
        tasks: the task group in which payments run. They outlive the call that started them.
        clock: time and randomness.
        transport: replaces the network in tests.
        agent: the User-Agent header of requests to PixelDojo.
        local: whether the caller is on this machine, as over stdio.
        upload_page: the address below which users upload files; None where they cannot.
        key_page: where users store PixelDojo keys of their own; None where they cannot.
    """

    settings: Settings
    tasks: TaskGroup
    clock: Clock
    transport: AsyncBaseTransport | None
    agent: str
    local: bool
    upload_page: str | None = None
    key_page: KeyPage | None = None


@dataclass(frozen=True)
class Base:
    """What all wallets of a server share.

    Attributes:
        videos: where finished videos are saved.
    """

    plan: Plan
    ledger: ThreadedLedger
    files: JobFiles
    inputs: Inputs
    videos: VideoPolicy

    @classmethod
    def open(cls, plan: Plan) -> Base:
        """Open it. Nothing is written or sent yet."""
        data = _data_folder(plan.settings)
        ledger = _ledger(plan, data)
        files = _job_files(plan, data, ledger)
        saved = plan.settings.video_folder(data.folder, local=plan.local)
        own = None if isinstance(saved, str) else saved
        inputs = Inputs(
            *(plan.settings, ledger, data, own, files),
            *(plan.tasks, plan.clock, plan.local, plan.upload_page),
        )
        return cls(plan, ledger, files, inputs, _video_policy(plan, data))

    def wallet(
        self,
        account: Account,
        api_base: str,
        api_key: str,
        staging: StagingOf,
        quotas: QuotasOf | None = None,
        note: NoteAct | None = None,
    ) -> tuple[PixelDojo, Jobs]:
        """The client of one PixelDojo key, and the jobs of its only user.

        Args:
            account: the name of the wallet in the ledger.
            staging, quotas, note: as for `Jobs`.
        """
        # Importing these takes 30 ms, so it comes later, and httpx with the first request.
        from wan_mcp.jobs import Jobs
        from wan_mcp.pixeldojo.client import PixelDojo
        from wan_mcp.polling.rate_limiter import SharedRateLimiter

        plan, files = self.plan, self.files
        agent, transport = plan.agent, plan.transport
        limiter = SharedRateLimiter(self.ledger.coordination, account, plan.clock)
        vendor = PixelDojo(api_base, api_key, agent=agent, limiter=limiter, transport=transport)
        jobs = Jobs(
            vendor,
            self.ledger,
            account,
            limiter,
            plan.tasks,
            plan.clock,
            self.inputs.check if plan.settings.wants("preflight", local=plan.local) else None,
            files.archive,
            self.videos,
            files.inspect if can_inspect() else None,
            staging,
            quotas,
            note,
        )
        return vendor, jobs


def limits_of(settings: Settings) -> SpendingLimits:
    """What the operator allows."""
    from wan_mcp.ledger.spending_limits import SpendingLimits

    return SpendingLimits(
        credits_per_job=settings.max_credits_per_job,
        credits_per_day=settings.max_credits_per_day,
        in_flight=settings.max_in_flight,
        submits_per_minute=settings.max_submits_per_minute,
        read_only=bool(settings.read_only),
        queued=settings.max_queued,
    )


def _job_files(plan: Plan, data: Chosen, ledger: ThreadedLedger) -> JobFiles:
    from wan_mcp.videos.kept import KeptVideos

    settings = plan.settings
    return JobFiles(
        loopback=settings.on_loopback,
        clock=plan.clock,
        data=data.folder,
        environment=settings.clouds,
        with_contact_sheets=settings.wants("poster", local=plan.local),
        kept=KeptVideos(ledger.coordination),
    )


def _ledger(plan: Plan, data: Chosen) -> ThreadedLedger:
    from wan_mcp.ledger.sqlite.places import ledger_in

    settings = plan.settings
    if url := settings.ledger_url.get_secret_value():
        from wan_mcp.ledger.postgres.opening import ledger_in_database

        listen_url = settings.ledger_listen_url.get_secret_value()
        return ledger_in_database(url, listen_url, data.folder, limits_of(settings))
    return ledger_in(
        data,
        partial(_data_folder, settings),
        limits=limits_of(settings),
        now=plan.clock.wall,
        filesystem=settings.ledger_filesystem,
    )


def _video_policy(plan: Plan, data: Chosen) -> VideoPolicy:
    from wan_mcp.ledger.contract import VideoPolicy
    from wan_mcp.videos.paths import text_of

    folder = plan.settings.video_folder(data.folder, local=plan.local)
    if folder is None:
        return VideoPolicy(folder="")
    place = folder if isinstance(folder, str) else text_of(folder)
    return VideoPolicy(place, plan.settings.video_limit_gb)


def _data_folder(settings: Settings) -> Chosen:
    from wan_mcp.ledger.sqlite.places import choose

    return choose(settings.data_places.usual, settings.data_places.old, given=settings.data_dir)
