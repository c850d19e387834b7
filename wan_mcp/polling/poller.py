"""The poller reads live jobs from PixelDojo. One process does this for all that share a ledger.

Another process takes over when the poller's lease expires, or as soon as its process is dead. The
poller records its readings in the ledger, where the waiters of every process see them.
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
from wan_mcp.ledger.rules import CONFIRM_SECONDS
from wan_mcp.ledger.status import is_transient
from wan_mcp.pixeldojo.priority import Priority
from wan_mcp.polling.intervals import idle_delay, poll_delay
from wan_mcp.polling.job_list import JobListReader
from wan_mcp.polling.job_reader import JobReader
from wan_mcp.polling.rate_limiter import SharedRateLimiter

LEASE_SECONDS = 20.0
"""If the poller's process lives but does nothing, another one takes over after this time."""
ROUND_SECONDS = 1.0
"""How often the poller checks the ledger for jobs and waiters of other processes."""
FOLLOWER_SECONDS = 5.0
"""How often the other processes check whether the poller is gone."""
IDLE_SECONDS = 30.0
"""The pause while there is no job to poll, or while the ledger cannot be used."""
DEBOUNCE_SECONDS = 0.05
"""Changes that arrive within this time start one round."""
MAX_FAILURES = 3
"""After this many failed reads in a row another process may try, because the fault may be the
network of this one."""
STEP_DOWN_SECONDS = FOLLOWER_SECONDS + 1
"""How long a process that has stepped down leaves the role to others."""
READ_SECONDS = 15.0
"""How long one read of a job may take."""
SPREAD_SECONDS = 10.0
"""The first reads of jobs from before a restart are spread over this time (ours)."""
REFUSED_PAUSE_SECONDS = 60.0
"""The pause after a read that was refused: asking again does not repair a wrong key."""
DRIFT_SECONDS = 5.0
"""If the wall clock and the monotonic clock drift apart by more than this, the computer was asleep,
and every job is due."""

logger = logging.getLogger(__name__)


