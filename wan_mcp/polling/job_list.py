"""List mode: from five live jobs on, one read of PixelDojo's job list serves them all.

The list is not documented. A job that it does not show, or shows without a status, is read by
itself; a list that cannot be read, or that is found to be wrong, is left alone for a while.
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
from wan_mcp.pixeldojo.priority import Priority
from wan_mcp.polling.rate_limiter import SharedRateLimiter

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo

MIN_LIVE_JOBS = 5
"""Live jobs from which the list is the cheaper way: 12 reads a minute, whatever their number."""
LIST_INTERVAL_SECONDS = 5.0
IDLE_LIST_INTERVAL_SECONDS = 60.0
LIST_COOLDOWN_SECONDS = 300.0
"""Seconds without the list after it was found useless or wrong."""
MAX_FAILURES = 3
MAX_STALE_LISTS = 2
PROBE_INTERVAL_SECONDS = 60.0
"""How often one job is read by itself all the same: a list that stands still must be noticed."""
NEVER = float("-inf")

logger = logging.getLogger(__name__)


Learn = Callable[[Job], Awaitable[object]]


class JobListReader:
    """What the job list told last.

    Args:
        learn: keeps what is told of one job.
    """

    def __init__(
        self,
        vendor: "PixelDojo",
        coordination: Coordination,
        record_update: Learn,
        limiter: SharedRateLimiter,
        clock: Clock,
    ) -> None:
        self._vendor = vendor
        self._coordination = coordination
        self._record_update = record_update
        self._limiter = limiter
        self._clock = clock
        self._rest_until = 0.0
        self._busy_until = 0.0
        self._failures = 0
        self._probe_at = 0.0
        self._reading = False
        self.forget()

    def forget(self) -> None:
        """Begin anew: fewer jobs live, or another process has polled in the meantime."""
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
        """Of the live jobs, those that have to be read one by one."""
        now = self._clock.monotonic()
        if len(records) < MIN_LIVE_JOBS or now < self._rest_until:
            self.forget()
            return list(records)
        self._on = True
        self._since = {
            record.submission_id: self._since.get(record.submission_id, now) for record in records
        }
        running = {record.submission_id for record in records if record.state is State.ACCEPTED}
        # What a read by itself has ended since, the next list must not show as running.
        ended = {id for submission_id, id in self._covered.items() if submission_id not in running}
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
        """Whether a job has to be read now: the list says that it has ended, or it is its probe.

        Args:
            looked_at: when it was last read, monotonic.
        """
        if not self._on or last_polled_at > self._read_at:
            return record.submission_id == self._probe
        job = self._shown.get(record.job_id or "")
        return job is not None and job.ended

    def due(self, *, watched: bool) -> float | None:
        """When the list is to be read, monotonic; None when it is not."""
        if not self._on or self._reading:
            return None
        pause = max(
            LIST_INTERVAL_SECONDS if watched else IDLE_LIST_INTERVAL_SECONDS,
            self._limiter.spacing(Priority.LIST, 1),
        )
        return max(self._read_at + pause, self._busy_until)

    async def read(self, records: Sequence[Record]) -> None:
        """Read the list once."""
        began = self._clock.monotonic()
        self._reading = True
        try:
            listed = await self._vendor.jobs(Priority.LIST)
        except Busy as busy:
            self._busy_until = began + (busy.retry_after or LIST_INTERVAL_SECONDS)
        except WanError as last_error:
            await self._fail(records, last_error)
        except Exception:
            self._rest()
            raise
        else:
            shown = {each.job.job_id: each.job for each in listed if each.job.vendor_status}
            await self._try_acquire(records, shown, began)
        finally:
            self._reading = False

    async def _try_acquire(
        self, records: Sequence[Record], shown: Mapping[str, Job], began: float
    ) -> None:
        ours = [record for record in records if record.job_id in shown]
        # A list that left PixelDojo before the end, or lay in a cache for moments, is no lie.
        known = {id for id, at in self._contradicted.items() if at < began}
        self._stale_lists = (
            self._stale_lists + 1 if any(_runs(shown.get(id)) for id in known) else 0
        )
        if self._stale_lists >= MAX_STALE_LISTS or not ours:
            what = "is old" if ours else "shows none of ours"
            logger.warning("the job list %s; jobs are read singly", what)
            self._rest()
            return
        self._failures = 0
        if not self._stale_lists:
            self._contradicted = {
                id: at for id, at in self._contradicted.items() if id not in known
            }
        self._shown, self._read_at = shown, began
        told = {record.submission_id: shown[record.job_id or ""] for record in ours}
        with suppress(LedgerUnavailable):
            await self._coordination.polled(
                [submission_id for submission_id in told if not told[submission_id].ended]
            )
            for job in filter(_is_whole, told.values()):
                await self._record_update(job)

    async def _fail(self, records: Sequence[Record], last_error: WanError) -> None:
        self._failures += 1
        self._busy_until = self._clock.monotonic() + max(
            last_error.retry_after or 0.0, LIST_INTERVAL_SECONDS
        )
        if self._failures >= MAX_FAILURES or not is_transient(last_error):
            self._rest()
            return
        with suppress(LedgerUnavailable):
            await self._coordination.polled(
                [record.submission_id for record in records], last_error
            )

    def _rest(self) -> None:
        self._failures = 0
        self._rest_until = self._clock.monotonic() + LIST_COOLDOWN_SECONDS
        self.forget()

    def _covers(self, record: Record) -> bool:
        """Whether the last list shows the job as running, or the next will be the first to."""
        if record.state is not State.ACCEPTED:
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


def _is_whole(job: Job) -> bool:
    """Whether the list tells all of an end; else the job is read by itself."""
    failed = job.status is JobStatus.FAILED and job.error is not None
    return failed or (job.status is JobStatus.COMPLETED and job.video_url is not None)
