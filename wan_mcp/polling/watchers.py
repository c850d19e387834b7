"""The watchers of this process: they pass changes in jobs' records on to the waiters.

A waiter sends no request to PixelDojo. The poller reads the job, in this process or in another one.
"""

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Sequence, Set
from dataclasses import dataclass, field
from functools import partial

import anyio

from wan_mcp.clock import Clock
from wan_mcp.errors import Busy
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import WATCH_TTL_SECONDS, Coordination
from wan_mcp.ledger.record import Record, State
from wan_mcp.logs import facts

MAX_WAITERS = 2_000
"""How many waiters there may be at the same time. Each one is an open call; with 1,000 of them the
process uses 117 to 185 MB (measured), depending on the transport and the ledger."""
MAX_WAITERS_OF_USER = 400
"""How many of them may be of one user who has signed in (ours): enough for an agent with hundreds
of waits, or for six streams that follow 64 jobs each. Four out of five places are left to the
others. Where nobody signs in, the only user has all places."""
BUSY_SECONDS = 30.0
"""After this time a caller that found no place may try again."""
HEARTBEAT_SECONDS = 15.0
"""A waiter gets an update at least this often: hosts give up on a silent call after 60 s, some
transports after 20 s (observed elsewhere)."""
CHEAP_WAITERS = 50
"""Up to this many waiters get an update for each reading. If there are more, they get one for each
change, and at the heartbeat."""
POLL_SECONDS = 0.5
"""How often the ledger is asked whether another process has written to it."""
MAX_MISSES = 3
"""After this many failures of the ledger in a row, the waiters read their jobs themselves."""
DEGRADED_RETRY_SECONDS = 5.0
"""How often the ledger is tried again after that."""
DEBOUNCE_SECONDS = 0.05
"""Changes that arrive within this time are read once."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Waiter:
    """One open call, whether it waits for one job or for several.

    Attributes:
        changed: set at the next update of any of its records.
    """

    changed: anyio.Event = field(default_factory=anyio.Event)


@dataclass(eq=False)
class _Topic:
    """A record that has waiters.

    Attributes:
        stale: whether this state of the record may be older than one that a waiter has seen.
        gone: whether the job has another record now.
    """

    record: Record
    waiters: set[_Waiter] = field(default_factory=set)
    stale: bool = False
    gone: bool = False

    def publish(self, record: Record) -> None:
        self.record, self.stale = record, False
        for waiter in self.waiters:
            waiter.changed.set()


class Watchers:
    """The records that the waiters of this process watch.

    Attributes:
        closing: set when every wait is to end, because the server stops.
    """

    def __init__(self, coordination: Coordination, clock: Clock) -> None:
        self._coordination = coordination
        self._clock = clock
        self._topics: dict[str, _Topic] = {}
        self._waiters = 0
        self._waiters_of: Counter[str] = Counter()
        self._arrived = anyio.Event()
        self._announced: set[str] = set()
        self._renew_at = 0.0
        self._revision = -1
        self._misses = 0
        self._degraded = False
        self.closing = anyio.Event()

    @property
    def count(self) -> int:
        """How many wait now."""
        return self._waiters

    def close(self) -> None:
        """End every wait with one more update; later ones end at once, because the server stops."""
        self.closing.set()
        for topic in self._topics.values():
            topic.publish(topic.record)

    def shared(self, record: Record) -> Record:
        """The record, or the newest one that waiters for this job share, if it shows the same.

        If each of a thousand waiters had a record of its own, that would be 5 MB (measured).
        """
        topic = self._topics.get(record.submission_id)
        if topic is None or self._is_update(record, topic.record):
            return record
        if topic.record != record:
            topic.record = max(record, topic.record, key=_time_of_reading)
            self._revision = -1  # between two readings, only the ledger knows which one is newer
        return topic.record

    async def watch(
        self, records: Sequence[Record], until: float
    ) -> AsyncGenerator[list[Record], None]:
        """Yield all records at each update of one, every HEARTBEAT_SECONDS, and at the end.

        It is one waiter, however many records there are. When one of the jobs has another record
        now, it yields an empty list and ends: the caller looks all of them up again.

        Args:
            until: when the time is up, in seconds of the monotonic clock.

        Raises:
            Busy: there are MAX_WAITERS waiters already, or MAX_WAITERS_OF_USER of this user.
            LedgerUnavailable: the records cannot be watched; the caller may read the jobs itself.
        """
        waiter = _Waiter()
        users = {each.workspace.name for each in records if not each.workspace.is_alone}
        topics = self._enter(waiter, records, users)
        try:
            while (left := until - self._clock.monotonic()) > 0 and not self.closing.is_set():
                if self._degraded:
                    raise LedgerUnavailable("The ledger cannot be read at the moment.")
                # Spread, so that a thousand waiters that began together do not answer together.
                beat = HEARTBEAT_SECONDS * (1 - 0.5 * self._clock.chance())
                await self._clock.wait(waiter.changed.wait, min(left, beat))
                waiter.changed = anyio.Event()  # before the yield, during which changes may come
                yield (present := _records_of(topics))
                if not present:
                    return
            if waiter.changed.is_set() and (last := _records_of(topics)):
                yield last
        finally:
            self._leave(waiter, topics, users)

    async def run(self) -> None:
        """Publish changes until cancelled."""
        while True:
            if not self._topics:
                await self._arrived.wait()
                self._revision = -1
            changes, self._arrived = self._coordination.own_changes, anyio.Event()
            await self._round()
            await self._clock.wait(
                partial(self._coordination.next_change, changes),
                DEGRADED_RETRY_SECONDS if self._degraded else POLL_SECONDS,
            )
            if self._coordination.own_changes != changes:
                await self._clock.sleep(DEBOUNCE_SECONDS)

    async def _round(self) -> None:
        try:
            await self._announce()
            await self._refresh()
        except Exception as exc:
            if not isinstance(exc, LedgerUnavailable):
                # A defect here must not end the server, in whose tasks payments run.
                logger.exception("publishing updates broke")
            self._misses += 1
            self._revision = -1
        else:
            self._misses = 0
        was, self._degraded = self._degraded, self._misses >= MAX_MISSES
        if self._degraded and not was:
            for topic in self._topics.values():
                topic.publish(topic.record)

    def _enter(self, waiter: _Waiter, records: Sequence[Record], users: Set[str]) -> list[_Topic]:
        if self._waiters >= MAX_WAITERS:
            raise Busy(f"{MAX_WAITERS} calls wait for jobs here already.", retry_after=BUSY_SECONDS)
        if any(self._waiters_of[user] >= MAX_WAITERS_OF_USER for user in users):
            what = f"{MAX_WAITERS_OF_USER} calls of yours wait for jobs here already."
            raise Busy(what, retry_after=BUSY_SECONDS)
        topics = [self._topic(waiter, record) for record in records]
        self._waiters += 1
        self._waiters_of.update(users)
        _tell_change(+1)
        self._arrived.set()
        return topics

    def _topic(self, waiter: _Waiter, record: Record) -> _Topic:
        if record.submission_id not in self._topics:
            self._revision = -1  # the record may be old: another waiter may have seen a newer one
        topic = self._topics.setdefault(record.submission_id, _Topic(record))
        if self._is_update(record, topic.record):
            topic.stale, self._revision = True, -1  # the next reading shows which one is newer
        topic.waiters.add(waiter)
        return topic

    def _leave(self, waiter: _Waiter, topics: Sequence[_Topic], users: Set[str]) -> None:
        self._waiters -= 1
        self._waiters_of.subtract(users)
        self._waiters_of = +self._waiters_of  # drops the users who no longer wait
        _tell_change(-1)
        for topic in topics:
            topic.waiters.discard(waiter)
            if not topic.waiters:
                self._topics.pop(topic.record.submission_id, None)

    async def _announce(self) -> None:
        """Announce to the poller which jobs have waiters: new ones at once, all regularly."""
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
        found = {record.submission_id for record in records}
        for submission_id in asked.keys() - found:  # see `Transactions._absorb`
            asked[submission_id].gone = True
            asked[submission_id].publish(asked[submission_id].record)
        for record in records:
            topic = self._topics.get(record.submission_id)
            if topic is None:
                continue
            if topic.stale or self._is_update(record, topic.record):
                topic.publish(record)
            else:
                topic.record = record

    def _is_update(self, record: Record, before: Record) -> bool:
        if _shown(record) != _shown(before):
            return True
        # Each reading is an update while that is cheap, or while waiters count readings because the
        # link to the video is missing.
        counts = self._waiters <= CHEAP_WAITERS or record.state is State.COMPLETED
        return counts and record.last_polled_at != before.last_polled_at


def _records_of(topics: Sequence[_Topic]) -> list[Record]:
    """The present records; none if one of the jobs has another record now."""
    return [] if any(topic.gone for topic in topics) else [topic.record for topic in topics]


def _shown(record: Record) -> tuple[object, ...]:
    """The part of a record whose change is an update."""
    return (
        record.state,
        record.job_id,
        record.vendor_status,
        record.last_error,
        record.video_url,
        record.checks,
        record.error,
        record.end_reported_at,
        record.saved_path,
        record.not_saved,
        record.last_save_error,
    )


def _time_of_reading(record: Record) -> float:
    return record.last_polled_at.timestamp() if record.last_polled_at else 0.0


def _tell_change(difference: int) -> None:
    for listener in facts.listeners:
        listener.waiting(difference)
