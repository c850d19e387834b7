"""The one poller of an account's jobs: of all processes on the ledger, one at a time reads.

Others take over when its lease ends, or as soon as its process is dead. What it learns is in the
ledger, where waiters of every process see it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from wan_mcp.clock import Clock
from wan_mcp.errors import Busy, CouldNotFindOut, WanError
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import EXPECTED, Account, Rota
from wan_mcp.ledger.record import Row
from wan_mcp.ledger.status import passes
from wan_mcp.pixeldojo.priority import Use
from wan_mcp.polling.intervals import idle_delay, poll_delay
from wan_mcp.polling.job_list import Listing
from wan_mcp.polling.job_reader import Reader
from wan_mcp.polling.rate_limiter import Budget

LEASE = 20.0
"""Seconds after which another process polls, if this one lives but does nothing."""
ROUND = 1.0
"""How often the poller looks for jobs and waiters of other processes."""
FOLLOW = 5.0
"""How often another process looks whether the poller is gone."""
IDLE = 30.0
BREATH = 0.05
"""Many changes at once are one round."""
FAILURES = 3
"""Reads that fail in a row before another process may try: this one's network may be the fault."""
ASIDE = FOLLOW + 1
READ_SECONDS = 15.0
SPREAD = 10.0
"""Seconds over which the jobs of an earlier process are spread (ours)."""
REFUSED_REST = 60.0
"""How long a job is left alone whose reads are refused: a wrong key does not mend by asking."""
DRIFT = 5.0
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
    row: Row