@dataclass
class Reading:
    """When a job was last read, as far as this process knows.

    Attributes:
        at: on the monotonic clock, in seconds.
        age: how old the job was then, in seconds.
        chance: a random number from 0 to 1, drawn for the next delay.
        record: the job's record at that time.
    """

    at: float
    age: float
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
        self._readings: dict[str, Reading] = {}
        self._not_before: dict[str, float] = {}
        self._being_read: set[str] = set()
        self._spread_until: dict[str, float] = {}
        self._renew_at = 0.0
        self._stepped_down_until = 0.0
        self._failures = 0
        self._drift = self._now_drift()

    async def run(self) -> None:
        """Poll until cancelled."""
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
        """Start every read that is due. Returns the seconds until the next round."""
        records = await self._coordination.live(account)
        woke = self._woke()
        if not records or self._failures >= MAX_FAILURES:
            await self._step_down(account)
        if not records or not await self._leads(account, woke):
            self._readings.clear()
            self._listing.forget()
            return FOLLOWER_SECONDS if records else IDLE_SECONDS
        self._update_readings(records, woke)
        now = self._clock.monotonic()
        alone = self._listing.read_alone(records)
        watched = {record.submission_id for record in alone if self._is_watched(record)}
        idle = len(alone) - len(watched)
        times = [now + ROUND_SECONDS]
        # Watched jobs come first: the rate limiter serves requests in the order in which they come.
        for record in sorted(alone, key=lambda record: record.submission_id not in watched):
            priority = Priority.POLL if record.submission_id in watched else Priority.IDLE
            due = self._due(record, priority, idle if priority is Priority.IDLE else len(watched))
            if due > now:
                times.append(due)
            elif record.job_id and record.submission_id not in self._being_read:
                self._being_read.add(record.submission_id)
                tasks.start_soon(self._read, record, record.job_id, priority)
        if (listing := self._listing.due(watched=any(map(self._is_watched, records)))) is not None:
            times.append(listing)
            if listing <= now:
                tasks.start_soon(self._read_list, account, records)
        return max(min(times) - now, 0.0)

    async def _step_down(self, account: str) -> None:
        """Let another process poll, because there are no jobs or because reads fail here."""
        if self._renew_at:
            self._renew_at = 0.0
            await self._coordination.leave(account, Role.POLLER)
        if self._failures >= MAX_FAILURES:
            self._failures = 0
            self._stepped_down_until = self._clock.monotonic() + STEP_DOWN_SECONDS

    async def _leads(self, account: str, woke: bool) -> bool:
        now = self._clock.monotonic()
        if now < self._stepped_down_until:
            return False
        if woke or now >= self._renew_at:
            leads = await self._coordination.lead(account, Role.POLLER, LEASE_SECONDS)
            self._renew_at = now + LEASE_SECONDS / 2 if leads else 0.0
            return leads
        return True

    def _update_readings(self, records: Sequence[Record], woke: bool) -> None:
        """Update the readings of all jobs from their records."""
        before = self._readings
        self._readings = {}
        for record in records:
            reading = before.get(record.submission_id)
            if reading is None:
                reading = self._first_reading(record)
            elif reading.record.last_polled_at != record.last_polled_at:
                reading = self._reading_of(record)
            self._readings[record.submission_id] = reading
        if woke:
            self._not_before.clear()
            for reading in self._readings.values():
                reading.at = float("-inf")
            self._listing.forget()
        self._spread_until = {
            submission_id: at
            for submission_id, at in self._spread_until.items()
            if submission_id in self._readings
        }
        self._not_before = {
            submission_id: at
            for submission_id, at in self._not_before.items()
            if submission_id in self._readings
        }

    def _first_reading(self, record: Record) -> Reading:
        reading, now = self._reading_of(record), self._clock.monotonic()
        if now - reading.at > SPREAD_SECONDS and not self._is_watched(record):
            self._spread_until[record.submission_id] = now + SPREAD_SECONDS * self._clock.chance()
        return reading

    def _reading_of(self, record: Record) -> Reading:
        began = record.accepted_at or record.created_at
        last = record.last_polled_at or began
        ago = max((self._clock.wall() - last).total_seconds(), 0.0)
        age = max((last - began).total_seconds(), 0.0)
        return Reading(self._clock.monotonic() - ago, age, self._clock.chance(), record)

    def _due(self, record: Record, priority: Priority, sharers: int) -> float:
        reading, later = (
            self._readings[record.submission_id],
            self._not_before.get(record.submission_id, 0.0),
        )
        if self._listing.urgent(record, reading.at):
            return later
        idle = priority is Priority.IDLE
        if idle:  # a job that is waited for is not delayed because other jobs are due
            later = max(later, self._spread_until.get(record.submission_id, 0.0))
        delay = idle_delay(reading.age) if idle else poll_delay(reading.age, reading.chance)
        if record.end_is_unconfirmed and record.last_error is None:
            delay = min(delay, CONFIRM_SECONDS)  # even if nobody waits: it may be one odd answer
        if record.last_polled_at is not None:  # the first read is soon, whatever the limit is
            delay = max(delay, self._limiter.spacing(priority, sharers))
        return max(reading.at + delay, later)

    async def _read(self, record: Record, job_id: str, priority: Priority) -> None:
        pause = 0.0
        try:
            await self._reader.ask(record, job_id, READ_SECONDS, priority)
            self._failures = 0
        except Busy as busy:
            self._not_before[record.submission_id] = self._clock.monotonic() + (
                busy.retry_after or ROUND_SECONDS
            )
            return
        except LedgerUnavailable:
            pause = ROUND_SECONDS  # the fault is not PixelDojo's
        except WanError as last_error:
            pause = last_error.retry_after or (
                0.0 if is_transient(last_error) else REFUSED_PAUSE_SECONDS
            )
            await self._note_error(record, last_error)
        except Exception:
            logger.exception("a read of job %s broke", job_id)
            pause = REFUSED_PAUSE_SECONDS
        finally:
            self._being_read.discard(record.submission_id)
        # Also if nothing could be recorded. Otherwise the next round would read the job again.
        if reading := self._readings.get(record.submission_id):
            reading.at = self._clock.monotonic()
            self._not_before[record.submission_id] = reading.at + pause

    async def _note_error(self, record: Record, last_error: WanError) -> None:
        self._failures += isinstance(last_error, CouldNotFindOut)
        try:
            await self._coordination.polled([record.submission_id], last_error)
        except Exception as exc:
            logger.warning("a failed read of job %s could not be recorded: %r", record.job_id, exc)

    async def _read_list(self, account: str, records: Sequence[Record]) -> None:
        try:
            await self._listing.read(account, records)
        except Exception:
            logger.exception("reading the job list broke")

    def _is_watched(self, record: Record) -> bool:
        if record.watched_until is None:
            return False
        left = (record.watched_until - self._clock.wall()).total_seconds()
        # No waiter announces a later date than this: a clock that was wrong wrote it.
        return 0 < left <= 2 * WATCH_TTL_SECONDS

    def _woke(self) -> bool:
        drift, self._drift = self._drift, self._now_drift()
        return abs(self._drift - drift) > DRIFT_SECONDS

    def _now_drift(self) -> float:
        return self._clock.wall().timestamp() - self._clock.monotonic()
