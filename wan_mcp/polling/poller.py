"""The one poller of an account's jobs: of all processes on the ledger, one at a time reads.

Others take over when its lease ends, or as soon as its process is dead. What it learns is in the
ledger, where waiters of every process see it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import anyio
from anyio.abc import TaskGroup

from wan_mcp.clock import Clock
from wan_mcp.errors import Busy, CouldNotFindOut, WanError
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import WATCH_TTL_SECONDS, Account, Coordination, Role
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.status import is_transient
from wan_mcp.pixeldojo.priority import Priority
from wan_mcp.polling.intervals import idle_delay, poll_delay
from wan_mcp.polling.job_list import JobListReader
from wan_mcp.polling.job_reader import JobReader
from wan_mcp.polling.rate_limiter import SharedRateLimiter

LEASE_SECONDS = 20.0
"""Seconds after which another process polls, if this one lives but does nothing."""
ROUND_SECONDS = 1.0
"""How often the poller looks for jobs and waiters of other processes."""
FOLLOWER_SECONDS = 5.0
"""How often another process looks whether the poller is gone."""
IDLE_SECONDS = 30.0
DEBOUNCE_SECONDS = 0.05
"""Many changes at once are one round."""
MAX_FAILURES = 3
"""Reads that fail in a row before another process may try: this one's network may be the fault."""
STEP_DOWN_SECONDS = FOLLOWER_SECONDS + 1
READ_SECONDS = 15.0
SPREAD_SECONDS = 10.0
"""Seconds over which the jobs of an earlier process are spread (ours)."""
REFUSED_PAUSE_SECONDS = 60.0
"""How long a job is left alone whose reads are refused: a wrong key does not mend by asking."""
DRIFT_SECONDS = 5.0
"""The two clocks drift apart by more when the machine slept: then everything is due."""

logger = logging.getLogger(__name__)


@dataclass
class Look:
    """When a job was last read, as this process knows it.

    Attributes:
        at: monotonic.
        elapsed: how old the job was then, in seconds.
        chance: drawn for the next delay.
        row: as it was then.
    """

    at: float
    elapsed: float
    chance: float
    record: Record


