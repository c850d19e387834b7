"""How many requests a minute one key may make: PixelDojo counts all endpoints together.

Its pages have named 60 and 10; so 10 it is until an answer tells. Every process on the ledger
draws on the same budget. Urgent requests find room because the others leave some.
"""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from wan_mcp.clock import Clock
from wan_mcp.errors import Busy
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import WINDOW_SECONDS, Account, Coordination, Limit
from wan_mcp.pixeldojo.priority import Priority

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.reply import Reply

MIN_PER_MINUTE = 2
"""What is left after any number of 429s."""
MAX_PER_MINUTE = 60
"""The most that PixelDojo ever named; the window of its headers is not documented."""
SUBMIT_PATIENCE_SECONDS = 2.0
"""Seconds a submit waits for room. Then it goes: a 429 buys nothing, and may be sent once more."""

logger = logging.getLogger(__name__)


def capacity(per_minute: int, use: Priority) -> int:
    """How many requests may be in the window, this one included: the urgent may fill it."""
    spare = max(3, min(6, per_minute // 4))
    left = (0, spare - 1, spare, spare + 1, spare + 2, spare + 3)[use]
    return max(per_minute - left, 1)


def wait(limit: Limit, ages: Sequence[float], use: Priority) -> float:
    """Seconds until such a request may leave, 0 for now.

    Args:
        ages: seconds since each request of the last WINDOW, oldest first.
    """
    most = capacity(allowed(limit), use)
    full = WINDOW_SECONDS - ages[len(ages) - most] if len(ages) >= most else 0.0
    return max(full, limit.held, 0.0)


def allowed(limit: Limit) -> int:
    """Requests a minute; what a 429 took away comes back, one each minute, up to the first."""
    if limit.cut_ago is None:
        return limit.per_minute
    return max(
        limit.per_minute, min(Limit().per_minute, limit.per_minute + int(limit.cut_ago / 60))
    )


def adjusted(limit: Limit, reply: "Reply", ago: float = 0.0) -> Limit:
    """What the limit is after an answer that came so many seconds ago."""
    told, refused = reply.allowance, reply.status == 429
    if told.limit:
        limit = replace(limit, per_minute=min(told.limit, MAX_PER_MINUTE), cut_ago=None)
    elif refused:
        limit = replace(limit, per_minute=max(allowed(limit) // 2, MIN_PER_MINUTE), cut_ago=0.0)
    hold = reply.retry_after or 0.0
    if not hold and (refused or told.remaining == 0):
        hold = 60 / limit.per_minute if told.reset is None else told.reset
    return replace(limit, held=max(limit.held, hold - ago, 0.0))


class SharedRateLimiter:
    """`RateLimiter` on the shared ledger; when that fails, on this process's own count."""

    def __init__(self, coordination: Coordination, account: Account, clock: Clock) -> None:
        self._coordination = coordination
        self._account = account
        self._clock = clock
        self._limit = Limit()
        self._held_until = 0.0
        self._own: deque[float] = deque(maxlen=MAX_PER_MINUTE)
        self._unwritten: list[tuple[Reply, float]] = []

    async def acquire(self, use: Priority) -> None:
        """See `RateLimiter`."""
        until = self._clock.monotonic() + (
            SUBMIT_PATIENCE_SECONDS if use is Priority.SUBMIT else 0.0
        )
        while (left := await self._try_acquire(use)) > 0:
            if use is not Priority.SUBMIT:
                raise self._busy(left)
            patience = until - self._clock.monotonic()
            if patience <= 0:
                await self._try_acquire(use, force=True)
                break
            await self._clock.sleep(min(left, patience))
        self._own.append(self._clock.monotonic())

    async def observe(self, reply: "Reply", *, paid: bool) -> None:
        """See `RateLimiter`."""
        before = replace(self._limit, held=0.0)
        after = adjusted(before, reply)
        if after == before:
            return
        self._limit = after
        self._held_until = max(self._held_until, self._clock.monotonic() + after.held)
        self._unwritten.append((reply, self._clock.monotonic()))
        if not paid:
            await self._write()

    def spacing(self, use: Priority, count: int) -> float:
        """Seconds between two requests of one of `count` takers, so that all share evenly."""
        return count * WINDOW_SECONDS / capacity(allowed(self._limit), use)

    def _busy(self, left: float) -> Busy:
        held = self._held_until > self._clock.monotonic()
        full = "As many requests as PixelDojo allows were made in the last minute."
        return Busy("PixelDojo asked for a pause." if held else full, retry_after=left)

    async def _write(self) -> None:
        """Tell the other processes; what cannot be told now is told by the next answer."""
        while self._unwritten:
            reply, at = self._unwritten.pop(0)
            change = partial(adjusted, reply=reply, ago=self._clock.monotonic() - at)
            try:
                await self._coordination.adjust_limit(await self._account(), change)
            except LedgerUnavailable:
                self._unwritten = self._unwritten[-1:] or [(reply, at)]
                return
            except Exception:
                # An answer is more than what it says about pace.
                logger.exception("the request budget could not be kept")

    async def _try_acquire(self, use: Priority, *, force: bool = False) -> float:
        await self._write()

        def rule(limit: Limit, ages: Sequence[float]) -> float:
            own = wait(limit, self._own_ages(), use)
            return 0.0 if force else max(own, wait(limit, ages, use))

        try:
            taken = await self._coordination.try_acquire(await self._account(), rule)
        except LedgerUnavailable:
            return rule(self._own_limit(), self._own_ages())
        self._limit = taken.limit
        self._held_until = self._clock.monotonic() + taken.limit.held
        return taken.wait

    def _own_limit(self) -> Limit:
        return replace(self._limit, held=max(self._held_until - self._clock.monotonic(), 0.0))

    def _own_ages(self) -> list[float]:
        now = self._clock.monotonic()
        return [now - at for at in self._own if now - at < WINDOW_SECONDS]
