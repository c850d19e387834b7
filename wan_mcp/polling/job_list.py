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
from wan_mcp.ledger.coordination import Rota
from wan_mcp.ledger.record import Row, State
from wan_mcp.ledger.status import passes
from wan_mcp.models import Job, JobStatus
from wan_mcp.pixeldojo.priority import Use
from wan_mcp.polling.rate_limiter import Budget

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo

FROM = 5
"""Live jobs from which the list is the cheaper way: 12 reads a minute, whatever their number."""
EVERY = 5.0
EVERY_IDLE = 60.0
REST = 300.0
"""Seconds without the list after it was found useless or wrong."""
FAILURES = 3
LIES = 2
PROBE = 60.0
"""How often one job is read by itself all the same: a list that stands still must be noticed."""
NEVER = float("-inf")

logger = logging.getLogger(__name__)


Learn = Callable[[Job], Awaitable[object]]


class Listing:
    """What the job list told last.

    Args:
        learn: keeps what is told of one job.
    """

    def __init__(
        self, vendor: "PixelDojo", rota: Rota, learn: Learn, budget: Budget, clock: Clock
    ) -> None:
        self._vendor = vendor
        self._rota = rota
        self._learn = learn
        self._budget = budget
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
        self._belied: dict[str, float] = {}
        self._lies = 0
        self._probed: dict[str, float] = {}
        self._probe = ""

    def leaves(self, rows: Sequence[Row]) -> list[Row]:
        """Of the live jobs, those that have to be read one by one."""
        now = self._clock.monotonic()
        if len(rows) < FROM or now < self._rest_until:
            self.forget()
            return list(rows)
        self._on = True
        self._since = {row.handle: self._since.get(row.handle, now) for row in rows}
        running = {row.handle for row in rows if row.state is State.ACCEPTED}
        # What a read by itself has ended since, the next list must not show as running.
        ended = {id for handle, id in self._covered.items() if handle not in running}
        self._belied |= dict.fromkeys(ended - self._belied.keys(), now)
        self._covered = {row.handle: row.job_id or "" for row in rows if self._covers(row)}
        self._choose_probe(now)
        return [row for row in rows if row.handle not in self._covered or row.handle == self._probe]

    def urgent(self, row: Row, looked_at: float) -> bool:
        """Whether a job has to be read now: the list says that it has ended, or it is its probe.

        Args:
            looked_at: when it was last read, monotonic.
        """
        if not self._on or looked_at > self._read_at:
            return row.handle == self._probe
        job = self._shown.get(row.job_id or "")
        return job is not None and job.ended

    def due(self, *, watched: bool) -> float | None:
        """When the list is to be read, monotonic; None when it is not."""
        if not self._on or self._reading:
            return None
        pause = max(EVERY if watched else EVERY_IDLE, self._budget.spacing(Use.LIST, 1))
        return max(self._read_at + pause, self._busy_until)

    async def read(self, rows: Sequence[Row]) -> None:
        """Read the list once."""
        began = self._clock.monotonic()
        self._reading = True
        try:
            listed = await self._vendor.jobs(Use.LIST)
        except Busy as busy:
            self._busy_until = began + (busy.retry_after or EVERY)
        except WanError as trouble:
            await self._fail(rows, trouble)
        except Exception:
            self._rest()
            raise
        else:
            shown = {each.job.job_id: each.job for each in listed if each.job.vendor_status}
            await self._take(rows, shown, began)
        finally:
            self._reading = False

    async def _take(self, rows: Sequence[Row], shown: Mapping[str, Job], began: float) -> None:
        ours = [row for row in rows if row.job_id in shown]
        # A list that left PixelDojo before the end, or lay in a cache for moments, is no lie.
        known = {id for id, at in self._belied.items() if at < began}
        self._lies = self._lies + 1 if any(_runs(shown.get(id)) for id in known) else 0
        if self._lies >= LIES or not ours:
            what = "is old" if ours else "shows none of ours"
            logger.warning("the job list %s; jobs are read singly", what)
            self._rest()
            return
        self._failures = 0
        if not self._lies:
            self._belied = {id: at for id, at in self._belied.items() if id not in known}
        self._shown, self._read_at = shown, began
        told = {row.handle: shown[row.job_id or ""] for row in ours}
        with suppress(LedgerUnavailable):
            await self._rota.looked([handle for handle in told if not told[handle].ended])
            for job in filter(_is_whole, told.values()):
                await self._learn(job)

    async def _fail(self, rows: Sequence[Row], trouble: WanError) -> None:
        self._failures += 1
        self._busy_until = self._clock.monotonic() + max(trouble.retry_after or 0.0, EVERY)
        if self._failures >= FAILURES or not passes(trouble):
            self._rest()
            return
        with suppress(LedgerUnavailable):
            await self._rota.looked([row.handle for row in rows], trouble)

    def _rest(self) -> None:
        self._failures = 0
        self._rest_until = self._clock.monotonic() + REST
        self.forget()

    def _covers(self, row: Row) -> bool:
        """Whether the last list shows the job as running, or the next will be the first to."""
        if row.state is not State.ACCEPTED:
            return False
        job = self._shown.get(row.job_id or "")
        return self._since[row.handle] > self._read_at if job is None else not job.ended

    def _choose_probe(self, now: float) -> None:
        self._probe = ""
        if self._read_at > NEVER and self._covered and now >= self._probe_at:
            self._probe_at = now + PROBE
            self._probe = min(self._covered, key=lambda handle: self._probed.get(handle, 0.0))
            self._probed[self._probe] = now


def _runs(job: Job | None) -> bool:
    return job is not None and not job.ended


def _is_whole(job: Job) -> bool:
    """Whether the list tells all of an end; else the job is read by itself."""
    failed = job.status is JobStatus.FAILED and job.error is not None
    return failed or (job.status is JobStatus.COMPLETED and job.video_url is not None)
