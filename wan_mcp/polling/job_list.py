"""Reads PixelDojo's job list: from five live jobs on, one read of it serves them all.

The list is not documented. A job that the list does not show, or shows without a status, is read
on its own, and so is one that it shows as failed: only the job's own readings end it without a
video. A list that cannot be read, or that turns out to be wrong, is not read for five minutes.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from wan_mcp.clock import Clock
from wan_mcp.errors import Busy, WanError
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import Coordination
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.status import is_transient
from wan_mcp.models import Job, JobStatus
from wan_mcp.payments.reconciliation import Reconciler
from wan_mcp.pixeldojo.priority import Priority
from wan_mcp.polling.rate_limiter import SharedRateLimiter

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo

MIN_LIVE_JOBS = 5
"""From this many live jobs on, the list costs fewer reads: 12 a minute for any number of jobs."""
LIST_INTERVAL_SECONDS = 5.0
"""How often the list is read while somebody waits for one of the jobs."""
IDLE_LIST_INTERVAL_SECONDS = 60.0
"""How often the list is read while nobody waits."""
LIST_COOLDOWN_SECONDS = 300.0
"""How long the list is not read after it turned out to be useless or wrong."""
MAX_FAILURES = 3
"""After this many failed reads of the list in a row, the jobs are read one by one."""
MAX_STALE_LISTS = 2
"""After this many lists in a row that show an ended job as running, the list counts as wrong."""
PROBE_INTERVAL_SECONDS = 60.0
"""How often one of the listed jobs is read on its own, to notice a list that does not change."""
NEVER = float("-inf")

RecordUpdate = Callable[[Job], Awaitable[object]]

logger = logging.getLogger(__name__)


class JobListReader:
    """Reads the job list and knows which live jobs it covers.

    Args:
        reconciler: searches each list for lost requests, too.
        record_update: writes what the list shows of one job to the ledger.
    """

    def __init__(
        self,
        vendor: "PixelDojo",
        coordination: Coordination,
        record_update: RecordUpdate,
        reconciler: Reconciler,
        limiter: SharedRateLimiter,
        clock: Clock,
    ) -> None:
        self._vendor = vendor
        self._coordination = coordination
        self._record_update = record_update
        self._reconciler = reconciler
        self._limiter = limiter
        self._clock = clock
        self._disabled_until = 0.0
        self._busy_until = 0.0
        self._failures = 0
        self._probe_at = 0.0
        self._reading = False
        self.forget()

    def forget(self) -> None:
        """Forget what the list showed: few jobs are live, or another process polled meanwhile."""
        self._on = False
        self._read_at = NEVER
        self._shown: Mapping[str, Job] = {}
        self._covered: dict[str, str] = {}
        self._since: dict[str, float] = {}
        self._contradicted: dict[str, float] = {}
        self._stale_lists = 0
        self._probed: dict[str, float] = {}
        self._probe = ""

    def read_alone(self, records: Sequence[Record]) -> list[Record]:
        """The live jobs that have to be read one by one, because the list does not cover them.

        Args:
            records: all live jobs of the account.
        """
        now = self._clock.monotonic()
        if len(records) < MIN_LIVE_JOBS or now < self._disabled_until:
            self.forget()
            return list(records)
        self._on = True
        self._since = {
            record.submission_id: self._since.get(record.submission_id, now) for record in records
        }
        running = {record.submission_id for record in records if record.state is State.ACCEPTED}
        # A job that a read of its own has found ended must not be running in the next list.
        ended = {
            job_id
            for submission_id, job_id in self._covered.items()
            if submission_id not in running
        }
        self._contradicted |= dict.fromkeys(ended - self._contradicted.keys(), now)
        self._covered = {
            record.submission_id: record.job_id or "" for record in records if self._covers(record)
        }
        self._choose_probe(now)
        return [
            record
            for record in records
            if record.submission_id not in self._covered or record.submission_id == self._probe
        ]

    def urgent(self, record: Record, last_polled_at: float) -> bool:
        """Whether a job has to be read now, because the list shows its end or it is the probe.

        Args:
            last_polled_at: when the job itself was last read, in seconds of the monotonic clock.
        """
        if not self._on or last_polled_at > self._read_at:
            return record.submission_id == self._probe
        job = self._shown.get(record.job_id or "")
        return job is not None and job.ended

    def due(self, *, watched: bool) -> float | None:
        """When to read the list, in seconds of the monotonic clock; None while it is not used.

        Args:
            watched: whether somebody waits for one of the jobs.
        """
        if not self._on or self._reading:
            return None
        pause = max(
            LIST_INTERVAL_SECONDS if watched else IDLE_LIST_INTERVAL_SECONDS,
            self._limiter.spacing(Priority.LIST, 1),
        )
        return max(self._read_at + pause, self._busy_until)

    async def read(self, account: str, records: Sequence[Record]) -> None:
        """Read the list once, and record what it shows of these jobs and of lost requests.

        Errors of PixelDojo are recorded; only defects are raised.
        """
        began = self._clock.monotonic()
        self._reading = True
        try:
            lost = await self._reconciler.lost(account)
            listed = await self._vendor.jobs(Priority.LIST)
        except Busy as busy:
            self._busy_until = began + (busy.retry_after or LIST_INTERVAL_SECONDS)
        except WanError as error:
            await self._fail(records, error)
        except Exception:
            self._disable()
            raise
        else:
            shown = {each.job.job_id: each.job for each in listed if each.job.vendor_status}
            await self._take_in(records, shown, began)
            await self._reconciler.search(account, lost, listed)
        finally:
            self._reading = False

    async def _take_in(
        self, records: Sequence[Record], shown: Mapping[str, Job], began: float
    ) -> None:
        ours = [record for record in records if record.job_id in shown]
        # A list that was on its way when the job ended, or came from a cache once, proves nothing.
        known = {job_id for job_id, at in self._contradicted.items() if at < began}
        is_stale = any(_runs(shown.get(job_id)) for job_id in known)
        self._stale_lists = self._stale_lists + 1 if is_stale else 0
        if self._stale_lists >= MAX_STALE_LISTS or not ours:
            what = "shows ended jobs as running" if ours else "shows none of our jobs"
            logger.warning("the job list %s; the jobs are read one by one", what)
            self._disable()
            return
        self._failures = 0
        if not self._stale_lists:
            self._contradicted = {
                job_id: at for job_id, at in self._contradicted.items() if job_id not in known
            }
        self._shown, self._read_at = shown, began
        jobs = {record.submission_id: shown[record.job_id or ""] for record in ours}
        with suppress(LedgerUnavailable):
            await self._coordination.polled(
                [submission_id for submission_id, job in jobs.items() if not job.ended]
            )
            for job in filter(_has_video, jobs.values()):
                await self._record_update(job)

    async def _fail(self, records: Sequence[Record], error: WanError) -> None:
        self._failures += 1
        pause = max(error.retry_after or 0.0, LIST_INTERVAL_SECONDS)
        self._busy_until = self._clock.monotonic() + pause
        if self._failures >= MAX_FAILURES or not is_transient(error):
            self._disable()
            return
        with suppress(LedgerUnavailable):
            await self._coordination.polled([record.submission_id for record in records], error)

    def _disable(self) -> None:
        self._failures = 0
        self._disabled_until = self._clock.monotonic() + LIST_COOLDOWN_SECONDS
        self.forget()

    def _covers(self, record: Record) -> bool:
        """Whether the last list shows the job as running, or the job is newer than that list."""
        if record.state is not State.ACCEPTED or record.end_is_unconfirmed:
            return False
        job = self._shown.get(record.job_id or "")
        return self._since[record.submission_id] > self._read_at if job is None else not job.ended

    def _choose_probe(self, now: float) -> None:
        self._probe = ""
        if self._read_at > NEVER and self._covered and now >= self._probe_at:
            self._probe_at = now + PROBE_INTERVAL_SECONDS
            self._probe = min(
                self._covered, key=lambda submission_id: self._probed.get(submission_id, 0.0)
            )
            self._probed[self._probe] = now


def _runs(job: Job | None) -> bool:
    return job is not None and not job.ended


def _has_video(job: Job) -> bool:
    """Whether the list shows the end of the job and its video; if not, the job itself is read.

    Two lists that show a failure may be one answer from a cache, so they do not confirm it.
    """
    return job.status is JobStatus.COMPLETED and job.video_url is not None
