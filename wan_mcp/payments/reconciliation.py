"""Looks up requests whose answer was lost in PixelDojo's job list. It sends no paid request.

A request carries a seed, and `matching` finds the job in the list that belongs to a request.
Whether the list shows seeds is not documented: without them nothing can be concluded, and the
findings say so. One process at a time reads the list for lost answers of a wallet: it holds the
reconciler's lease while it reads, and the next one finds its results in the ledger. The poller
reads the list for jobs that run, and has it searched as well. Two processes may therefore match
requests at once: the ledger gives a request one job, and a job to one request.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

import anyio

from wan_mcp.clock import Clock
from wan_mcp.errors import Busy, WanError
from wan_mcp.ledger import rules
from wan_mcp.ledger.contract import Fenced, Ledger, LedgerUnavailable
from wan_mcp.ledger.coordination import Role
from wan_mcp.ledger.record import ListReading, Record, State
from wan_mcp.payments.matching import ListedJobs
from wan_mcp.pixeldojo.priority import Priority

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo
    from wan_mcp.pixeldojo.wire import Listed

SCHEDULE_SECONDS = (3.0, 15.0, 60.0, 180.0, 600.0, 1800.0)
"""After these times from its sending, the list is read for a request without being asked."""
LEASE_SECONDS = 30.0
LEASE_POLL_SECONDS = 0.5
"""How often a process checks whether the one that reads the list has finished."""
MIN_GAP_SECONDS = 3.0
"""Two readings for one request are at least so far apart, whichever processes make them."""
FAILED_PAUSE_SECONDS = 30.0
MAX_AGE_SECONDS = 7200.0
"""An older request is looked up only when somebody asks for it."""
KNOWN_JOBS = 200
IDLE_SECONDS = 30.0
"""How often the ledger is checked for requests that other processes left when they died."""

NOT_FOUND = "PixelDojo's job list shows no job for this request so far."

logger = logging.getLogger(__name__)


class Reconciler:
    """Looks for the jobs of requests whose answer was lost, in all workspaces of a wallet."""

    def __init__(self, vendor: "PixelDojo", ledger: Ledger, clock: Clock) -> None:
        self._vendor = vendor
        self._ledger = ledger
        self._clock = clock
        self._lost = anyio.Event()
        self._not_before = 0.0
        self._looking = anyio.Lock()
        self._put_off = False

    def wake(self) -> None:
        """Look up lost answers soon: one was lost just now."""
        self._lost.set()

    async def run(self, wallet: Callable[[], Awaitable[str]]) -> None:
        """Look up lost answers by the schedule, until cancelled."""
        while True:
            self._lost = anyio.Event()
            try:
                pause = await self._round(await wallet())
            except LedgerUnavailable:
                pause = None
            except Exception:
                # A defect here must not end the server, in whose tasks payments run.
                logger.exception("looking up lost answers broke")
                pause = None
            await self._clock.wait(self._lost.wait, min(pause or IDLE_SECONDS, IDLE_SECONDS))

    async def reconcile(self, wallet: str, asked_for: Collection[str] = ()) -> None:
        """Read the list once, for requests that are due and for these, and record what it shows.

        It is not read for a request that any process has looked up in the last MIN_GAP_SECONDS.

        Args:
            asked_for: submission ids.

        Raises:
            LedgerUnavailable: the findings could not be kept.
        """
        async with self._looking:
            if not await self._wanted(wallet, asked_for):
                return
            await self._become_reconciler(wallet)
            try:
                # Asked again: the previous holder of the role may have looked them up meanwhile.
                if records := await self._wanted(wallet, asked_for):
                    await self._read_list(wallet, records)
            finally:
                with anyio.CancelScope(shield=True), suppress(LedgerUnavailable):
                    await self._ledger.coordination.leave(wallet, Role.RECONCILER)

    async def lost(self, wallet: str) -> list[Record]:
        """The requests whose answer was lost, for `search` in a list that is read after this call.

        None are returned while the ledger cannot be used: the search is then left out.
        """
        with suppress(LedgerUnavailable):
            return await self._ledger.unknowns(wallet)
        return []

    async def search(self, wallet: str, lost: Sequence[Record], listed: "Sequence[Listed]") -> None:
        """Search a list that was read for another purpose, and give lost requests their jobs.

        Where many jobs are made, they soon leave the list, so every reading of it counts. The
        search is left out while the ledger cannot be used.

        Args:
            lost: from `lost`, before the list was read.
        """
        seeds = {each.seed for each in listed}
        if not any(record.seed in seeds for record in lost):
            return
        try:
            await self._search(await self._beside_known_jobs(wallet, listed), lost)
        except LedgerUnavailable as unavailable:
            logger.info("the job list was not searched for lost requests: %s", unavailable.what)

    async def _round(self, wallet: str) -> float | None:
        """Look up what is due; seconds until the next time, None when nothing is lost."""
        await self._ledger.recover()
        await self.reconcile(wallet)
        records = await self._ledger.unknowns(wallet)
        dates = [record.next_check_at for record in records if record.next_check_at is not None]
        if not dates:
            return None
        return max((min(dates) - self._clock.wall()).total_seconds(), MIN_GAP_SECONDS)

    async def _wanted(self, wallet: str, asked_for: Collection[str]) -> list[Record]:
        if self._clock.monotonic() < self._not_before:
            return []
        now = self._clock.wall()
        return [
            record
            for record in await self._ledger.unknowns(wallet)
            if (_is_due(record, now) or record.submission_id in asked_for)
            and not _just_checked(record, now)
        ]

    async def _become_reconciler(self, wallet: str) -> None:
        coordination = self._ledger.coordination
        while not await coordination.lead(wallet, Role.RECONCILER, LEASE_SECONDS):
            await self._clock.sleep(LEASE_POLL_SECONDS)

    async def _read_list(self, wallet: str, records: Sequence[Record]) -> None:
        lost = await self._ledger.unknowns(wallet)
        try:
            listed = await self._vendor.jobs(
                Priority.STATUS if self._put_off else Priority.RECONCILE
            )
        except Busy as busy:
            self._put_off = True  # once: waiters ask so often that the list would never find room
            for record in records:
                pause = busy.retry_after or MIN_GAP_SECONDS
                await self._record(record, busy.what, pause, ListReading.FAILED)
            return
        except WanError as exc:
            self._not_before = self._clock.monotonic() + (exc.retry_after or 0.0)
            what = f"PixelDojo's job list could not be read: {exc.what}"
            for record in records:
                after = self._pause_after_failure(record)
                await self._record(record, what, after, ListReading.FAILED)
            return
        self._put_off = False
        jobs = await self._beside_known_jobs(wallet, listed)
        for record in records:
            await self._settle(record, jobs)
        # Also those that are not due yet: the list is short, and may not show their jobs later.
        await self._search(jobs, lost)

    async def _beside_known_jobs(self, wallet: str, listed: "Sequence[Listed]") -> ListedJobs:
        return ListedJobs(listed, await self._ledger.in_wallet(wallet, KNOWN_JOBS))

    async def _search(self, jobs: ListedJobs, lost: Sequence[Record]) -> None:
        """Give each request its job if the list shows it.

        Args:
            lost: those that were lost before the list was read. It cannot show the job of a later
                one, but may show a job with the same seed and inputs that was paid for elsewhere.
        """
        for record in lost:
            with suppress(Fenced):  # another process settled it in the meantime
                await self._match(record, jobs)

    async def _match(self, record: Record, jobs: ListedJobs) -> bool:
        """Give a request its job if the list shows it. Returns whether it does. Raises Fenced."""
        job = jobs.job_of(record)
        if job is not None:
            jobs.claim(record, job)
            await self._ledger.match(record, job)
        return job is not None

    async def _settle(self, record: Record, jobs: ListedJobs) -> None:
        with suppress(Fenced):  # another process settled it in the meantime
            if await self._match(record, jobs):
                return
            if not jobs.shows_seeds:
                await self._note(record, "PixelDojo's job list does not show which job is whose.")
            elif doubts := jobs.doubts(record):
                await self._note(record, doubts)
            elif not jobs.surround(record):
                await self._note(record, NOT_FOUND)
            elif rules.is_proven(record, self._clock.wall()):
                why = "PixelDojo's job list shows jobs from before and after, and none for this."
                await self._ledger.conclude(record, State.NOT_SENT, why)
            else:
                await self._note(record, NOT_FOUND, ListReading.SHOWS_ABSENCE)

    async def _note(
        self, record: Record, findings: str, reading: ListReading = ListReading.INCONCLUSIVE
    ) -> None:
        await self._record(record, findings, self._next_in(record, reading), reading)

    async def _record(
        self, record: Record, findings: str, next_in: float | None, reading: ListReading
    ) -> None:
        with suppress(Fenced):  # another process settled it in the meantime
            await self._ledger.record_check(record, findings, next_in, reading)

    def _next_in(self, record: Record, reading: ListReading) -> float | None:
        """Seconds until the next reading: by the schedule, and until three of them are a proof."""
        now = self._clock.wall()
        age = (now - record.began_at).total_seconds()
        pauses = [seconds - age for seconds in SCHEDULE_SECONDS if seconds > age]
        # With a complete proof the request would have been concluded instead of checked again.
        may_prove = reading is ListReading.SHOWS_ABSENCE
        if may_prove and rules.PROOF_AGE_SECONDS <= age < MAX_AGE_SECONDS:
            pauses.append(rules.PROOF_GAP_SECONDS)
        return min(pauses, default=None)

    def _pause_after_failure(self, record: Record) -> float | None:
        """Seconds until the next try after a reading that failed, also after the schedule's end."""
        age = (self._clock.wall() - record.began_at).total_seconds()
        if age >= MAX_AGE_SECONDS:
            return None
        return min([*(at - age for at in SCHEDULE_SECONDS if at > age), FAILED_PAUSE_SECONDS])


def _is_due(record: Record, now: datetime) -> bool:
    return record.next_check_at is not None and record.next_check_at <= now


def _just_checked(record: Record, now: datetime) -> bool:
    if record.checked_at is None:
        return False
    return 0 <= (now - record.checked_at).total_seconds() < MIN_GAP_SECONDS
