"""Reads one job: from the ledger if it has ended, otherwise from PixelDojo. This costs nothing."""

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from wan_mcp.clock import Clock
from wan_mcp.errors import Busy, CouldNotFindOut, NotFound, WanError
from wan_mcp.ledger import rules
from wan_mcp.ledger.contract import Fenced, Ledger, LedgerUnavailable
from wan_mcp.ledger.coordination import Coordination
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.status import (
    TRANSIENT_ERRORS,
    JobView,
    view_of_job,
    view_of_one_reading,
    view_of_record,
)
from wan_mcp.ledger.wallets.workspace import CallersWorkspace, Workspace
from wan_mcp.models import Job, JobStatus
from wan_mcp.payments.reconciliation import Reconciler
from wan_mcp.pixeldojo.priority import Priority
from wan_mcp.polling.intervals import NEW_JOB_GRACE_SECONDS

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo

SUBMISSION_PREFIX = "sub_"
READ_GRACE_SECONDS = 5.0
"""How long the last read of a wait may run past the end of the wait."""
FRESH_SECONDS = 3.0
"""For this time a reading is not repeated: an agent that asks in a loop must not use up the
requests that waiters need."""
MAX_MISSING_READS = 3
MISSING_PAUSE_SECONDS = 30.0
"""A job is lost if MAX_MISSING_READS readings in a row, this far apart, did not find it: a short
fault at PixelDojo must not lose a paid job."""

READ_FAILED_AGAIN_SECONDS = 3600.0
"""For this long after its end, a failed job is read again if somebody asks for it (ours): a video
that PixelDojo shows after all is paid for, and its link may last an hour only."""

STUCK_SECONDS = 15.0
"""Once a payment has taken this long, its waiters check whether its process is alive (ours): a
process on another computer counts as alive for so long."""

logger = logging.getLogger(__name__)