class Poller:
    """Reads the account's live jobs, as long as no other process does."""

    def __init__(
        self,
        coordination: Coordination,
        account: Account,
        reader: JobReader,
        listing: JobListReader,
        limiter: SharedRateLimiter,
        clock: Clock,
    ) -> None:
        self._coordination = coordination
        self._account = account
        self._reader = reader
        self._listing = listing
        self._limiter = limiter
        self._clock = clock
        self._looks: dict[str, Look] = {}
        self._later: dict[str, float] = {}
        self._reading: set[str] = set()
        self._spread: dict[str, float] = {}
        self._renew_at = 0.0
        self._aside_until = 0.0
        self._failures = 0
        self._drift = self._now_drift()

    async def run(self) -> None:
        """Poll, for ever."""
        async with anyio.create_task_group() as tasks:
            while True:
                changes = self._coordination.own_changes
                try:
                    pause = await self._round(await self._account(), tasks)
                except LedgerUnavailable as exc:
                    pause = FOLLOWER_SECONDS if exc.retry_safe else IDLE_SECONDS
                except Exception:
                    # A defect here must not end the server, in whose tasks payments run.
                    logger.exception("a round of polling broke")
                    pause = IDLE_SECONDS
                await self._clock.wait(partial(self._coordination.next_change, changes), pause)
                if self._coordination.own_changes != changes:
                    await self._clock.sleep(DEBOUNCE_SECONDS)

    async def _round(self, account: str, tasks: TaskGroup) -> float:
        """Start every read that is due; seconds until the next round."""
        records = await self._coordination.live(account)
        woke = self._woke()
        if not records or self._failures >= MAX_FAILURES:
            await self._stand_aside(account)
        if not records or not await self._leads(account, woke):
            self._looks.clear()
            self._listing.forget()
            return FOLLOWER_SECONDS if records else IDLE_SECONDS
        self._note(records, woke)
        now = self._clock.monotonic()
        alone = self._listing.leaves(records)
        watched = {record.submission_id for record in alone if self._is_watched(record)}
        idle = len(alone) - len(watched)
        times = [now + ROUND_SECONDS]
        # Whoever somebody waits for first: room in the budget is given as it is asked for.
        for record in sorted(alone, key=lambda record: record.submission_id not in watched):
            priority = Priority.POLL if record.submission_id in watched else Priority.IDLE
            due = self._due(record, priority, idle if priority is Priority.IDLE else len(watched))
            if due > now:
                times.append(due)
            elif record.job_id and record.submission_id not in self._reading:
                self._reading.add(record.submission_id)
                tasks.start_soon(self._read, record, record.job_id, priority)
        if (listing := self._listing.due(watched=any(map(self._is_watched, records)))) is not None:
            times.append(listing)
            if listing <= now:
                tasks.start_soon(self._read_list, records)
        return max(min(times) - now, 0.0)

    async def _stand_aside(self, account: str) -> None:
        """Let another process poll: there is nothing to do here, or it cannot be done from here."""
        if self._renew_at:
            self._renew_at = 0.0
            await self._coordination.leave(account, Role.POLLER)
        if self._failures >= MAX_FAILURES:
            self._failures = 0
            self._aside_until = self._clock.monotonic() + STEP_DOWN_SECONDS

    async def _leads(self, account: str, woke: bool) -> bool:
        now = self._clock.monotonic()
        if now < self._aside_until:
            return False
        if woke or now >= self._renew_at:
            leads = await self._coordination.lead(account, Role.POLLER, LEASE_SECONDS)
            self._renew_at = now + LEASE_SECONDS / 2 if leads else 0.0
            return leads
        return True

    def _note(self, records: Sequence[Record], woke: bool) -> None:
        """Bring what is known of each job up to what the ledger tells."""
        before = self._looks
        self._looks = {}
        for record in records:
            look = before.get(record.submission_id)
            if look is None:
                look = self._first_sight(record)
            elif look.record.last_polled_at != record.last_polled_at:
                look = self._look(record)
            self._looks[record.submission_id] = look
        if woke:
            self._later.clear()
            for look in self._looks.values():
                look.at = float("-inf")
            self._listing.forget()
        self._spread = {
            submission_id: at
            for submission_id, at in self._spread.items()
            if submission_id in self._looks
        }
        self._later = {
            submission_id: at
            for submission_id, at in self._later.items()
            if submission_id in self._looks
        }

    def _first_sight(self, record: Record) -> Look:
        look, now = self._look(record), self._clock.monotonic()
        if now - look.at > SPREAD_SECONDS and not self._is_watched(record):
            self._spread[record.submission_id] = now + SPREAD_SECONDS * self._clock.chance()
        return look

    def _look(self, record: Record) -> Look:
        began = record.accepted_at or record.created_at
        last = record.last_polled_at or began
        ago = max((self._clock.wall() - last).total_seconds(), 0.0)
        elapsed = max((last - began).total_seconds(), 0.0)
        return Look(self._clock.monotonic() - ago, elapsed, self._clock.chance(), record)

    def _due(self, record: Record, priority: Priority, sharers: int) -> float:
        look, later = self._looks[record.submission_id], self._later.get(record.submission_id, 0.0)
        if self._listing.urgent(record, look.at):
            return later
        idle = priority is Priority.IDLE
        if idle:  # whoever waits does not care how many others there are
            later = max(later, self._spread.get(record.submission_id, 0.0))
        delay = idle_delay(look.elapsed) if idle else poll_delay(look.elapsed, look.chance)
        if record.last_polled_at is not None:  # the first look comes soon, whatever the budget
            delay = max(delay, self._limiter.spacing(priority, sharers))
        return max(look.at + delay, later)

    async def _read(self, record: Record, job_id: str, priority: Priority) -> None:
        rest = 0.0
        try:
            await self._reader.ask(record, job_id, READ_SECONDS, priority)
            self._failures = 0
        except Busy as busy:
            self._later[record.submission_id] = self._clock.monotonic() + (
                busy.retry_after or ROUND_SECONDS
            )
            return
        except LedgerUnavailable:
            rest = ROUND_SECONDS  # no trouble of PixelDojo's
        except WanError as last_error:
            rest = last_error.retry_after or (
                0.0 if is_transient(last_error) else REFUSED_PAUSE_SECONDS
            )
            await self._note_error(record, last_error)
        except Exception:
            logger.exception("a read of job %s broke", job_id)
            rest = REFUSED_PAUSE_SECONDS
        finally:
            self._reading.discard(record.submission_id)
        # Also when nothing could be written down: else the next round would read it again.
        if look := self._looks.get(record.submission_id):
            look.at = self._clock.monotonic()
            self._later[record.submission_id] = look.at + rest

    async def _note_error(self, record: Record, last_error: WanError) -> None:
        self._failures += isinstance(last_error, CouldNotFindOut)
        try:
            await self._coordination.polled([record.submission_id], last_error)
        except Exception as exc:
            logger.warning("trouble with job %s could not be noted: %r", record.job_id, exc)

    async def _read_list(self, records: Sequence[Record]) -> None:
        try:
            await self._listing.read(records)
        except Exception:
            logger.exception("reading the job list broke")

    def _is_watched(self, record: Record) -> bool:
        if record.watched_until is None:
            return False
        left = (record.watched_until - self._clock.wall()).total_seconds()
        return (
            0 < left <= 2 * WATCH_TTL_SECONDS
        )  # longer is what a clock that was wrong once has dated

    def _woke(self) -> bool:
        drift, self._drift = self._drift, self._now_drift()
        return abs(self._drift - drift) > DRIFT_SECONDS

    def _now_drift(self) -> float:
        return self._clock.wall().timestamp() - self._clock.monotonic()
