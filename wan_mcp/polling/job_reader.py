"""Free looks at a job: from the ledger when it knows the end, else from PixelDojo."""

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from wan_mcp.clock import Clock
from wan_mcp.errors import Busy, CouldNotFindOut, NotFound
from wan_mcp.ledger.contract import Fenced, Ledger, LedgerUnavailable
from wan_mcp.ledger.coordination import Account, Coordination
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.status import TRANSIENT_ERRORS, JobView, view_of_job, view_of_record
from wan_mcp.models import Job
from wan_mcp.payments.reconciliation import Reconciler
from wan_mcp.pixeldojo.priority import Priority
from wan_mcp.polling.intervals import NEW_JOB_GRACE_SECONDS

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo

HANDLE = "sub_"
READ_GRACE = 5.0
"""Seconds that the last read of a wait may overrun its end."""
FRESH = 3.0
"""Seconds for which a look is news: nobody polls more often, and an agent in a loop must not use
up the requests that waiters need."""
MISSING_LIMIT = 3
MISSING_PAUSE = 30.0
"""Seconds between two looks at a job that is not shown: a hiccup of the vendor's must not make a
paid job a lost one."""

logger = logging.getLogger(__name__)


class JobReader:
    """Looks at the jobs of one account.

    Args:
        account: finds its name in the ledger.
    """

    def __init__(
        self,
        vendor: "PixelDojo",
        ledger: Ledger,
        coordination: Coordination,
        account: Account,
        reconciler: Reconciler,
        clock: Clock,
    ) -> None:
        self._vendor = vendor
        self._ledger = ledger
        self._coordination = coordination
        self._account = account
        self._reconciler = reconciler
        self._clock = clock
        self._missing: dict[str, int] = {}

    async def known(self, id: str) -> JobView | None:
        """What the ledger knows of a handle or job id, without asking PixelDojo.

        Raises:
            NotFound: a handle that is not this account's.
            LedgerUnavailable: only the ledger could tell what a handle stands for.
        """
        record = await self._record(id)
        if record is None and id.startswith(HANDLE):
            raise NotFound(f"No request of this account is known as {id}.")
        return None if record is None else view_of_record(record)

    async def look(self, id: str, seconds: float) -> JobView:
        """One look: at most one request, none when nothing new could be told.

        Args:
            seconds: the time that the caller has left.

        Raises:
            NotFound: PixelDojo does not know the id.
            Refused, CouldNotFindOut: it could not be asked.
        """
        before = await self.known(id)
        if before is None:
            return await self.record_update(await self._read(id, seconds, Priority.STATUS))
        record = before.record
        assert record is not None
        if record.state is State.UNKNOWN:
            with anyio.move_on_after(max(seconds, 0.0) + READ_GRACE):
                await self._reconciler.look(record.account, [record])
            return await self.known(id) or before
        # A lost job is asked for once more each time: its film may have come back.
        if record.job_id is None or (before.settled and record.state is not State.LOST):
            return before
        return before if self._is_fresh(record) else await self.ask(record, record.job_id, seconds)

    async def ask(
        self, record: Record, job_id: str, seconds: float, use: Priority = Priority.STATUS
    ) -> JobView:
        """One request for a job that the ledger knows.

        Raises:
            NotFound, Refused, CouldNotFindOut: as `look`.
        """
        try:
            job = await self._read(job_id, seconds, use)
        except NotFound as missing:
            return await self._not_there(record, job_id, missing)
        except Busy:
            raise
        except TRANSIENT_ERRORS:
            self._missing.pop(job_id, None)  # "in a row" means without any other answer
            raise
        self._missing.pop(job_id, None)
        return await self.record_update(job)

    async def _record(self, id: str) -> Record | None:
        try:
            return await self._ledger.find(await self._account(), id)
        except LedgerUnavailable:
            if id.startswith(HANDLE):
                raise
            return None  # PixelDojo itself can still tell of its own id

    async def _read(self, job_id: str, seconds: float, use: Priority) -> Job:
        with anyio.move_on_after(max(seconds, 0.0) + READ_GRACE):
            return await self._vendor.job(job_id, use)
        raise CouldNotFindOut("PixelDojo did not answer in time.")

    def _is_fresh(self, record: Record) -> bool:
        if (
            record.last_polled_at is None
            or record.last_error is not None
            or record.state is State.LOST
        ):
            return False
        return 0 <= (self._clock.wall() - record.last_polled_at).total_seconds() < FRESH

    async def record_update(self, job: Job) -> JobView:
        """Keep what PixelDojo told of a job, as far as the ledger can be used."""
        try:
            learnt = await self._ledger.record_update(await self._account(), job)
        except LedgerUnavailable as exc:
            logger.warning("news of job %s could not be kept: %s", job.job_id, exc.what)
            return view_of_job(job)
        if learnt.ignored:
            logger.warning("job %s had ended; %r is ignored", job.job_id, job.vendor_status)
        return view_of_record(learnt.record)

    async def _not_there(self, record: Record, job_id: str, missing: NotFound) -> JobView:
        """A 404 for a job that we know of: too new to be seen, a slip, or gone for good.

        Raises:
            CouldNotFindOut: it may be there at the next look.
        """
        since = record.accepted_at or record.created_at
        age = (self._clock.wall() - since).total_seconds()
        if record.state is State.LOST or age <= NEW_JOB_GRACE_SECONDS:
            with suppress(LedgerUnavailable):
                await self._coordination.looked([record.submission_id])
            return view_of_record(record)
        count = self._missing[job_id] = self._missing.get(job_id, 0) + 1
        if count < MISSING_LIMIT:
            what = "PixelDojo does not show the job at the moment."
            raise CouldNotFindOut(what, retry_after=MISSING_PAUSE) from missing
        try:
            return view_of_record(
                await self._ledger.conclude(record.submission_id, State.LOST, missing.what)
            )
        except (LedgerUnavailable, Fenced):
            raise missing from None