class JobReader:
    """Reads the jobs of one workspace.

    On a wallet with several workspaces, PixelDojo would also report the jobs of the others. So a
    job that the ledger does not have in this workspace is not found, and PixelDojo is not asked.
    """

    def __init__(
        self,
        vendor: "PixelDojo",
        ledger: Ledger,
        coordination: Coordination,
        workspace: CallersWorkspace,
        reconciler: Reconciler,
        clock: Clock,
    ) -> None:
        self._vendor = vendor
        self._ledger = ledger
        self._coordination = coordination
        self._workspace = workspace
        self._reconciler = reconciler
        self._clock = clock
        self._missing: dict[str, int] = {}
        self._failed_at: dict[str, float] = {}

    async def known(self, id: str) -> JobView | None:
        """What the ledger knows of a submission id or job id; None if PixelDojo has to be asked.

        Raises:
            NotFound: the workspace has no such request, and PixelDojo must not be asked.
            LedgerUnavailable: only the ledger knows which job the id stands for.
        """
        only_ledger = id.startswith(SUBMISSION_PREFIX)
        try:
            # Of a workspace that shares its wallet, the name is known without reading the ledger.
            workspace = Workspace.of(await self._workspace())
            only_ledger = only_ledger or not workspace.is_alone
            record = await self._ledger.find(workspace.name, id)
        except LedgerUnavailable:
            if only_ledger:
                raise
            return None  # PixelDojo knows its own job id
        if record is None and only_ledger:
            raise NotFound(f"No request of this account is known as {id}.")
        return None if record is None else view_of_record(record)

    async def read(self, id: str, seconds: float) -> JobView:
        """Read a job with at most one request, or with none if it could bring nothing new.

        Args:
            id: a submission id or job id.
            seconds: the time that the caller has left.

        Raises:
            NotFound: PixelDojo does not know the id.
            Refused, CouldNotFindOut: PixelDojo could not be asked.
        """
        before = await self.known(id)
        if before is None:
            return await self.record_update(await self._request(id, seconds, Priority.STATUS))
        record = before.record
        assert record is not None
        if record.state is State.UNKNOWN:
            with anyio.move_on_after(max(seconds, 0.0) + READ_GRACE_SECONDS):
                wallet = record.workspace.wallet
                await self._reconciler.reconcile(wallet, [record.submission_id])
            return await self.known(id) or before
        if self.is_stuck(record):
            await self.settle_abandoned()
            return await self.known(id) or before
        # A lost job is read again each time, because PixelDojo may show it again.
        is_final = before.settled and record.state is not State.LOST and not self.may_revive(before)
        is_final = is_final or record.is_forgotten
        if record.job_id is None or is_final or self._is_fresh(record):
            return before
        if record.state is State.FAILED:
            return await self._ask_again(before, record, record.job_id)
        return await self.ask(record, record.job_id, seconds)

    def may_revive(self, view: JobView) -> bool:
        """Whether a job failed so recently that PixelDojo may still show its video."""
        ended_at = None if view.record is None else view.record.ended_at
        if view.status is not JobStatus.FAILED or ended_at is None or view.is_forgotten:
            return False
        return 0 <= (self._clock.wall() - ended_at).total_seconds() < READ_FAILED_AGAIN_SECONDS

    def is_stuck(self, record: Record) -> bool:
        """Whether a payment has gone on for so long that its process may be dead."""
        if record.settled or record.state is State.QUEUED:
            return False
        return (self._clock.wall() - record.created_at).total_seconds() >= STUCK_SECONDS

    async def settle_abandoned(self) -> None:
        """Settle the requests of dead processes, wherever they were paid.

        Raises:
            LedgerUnavailable: that cannot be known.
        """
        await self._ledger.recover()

    async def ask(
        self, record: Record, job_id: str, seconds: float, priority: Priority = Priority.STATUS
    ) -> JobView:
        """Send one request for a job that the ledger knows.

        Raises:
            NotFound, Refused, CouldNotFindOut: as `read`.
        """
        try:
            job = await self._request(job_id, seconds, priority)
        except NotFound as missing:
            return await self._not_there(record, job_id, missing)
        except Busy:
            raise
        except TRANSIENT_ERRORS:
            self._missing.pop(job_id, None)  # "in a row" means without any other answer
            raise
        self._missing.pop(job_id, None)
        return await self.record_update(job)

    async def _ask_again(self, before: JobView, record: Record, job_id: str) -> JobView:
        """Read a failed job once more, for at most READ_GRACE_SECONDS; an error changes nothing."""
        try:
            return await self.ask(record, job_id, 0.0)
        except WanError as error:
            logger.info("failed job %s could not be read again: %s", job_id, error.what)
            return before

    async def _request(self, job_id: str, seconds: float, priority: Priority) -> Job:
        with anyio.move_on_after(max(seconds, 0.0) + READ_GRACE_SECONDS):
            return await self._vendor.job(job_id, priority)
        raise CouldNotFindOut("PixelDojo did not answer in time.")

    def _is_fresh(self, record: Record) -> bool:
        if (
            record.last_polled_at is None
            or record.last_error is not None
            or record.state is State.LOST
        ):
            return False
        return 0 <= (self._clock.wall() - record.last_polled_at).total_seconds() < FRESH_SECONDS

    async def record_update(self, job: Job) -> JobView:
        """Record what PixelDojo reports about a job, if the ledger can be used."""
        try:
            workspace = Workspace.of(await self._workspace())
            recorded = await self._ledger.record_update(workspace, job)
        except LedgerUnavailable as exc:
            logger.warning("a reading of job %s could not be recorded: %s", job.job_id, exc.what)
            return self._unrecorded(job)
        if not workspace.is_alone and recorded.record.account != workspace.name:
            raise NotFound(f"No request of this account is known as {job.job_id}.")
        if recorded.ignored:
            logger.warning("job %s had ended; %r is ignored", job.job_id, job.vendor_status)
        return view_of_record(recorded.record)

    def _unrecorded(self, job: Job) -> JobView:
        """The view of a reading that the ledger could not keep, by the rule of `rules.updated`."""
        view, now = view_of_job(job), self._clock.monotonic()
        if job.status is not JobStatus.FAILED:
            self._failed_at.pop(job.job_id, None)
            return view
        since = self._failed_at.setdefault(job.job_id, now)
        return view if now - since >= rules.CONFIRM_SECONDS else view_of_one_reading(job)

    async def _not_there(self, record: Record, job_id: str, missing: NotFound) -> JobView:
        """Conclude what a 404 means for a job that the ledger knows: too new, a fault, or lost.

        Raises:
            CouldNotFindOut: the next reading may find it.
        """
        since = record.accepted_at or record.created_at
        age = (self._clock.wall() - since).total_seconds()
        if record.state is State.LOST or age <= NEW_JOB_GRACE_SECONDS:
            with suppress(LedgerUnavailable):
                await self._coordination.polled([record.submission_id])
            return view_of_record(record)
        count = self._missing[job_id] = self._missing.get(job_id, 0) + 1
        if count < MAX_MISSING_READS:
            what = "PixelDojo does not show the job at the moment."
            raise CouldNotFindOut(what, retry_after=MISSING_PAUSE_SECONDS) from missing
        try:
            return view_of_record(await self._ledger.conclude(record, State.LOST, missing.what))
        except (LedgerUnavailable, Fenced):
            raise missing from None