class Poller:
    """Reads the account's live jobs, as long as no other process does."""

    def __init__(
        self,
        rota: Rota,
        account: Account,
        reader: Reader,
        listing: Listing,
        budget: Budget,
        clock: Clock,
    ) -> None:
        self._rota = rota
        self._account = account
        self._reader = reader
        self._listing = listing
        self._budget = budget
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
                changed = self._rota.next_change()
                try:
                    pause = await self._round(await self._account(), tasks)
                except LedgerUnavailable as exc:
                    pause = FOLLOW if exc.retry_safe else IDLE
                except Exception:
                    # A defect here must not end the server, in whose tasks payments run.
                    logger.exception("a round of polling broke")
                    pause = IDLE
                await self._clock.wait(changed, pause)
                if changed.is_set():
                    await self._clock.sleep(BREATH)

    async def _round(self, account: str, tasks: TaskGroup) -> float:
        """Start every read that is due; seconds until the next round."""
        rows = await self._rota.live(account)
        woke = self._woke()
        if not rows or self._failures >= FAILURES:
            await self._stand_aside(account)
        if not rows or not await self._leads(account, woke):
            self._looks.clear()
            self._listing.forget()
            return FOLLOW if rows else IDLE
        self._note(rows, woke)
        now = self._clock.monotonic()
        alone = self._listing.leaves(rows)
        watched = {row.handle for row in alone if self._is_watched(row)}
        idle = len(alone) - len(watched)
        times = [now + ROUND]
        # Whoever somebody waits for first: room in the budget is given as it is asked for.
        for row in sorted(alone, key=lambda row: row.handle not in watched):
            use = Use.POLL if row.handle in watched else Use.IDLE
            due = self._due(row, use, idle if use is Use.IDLE else len(watched))
            if due > now:
                times.append(due)
            elif row.job_id and row.handle not in self._reading:
                self._reading.add(row.handle)
                tasks.start_soon(self._read, row, row.job_id, use)
        if (listing := self._listing.due(watched=any(map(self._is_watched, rows)))) is not None:
            times.append(listing)
            if listing <= now:
                tasks.start_soon(self._read_list, rows)
        return max(min(times) - now, 0.0)

    async def _stand_aside(self, account: str) -> None:
        """Let another process poll: there is nothing to do here, or it cannot be done from here."""
        if self._renew_at:
            self._renew_at = 0.0
            await self._rota.leave(account)
        if self._failures >= FAILURES:
            self._failures = 0
            self._aside_until = self._clock.monotonic() + ASIDE

    async def _leads(self, account: str, woke: bool) -> bool:
        now = self._clock.monotonic()
        if now < self._aside_until:
            return False
        if woke or now >= self._renew_at:
            leads = await self._rota.lead(account, LEASE)
            self._renew_at = now + LEASE / 2 if leads else 0.0
            return leads
        return True

    def _note(self, rows: Sequence[Row], woke: bool) -> None:
        """Bring what is known of each job up to what the ledger tells."""
        before = self._looks
        self._looks = {}
        for row in rows:
            look = before.get(row.handle)
            if look is None:
                look = self._first_sight(row)
            elif look.row.looked_at != row.looked_at:
                look = self._look(row)
            self._looks[row.handle] = look
        if woke:
            self._later.clear()
            for look in self._looks.values():
                look.at = float("-inf")
            self._listing.forget()
        self._spread = {handle: at for handle, at in self._spread.items() if handle in self._looks}
        self._later = {handle: at for handle, at in self._later.items() if handle in self._looks}

    def _first_sight(self, row: Row) -> Look:
        look, now = self._look(row), self._clock.monotonic()
        if now - look.at > SPREAD and not self._is_watched(row):
            self._spread[row.handle] = now + SPREAD * self._clock.chance()
        return look

    def _look(self, row: Row) -> Look:
        began = row.accepted_at or row.created_at
        last = row.looked_at or began
        ago = max((self._clock.wall() - last).total_seconds(), 0.0)
        elapsed = max((last - began).total_seconds(), 0.0)
        return Look(self._clock.monotonic() - ago, elapsed, self._clock.chance(), row)

    def _due(self, row: Row, use: Use, sharers: int) -> float:
        look, later = self._looks[row.handle], self._later.get(row.handle, 0.0)
        if self._listing.urgent(row, look.at):
            return later
        idle = use is Use.IDLE
        if idle:  # whoever waits does not care how many others there are
            later = max(later, self._spread.get(row.handle, 0.0))
        delay = idle_delay(look.elapsed) if idle else poll_delay(look.elapsed, look.chance)
        if row.looked_at is not None:  # the first look comes soon, whatever the budget
            delay = max(delay, self._budget.spacing(use, sharers))
        return max(look.at + delay, later)

    async def _read(self, row: Row, job_id: str, use: Use) -> None:
        rest = 0.0
        try:
            await self._reader.ask(row, job_id, READ_SECONDS, use)
            self._failures = 0
        except Busy as busy:
            self._later[row.handle] = self._clock.monotonic() + (busy.retry_after or ROUND)
            return
        except LedgerUnavailable:
            rest = ROUND  # no trouble of PixelDojo's
        except WanError as trouble:
            rest = trouble.retry_after or (0.0 if passes(trouble) else REFUSED_REST)
            await self._note_trouble(row, trouble)
        except Exception:
            logger.exception("a read of job %s broke", job_id)
            rest = REFUSED_REST
        finally:
            self._reading.discard(row.handle)
        # Also when nothing could be written down: else the next round would read it again.
        if look := self._looks.get(row.handle):
            look.at = self._clock.monotonic()
            self._later[row.handle] = look.at + rest

    async def _note_trouble(self, row: Row, trouble: WanError) -> None:
        self._failures += isinstance(trouble, CouldNotFindOut)
        try:
            await self._rota.looked([row.handle], trouble)
        except Exception as exc:
            logger.warning("trouble with job %s could not be noted: %r", row.job_id, exc)

    async def _read_list(self, rows: Sequence[Row]) -> None:
        try:
            await self._listing.read(rows)
        except Exception:
            logger.exception("reading the job list broke")

    def _is_watched(self, row: Row) -> bool:
        if row.watched_until is None:
            return False
        left = (row.watched_until - self._clock.wall()).total_seconds()
        return 0 < left <= 2 * EXPECTED  # longer is what a clock that was wrong once has dated

    def _woke(self) -> bool:
        drift, self._drift = self._drift, self._now_drift()
        return abs(self._drift - drift) > DRIFT

    def _now_drift(self) -> float:
        return self._clock.wall().timestamp() - self._clock.monotonic()
