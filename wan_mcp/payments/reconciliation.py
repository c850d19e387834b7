"""Lost answers looked up in PixelDojo's job list. It never sends anything paid.

A request carries a seed; a job in the list that shows the same seed is the job of that request.
Whether the list shows it is not documented: without it nothing can be concluded, and that is said.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import anyio

from wan_mcp.clock import Clock
from wan_mcp.errors import Busy, WanError
from wan_mcp.ledger.contract import Fenced, Ledger, LedgerUnavailable
from wan_mcp.ledger.fingerprint import without_query
from wan_mcp.ledger.record import Record, State
from wan_mcp.pixeldojo.priority import Priority

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo
    from wan_mcp.pixeldojo.wire import Listed

SCHEDULE = (3.0, 15.0, 60.0, 180.0, 600.0, 1800.0)
"""Seconds after the request was sent at which the list is read by itself."""
PROOF_AGE = 1200.0
PROOF_LOOKS = 3
"""Only so late, and after so many looks, may a missing job mean that there is none: the list could
lag, the clock could have jumped."""
MIN_GAP = 3.0
FAILED_PAUSE = 30.0
GIVEN_UP = timedelta(hours=2)
"""After that only somebody's question makes a look."""
KNOWN_JOBS = 200
IDLE_SECONDS = 30.0
"""How often the ledger is asked for what other processes left when they died."""

logger = logging.getLogger(__name__)


class Reconciler:
    """Looks for the jobs of lost answers."""

    def __init__(self, vendor: "PixelDojo", ledger: Ledger, clock: Clock) -> None:
        self._vendor = vendor
        self._ledger = ledger
        self._clock = clock
        self._lost = anyio.Event()
        self._next_look_at = 0.0
        self._looking = anyio.Lock()
        self._put_off = False

    def wake(self) -> None:
        """Say that an answer was lost just now."""
        self._lost.set()

    async def run(self, account: Callable[[], Awaitable[str]]) -> None:
        """Look by the schedule, for ever."""
        while True:
            self._lost = anyio.Event()
            try:
                pause = await self._round(await account())
            except LedgerUnavailable:
                pause = None
            except Exception:
                # A defect here must not end the server, in whose tasks payments run.
                logger.exception("looking up lost answers broke")
                pause = None
            await self._rest(pause)

    async def look(self, account: str, records: Sequence[Record]) -> None:
        """Read the list once and note for each lost answer what it shows.

        Raises:
            LedgerUnavailable: the findings could not be kept.
        """
        async with self._looking:
            now = self._clock.monotonic()
            if records and now >= self._next_look_at:
                self._next_look_at = now + MIN_GAP
                await self._read_list(account, records)

    async def _read_list(self, account: str, records: Sequence[Record]) -> None:
        try:
            listed = await self._vendor.jobs(
                Priority.STATUS if self._put_off else Priority.RECONCILE
            )
        except Busy as busy:
            self._put_off = True  # once; waiters ask so often that it would never find room
            again = self._clock.wall() + timedelta(seconds=busy.retry_after or MIN_GAP)
            for record in records:
                await self._record(record, busy.what, again, counts=False)
            return
        except WanError as exc:
            self._next_look_at += exc.retry_after or 0.0
            what = f"PixelDojo's job list could not be read: {exc.what}"
            for record in records:
                await self._record(record, what, self._again(record), counts=False)
            return
        self._put_off = False
        ours = await self._ledger.recent(account, limit=KNOWN_JOBS)
        known = {
            record.job_id: record for record in ours if record.job_id and not record.from_elsewhere
        }
        for record in records:
            await self._settle(record, listed, known)

    async def _round(self, account: str) -> float | None:
        """One look at what is due; seconds until the next, None when nothing is lost."""
        now = self._clock.wall()
        await self._ledger.recover()
        await self.look(account, await self._ledger.unknowns(account, now))
        records = await self._ledger.unknowns(account)
        times = [record.next_check_at for record in records if record.next_check_at is not None]
        return max(min((time - now).total_seconds() for time in times), MIN_GAP) if times else None

    async def _rest(self, seconds: float | None) -> None:
        """Until an answer is lost, the next look is due, or another process may have died."""
        with anyio.move_on_after(IDLE_SECONDS):
            async with anyio.create_task_group() as tasks:
                if seconds is not None:
                    tasks.start_soon(self._timer, seconds, tasks.cancel_scope)
                await self._lost.wait()
                tasks.cancel_scope.cancel()

    async def _timer(self, seconds: float, scope: anyio.CancelScope) -> None:
        await self._clock.sleep(seconds)
        scope.cancel()

    async def _settle(
        self, record: Record, listed: "Sequence[Listed]", known: dict[str, Record]
    ) -> None:
        unclaimed = [each for each in listed if each.job.job_id not in known]
        same_seed = [each for each in unclaimed if each.seed == record.seed]
        matches = [each for each in same_seed if _is_it(record, each)]
        with suppress(Fenced):  # another process settled it in the meantime
            if len(matches) == 1:
                known[matches[0].job.job_id] = record  # no other row may take it in this look
                await self._ledger.accept(record.submission_id, matches[0].job)
            elif same_seed:
                await self._note(
                    record, "Several jobs in PixelDojo's list could be this request's."
                )
            elif not any(each.seed is not None for each in listed):
                await self._note(record, "PixelDojo's job list does not show which job is whose.")
            elif self._is_old(record) and _surrounds(record, listed, known):
                why = "PixelDojo's job list shows jobs from before and after, and none for this."
                await self._ledger.conclude(record.submission_id, State.NOT_SENT, why)
            else:
                await self._note(
                    record, "PixelDojo's job list shows no job for this request so far."
                )

    def _again(self, record: Record) -> datetime | None:
        """When to look after one that told nothing: soon, also after the last of the schedule."""
        sent, now = record.sent_at or record.created_at, self._clock.wall()
        soon = now + timedelta(seconds=FAILED_PAUSE)
        due = _next(sent, now)
        if due is None:
            return soon if now - sent < GIVEN_UP else None
        return min(due, soon)

    async def _note(self, record: Record, findings: str) -> None:
        due = _next(record.sent_at or record.created_at, self._clock.wall())
        await self._record(record, findings, due, counts=True)

    async def _record(
        self, record: Record, findings: str, due: datetime | None, *, counts: bool
    ) -> None:
        with suppress(Fenced):  # another process settled it in the meantime
            await self._ledger.record_check(record.submission_id, findings, due, counts=counts)

    def _is_old(self, record: Record) -> bool:
        age = (self._clock.wall() - (record.sent_at or record.created_at)).total_seconds()
        return age >= PROOF_AGE and record.checks + 1 >= PROOF_LOOKS


