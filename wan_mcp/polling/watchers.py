"""Who waits for which job in this process. A waiter asks nobody: it watches the job's row."""

import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import partial

import anyio

from wan_mcp.clock import Clock
from wan_mcp.errors import Busy
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import WATCH_TTL_SECONDS, Coordination
from wan_mcp.ledger.record import Record, State

MAX_WAITERS = 2_000
"""Waiters at once; each holds a call open. With 1,000 the process takes about 100 MB."""
BUSY_SECONDS = 30.0
HEARTBEAT_SECONDS = 15.0
"""Seconds after which a waiter is told the time at the latest: hosts give up on a silent call at
60 s, some transports at 20."""
CHEAP_WAITERS = 50
"""Waiters up to whom each look is told; to more only what is new, and the time now and then."""
POLL_SECONDS = 0.5
"""How often the ledger is asked what another process wrote."""
MAX_MISSES = 3
"""How often in a row the ledger may be busy before waiters look for themselves."""
DEGRADED_RETRY_SECONDS = 5.0
"""How often it is tried again when the ledger cannot be used."""
DEBOUNCE_SECONDS = 0.05
"""Many changes at once are one look."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Topic:
    """A row that is waited for, and the event of its next news."""

    record: Record
    changed: anyio.Event = field(default_factory=anyio.Event)
    waiters: int = 0
    stale: bool = False
    gone: bool = False
    """Another row stands for the job now."""

    def publish(self, record: Record) -> None:
        self.record, self.stale = record, False
        changed, self.changed = self.changed, anyio.Event()
        changed.set()


class Watchers:
    """The rows that this process's waiters watch."""

    def __init__(self, coordination: Coordination, clock: Clock) -> None:
        self._coordination = coordination
        self._clock = clock
        self._topics: dict[str, _Topic] = {}
        self._waiters = 0
        self._arrived = anyio.Event()
        self._announced: set[str] = set()
        self._renew_at = 0.0
        self._revision = -1
        self._misses = 0
        self._degraded = False

    async def watch(self, record: Record, until: float) -> AsyncGenerator[Record, None]:
        """The row with each news, at least every HEARTBEAT seconds, and when the time is up.

        Args:
            until: when it is, monotonic.

        Raises:
            Busy: too many wait already.
            LedgerUnavailable: the poller and its waiters cannot meet there.
        """
        post = self._enter(record)
        changed = post.changed
        try:
            while (left := until - self._clock.monotonic()) > 0:
                if self._degraded:
                    raise LedgerUnavailable("The ledger cannot be followed just now.")
                # Spread, so that a thousand who came together do not speak together.
                beat = HEARTBEAT_SECONDS * (1 - 0.5 * self._clock.chance())
                await self._clock.wait(changed.wait, min(left, beat))
                changed = post.changed  # before the caller takes its time with this one
                if post.gone:
                    raise LedgerUnavailable("Another row stands for the job.")
                yield post.record
            if changed.is_set():
                yield post.record
        finally:
            self._leave(post)

    async def run(self) -> None:
        """Look for news, for ever."""
        while True:
            if not self._topics:
                await self._arrived.wait()
                self._revision = -1
            changes, self._arrived = self._coordination.own_changes, anyio.Event()
            await self._hear()
            await self._clock.wait(
                partial(self._coordination.next_change, changes),
                DEGRADED_RETRY_SECONDS if self._degraded else POLL_SECONDS,
            )
            if self._coordination.own_changes != changes:
                await self._clock.sleep(DEBOUNCE_SECONDS)

    async def _hear(self) -> None:
        try:
            await self._announce()
            await self._refresh()
        except Exception as exc:
            if not isinstance(exc, LedgerUnavailable):
                # A defect here must not end the server, in whose tasks payments run.
                logger.exception("waiters could not be told")
            self._misses += 1
            self._revision = -1
        else:
            self._misses = 0
        was, self._degraded = self._degraded, self._misses >= MAX_MISSES
        if self._degraded and not was:
            for post in self._topics.values():
                post.publish(post.record)

    def _enter(self, record: Record) -> _Topic:
        if self._waiters >= MAX_WAITERS:
            raise Busy(f"{MAX_WAITERS} calls wait for jobs here already.", retry_after=BUSY_SECONDS)
        if record.submission_id not in self._topics:
            self._revision = -1  # the row may be old: somebody else has just left with a newer one
        post = self._topics.setdefault(record.submission_id, _Topic(record))
        if self._is_news(record, post.record):
            post.stale, self._revision = True, -1  # whose is newer, the next look tells
        post.waiters += 1
        self._waiters += 1
        self._arrived.set()
        return post

    def _leave(self, post: _Topic) -> None:
        self._waiters -= 1
        post.waiters -= 1
        if not post.waiters:
            del self._topics[post.record.submission_id]

    async def _announce(self) -> None:
        """Tell the poller who is waited for: newcomers at once, all of them every so often."""
        now = self._clock.monotonic()
        if now >= self._renew_at:
            self._announced.clear()
            self._renew_at = now + WATCH_TTL_SECONDS / 2
        self._announced &= self._topics.keys()
        if fresh := self._topics.keys() - self._announced:
            await self._coordination.expect(fresh, WATCH_TTL_SECONDS)
            self._announced |= fresh

    async def _refresh(self) -> None:
        revision = await self._coordination.changed_since(self._revision)
        if revision == self._revision:
            return
        self._revision = revision
        asked = dict(self._topics)
        records = await self._coordination.records(asked.keys())
        for submission_id in asked.keys() - {
            record.submission_id for record in records
        }:  # see `Transactions._absorb`
            asked[submission_id].gone = True
            asked[submission_id].publish(asked[submission_id].record)
        for record in records:
            post = self._topics.get(record.submission_id)
            if post is None:
                continue
            if post.stale or self._is_news(record, post.record):
                post.publish(record)
            else:
                post.record = record

    def _is_news(self, record: Record, before: Record) -> bool:
        if _told(record) != _told(before):
            return True
        # Each look is told while that is cheap; who waits for a film's link counts the looks.
        counts = self._waiters <= CHEAP_WAITERS or record.state is State.COMPLETED
        return counts and record.last_polled_at != before.last_polled_at


def _told(record: Record) -> tuple[object, ...]:
    """What of a row is news."""
    return (
        record.state,
        record.job_id,
        record.vendor_status,
        record.last_error,
        record.video_url,
        record.checks,
        record.error,
        record.saved_path,
        record.not_saved,
    )
