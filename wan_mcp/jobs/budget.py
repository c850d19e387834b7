"""How many requests a minute one key may make: PixelDojo counts all endpoints together.

Its pages have named 60 and 10; so 10 it is until an answer tells. Every process on the ledger
draws on the same budget. Urgent requests find room because the others leave some.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from wan_mcp.errors import Busy
from wan_mcp.jobs.clock import Clock
from wan_mcp.jobs.ledger import LedgerUnavailable
from wan_mcp.jobs.rota import Account, Limit, Rota
from wan_mcp.pixeldojo.pace import Use

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.reply import Reply

WINDOW = 61.0
"""The minute in which requests are counted, and a second for how differently they travel."""
LEAST = 2
HIGHEST = 60
"""The most that PixelDojo ever named; the window of its headers is not documented."""
SUBMIT_PATIENCE = 2.0
"""Seconds a submit waits for room. Then it goes: a 429 buys nothing, and may be sent once more."""


def room(per_minute: int, use: Use) -> int:
    """How many requests may be in the window, this one included: the urgent may fill it."""
    spare = max(2, min(6, per_minute // 4))
    left = (0, spare // 2, spare, spare + 1, spare + 2)[use]
    return max(per_minute - left, 1)


def wait(limit: Limit, ages: Sequence[float], use: Use) -> float:
    """Seconds until such a request may leave, 0 for now.

    Args:
        ages: seconds since each request of the last WINDOW, oldest first.
    """
    most = room(allowed(limit), use)
    full = WINDOW - ages[len(ages) - most] if len(ages) >= most else 0.0
    return max(full, limit.held, 0.0)


def allowed(limit: Limit) -> int:
    """Requests a minute; what a 429 took away comes back, one each minute, up to the first."""
    if limit.cut_ago is None:
        return limit.per_minute
    return max(
        limit.per_minute, min(Limit().per_minute, limit.per_minute + int(limit.cut_ago / 60))
    )


def learnt(limit: Limit, reply: "Reply") -> Limit:
    """What the limit is after an answer."""
    told, refused = reply.allowance, reply.status == 429
    if told.limit:
        limit = replace(limit, per_minute=min(max(told.limit, LEAST), HIGHEST), cut_ago=None)
    elif refused:
        limit = replace(limit, per_minute=max(allowed(limit) // 2, LEAST), cut_ago=0.0)
    hold = reply.retry_after or 0.0
    if not hold and (refused or told.remaining == 0):
        hold = 60 / limit.per_minute if told.reset is None else told.reset
    return replace(limit, held=max(limit.held, hold))


class Budget:
    """`pixeldojo.pace.Pace` on the shared ledger; when that fails, on this process's own count."""

    def __init__(self, rota: Rota, account: Account, clock: Clock) -> None:
        self._rota = rota
        self._account = account
        self._clock = clock
        self._limit = Limit()
        self._own: deque[float] = deque(maxlen=HIGHEST)

    async def enter(self, use: Use) -> None:
        """See `Pace`."""
        until = self._clock.monotonic() + (SUBMIT_PATIENCE if use is Use.SUBMIT else 0.0)
        while (left := await self._take(use)) > 0:
            patience = until - self._clock.monotonic()
            if use is not Use.SUBMIT:
                raise Busy(
                    "PixelDojo asked for a pause."
                    if self._limit.held
                    else "As many requests as PixelDojo allows were made in the last minute.",
                    retry_after=left,
                )
            if patience <= 0:
                await self._take(use, force=True)
                return
            await self._clock.sleep(min(left, patience))

    async def heed(self, reply: "Reply") -> None:
        """See `Pace`."""
        before = replace(self._limit, held=0.0)
        after = learnt(before, reply)
        if after == before:
            return
        self._limit = after
        try:
            await self._rota.learn_limit(await self._account(), lambda known: learnt(known, reply))
        except LedgerUnavailable:
            return

    def spacing(self, use: Use, count: int) -> float:
        """Seconds between two requests of one of `count` takers, so that all share evenly."""
        return count * WINDOW / room(allowed(self._limit), use)

    async def _take(self, use: Use, *, force: bool = False) -> float:
        try:
            taken = await self._rota.take(
                await self._account(), lambda limit, ages: 0.0 if force else wait(limit, ages, use)
            )
        except LedgerUnavailable:
            return self._take_alone(use)
        self._limit = taken.limit
        return taken.wait

    def _take_alone(self, use: Use) -> float:
        now = self._clock.monotonic()
        ages = [now - at for at in self._own if now - at < WINDOW]
        left = wait(replace(self._limit, held=0.0), ages, use)
        if left <= 0:
            self._own.append(now)
        return left