def _next(sent: datetime, now: datetime) -> datetime | None:
    times = (sent + timedelta(seconds=seconds) for seconds in SCHEDULE)
    return next((time for time in times if time > now), None)


def _is_it(record: Record, listed: "Listed") -> bool:
    """Whether a job with the same seed is the one of a request.

    A planted seed is ours alone; one that the caller chose may belong to several jobs, so all
    that was asked for has to be the same.
    """
    asked = listed.arguments
    return record.seed_generated or all(
        _comparable(asked.get(name)) == value for name, value in record.arguments.items()
    )


def _comparable(value: str | int | bool | None) -> str | int | bool | None:
    """A URL as the ledger keeps it, so that both are spelt alike."""
    if not isinstance(value, str):
        return value
    with suppress(ValueError):  # what no URL is compares as it is
        return without_query(value) if value.lower().startswith("http") else value
    return value


def _surrounds(record: Record, listed: "Iterable[Listed]", known: dict[str, Record]) -> bool:
    """Whether the list shows, with their seeds, jobs of ours from before and after the request.

    Only then does a missing job mean that there is none: the list goes back far enough, it is up
    to date, and it does show seeds.
    """
    sent = record.sent_at or record.created_at
    ours = [
        known[each.job.job_id]
        for each in listed
        if each.job.job_id in known and known[each.job.job_id].seed == each.seed
    ]
    times = [each.accepted_at for each in ours if each.accepted_at is not None]
    return any(time < sent for time in times) and any(time > sent for time in times)
