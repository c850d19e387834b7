"""Who waits for which job in this process. A waiter asks nobody: it watches the job's row."""

import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import timedelta

import anyio

from wan_mcp.clock import Clock
from wan_mcp.errors import Busy
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import EXPECTED, Rota
from wan_mcp.ledger.record import Row, State

MOST = 2_000
"""Waiters at once; each holds a call open. With 1,000 the process takes about 100 MB."""
BUSY_SECONDS = 30.0
HEARTBEAT = 15.0
"""Seconds after which a waiter is told the time at the latest: hosts give up on a silent call at
60 s, some transports at 20."""
CROWD = 50
"""Waiters up to whom each look is told; to more only what is new, and the time now and then."""
LOOK = 0.5
"""How often the ledger is asked what another process wrote."""
MISSES = 3
"""How often in a row the ledger may be busy before waiters look for themselves."""
DEAF = 5.0
"""How often it is tried again when the ledger cannot be used."""
BREATH = 0.05
"""Many changes at once are one look."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Post:
    """A row that is waited for, and the event of its next news."""

    row: Row
    news: anyio.Event = field(default_factory=anyio.Event)
    waiters: int = 0
    stale: bool = False
    gone: bool = False
    """Another row stands for the job now."""

    def tell(self, row: Row) -> None:
        self.row, self.stale = row, False
        news, self.news = self.news, anyio.Event()
        news.set()


class Board:
    """The rows that this process's waiters watch."""

    def __init__(self, rota: Rota, clock: Clock) -> None:
        self._rota = rota
        self._clock = clock
        self._posts: dict[str, _Post] = {}
        self._waiters = 0
        self._arrived = anyio.Event()
        self._announced: set[str] = set()
        self._renew_at = 0.0
        self._version = -1
        self._misses = 0
        self._deaf = False

    async def watch(self, row: Row, until: float) -> AsyncGenerator[Row, None]:
        """The row with each news, at least every HEARTBEAT seconds, and when the time is up.

        Args:
            until: when it is, monotonic.

        Raises:
            Busy: too many wait already.
            LedgerUnavailable: the poller and its waiters cannot meet there.
        """
        post = self._enter(row)
        news = post.news
        try:
            while (left := until - self._clock.monotonic()) > 0:
                if self._deaf:
                    raise LedgerUnavailable("The ledger cannot be followed just now.")
                # Spread, so that a thousand who came together do not speak together.
                beat = HEARTBEAT * (1 - 0.5 * self._clock.chance())
                await self._clock.wait(news, min(left, beat))
                news = post.news  # before the caller takes its time with this one
                if post.gone:
                    raise LedgerUnavailable("Another row stands for the job.")
                yield post.row
            if news.is_set():
                yield post.row
        finally:
            self._leave(post)

    async def run(self) -> None:
        """Look for news, for ever."""
        while True:
            if not self._posts:
                await self._arrived.wait()
                self._version = -1
            changed, self._arrived = self._rota.next_change(), anyio.Event()
            await self._hear()
            await self._clock.wait(changed, DEAF if self._deaf else LOOK)
            if changed.is_set():
                self._version = -1
                await self._clock.sleep(BREATH)

    async def _hear(self) -> None:
        try:
            await self._announce()
            await self._refresh()
        except Exception as exc:
            if not isinstance(exc, LedgerUnavailable):
                # A defect here must not end the server, in whose tasks payments run.
                logger.exception("waiters could not be told")
            self._misses += 1
            self._version = -1
        else:
            self._misses = 0
        was, self._deaf = self._deaf, self._misses >= MISSES
        if self._deaf and not was:
            for post in self._posts.values():
                post.tell(post.row)

    def _enter(self, row: Row) -> _Post:
        if self._waiters >= MOST:
            raise Busy(f"{MOST} calls wait for jobs here already.", retry_after=BUSY_SECONDS)
        if row.handle not in self._posts:
            self._version = -1  # the row may be old: somebody else has just left with a newer one
        post = self._posts.setdefault(row.handle, _Post(row))
        if self._is_news(row, post.row):
            post.stale, self._version = True, -1  # whose is newer, the next look tells
        post.waiters += 1
        self._waiters += 1
        self._arrived.set()
        return post

    def _leave(self, post: _Post) -> None:
        self._waiters -= 1
        post.waiters -= 1
        if not post.waiters:
            del self._posts[post.row.handle]

    async def _announce(self) -> None:
        """Tell the poller who is waited for: newcomers at once, all of them every so often."""
        now = self._clock.monotonic()
        if now >= self._renew_at:
            self._announced.clear()
            self._renew_at = now + EXPECTED / 2
        self._announced &= self._posts.keys()
        if fresh := self._posts.keys() - self._announced:
            await self._rota.expect(fresh, self._clock.wall() + timedelta(seconds=EXPECTED))
            self._announced |= fresh

    async def _refresh(self) -> None:
        version = await self._rota.version()
        if version == self._version:
            return
        self._version = version
        asked = dict(self._posts)
        rows = await self._rota.rows(asked.keys())
        for handle in asked.keys() - {row.handle for row in rows}:  # see `Book._absorb`
            asked[handle].gone = True
            asked[handle].tell(asked[handle].row)
        for row in rows:
            post = self._posts.get(row.handle)
            if post is None:
                continue
            if post.stale or self._is_news(row, post.row):
                post.tell(row)
            else:
                post.row = row

    def _is_news(self, row: Row, before: Row) -> bool:
        if _told(row) != _told(before):
            return True
        # Each look is told while that is cheap; who waits for a film's link counts the looks.
        counts = self._waiters <= CROWD or row.state is State.COMPLETED
        return counts and row.looked_at != before.looked_at


def _told(row: Row) -> tuple[object, ...]:
    """What of a row is news."""
    return (
        row.state,
        row.job_id,
        row.vendor_status,
        row.trouble,
        row.video_url,
        row.checks,
        row.error,
        row.saved_path,
        row.not_saved,
    )
