"""How many requests a minute one API key may make, over all endpoints together (documented).

PixelDojo's pages have named 60 and 10 (documented), so 10 is assumed until the headers of an answer
name the limit. All processes on one ledger share one count. Urgent requests find room because the
less urgent ones leave some.
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
from wan_mcp.logs import facts
from wan_mcp.pixeldojo.priority import Priority

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.reply import Reply

MIN_PER_MINUTE = 2
"""The lowest limit that any number of 429 answers leads to (ours)."""
MAX_PER_MINUTE = 60
"""The highest limit that PixelDojo has named (documented). A higher number in a header is not
believed, because it is not documented which period it stands for."""
SUBMIT_PATIENCE_SECONDS = 2.0
"""How long a submit waits for room. Then it is sent anyway: a 429 buys nothing, and allows one more
attempt (ours)."""

logger = logging.getLogger(__name__)


def capacity(per_minute: int, priority: Priority) -> int:
    """How many requests may be in the window when one of this priority is among them, 1 or more.

    A submit may fill the window; each less urgent priority leaves more of it free (ours).
    """
    spare = max(3, min(6, per_minute // 4))
    reserved = (0, spare - 1, spare, spare + 1, spare + 2, spare + 3)[priority]
    return max(per_minute - reserved, 1)


def wait(limit: Limit, ages: Sequence[float], priority: Priority) -> float:
    """Seconds until a request of this priority may leave; 0 when it may leave now.

    Args:
        ages: seconds since each request of the last WINDOW_SECONDS, oldest first.
    """
    most = capacity(allowed(limit), priority)
    until_room = WINDOW_SECONDS - ages[len(ages) - most] if len(ages) >= most else 0.0
    return max(until_room, limit.held, 0.0)


def allowed(limit: Limit) -> int:
    """Requests a minute at this moment.

    After a 429 the limit grows by one each minute, until it is 10 again (ours).
    """
    if limit.cut_ago is None:
        return limit.per_minute
    return max(
        limit.per_minute, min(Limit().per_minute, limit.per_minute + int(limit.cut_ago / 60))
    )


def adjusted(limit: Limit, reply: "Reply", ago: float = 0.0) -> Limit:
    """The limit after an answer.

    Args:
        ago: seconds since the answer came.
    """
    allowance, refused = reply.allowance, reply.status == 429
    if allowance.limit:
        limit = replace(limit, per_minute=min(allowance.limit, MAX_PER_MINUTE), cut_ago=None)
    elif refused:
        limit = replace(limit, per_minute=max(allowed(limit) // 2, MIN_PER_MINUTE), cut_ago=0.0)
    hold = reply.retry_after or 0.0
    if not hold and (refused or allowance.remaining == 0):
        hold = 60 / limit.per_minute if allowance.reset is None else allowance.reset
    return replace(limit, held=max(limit.held, hold - ago, 0.0))


class SharedRateLimiter:
    """A `RateLimiter` whose count is in the ledger, and so shared by all processes on it.

    While the ledger is unavailable, each process counts its own requests only.
    """

    def __init__(self, coordination: Coordination, account: Account, clock: Clock) -> None:
        self._coordination = coordination
        self._account = account
        self._clock = clock
        self._limit = Limit()
        self._held_until = 0.0
        self._own_requests: deque[float] = deque(maxlen=MAX_PER_MINUTE)
        self._unwritten: list[tuple[Reply, float]] = []

    async def acquire(self, priority: Priority) -> None:
        """See `RateLimiter`."""
        deadline = self._clock.monotonic() + SUBMIT_PATIENCE_SECONDS
        while (pause := await self._try_acquire(priority)) > 0:
            if priority is not Priority.SUBMIT:
                raise self._busy(pause)
            patience = deadline - self._clock.monotonic()
            if patience <= 0:
                await self._try_acquire(priority, force=True)
                break
            await self._clock.sleep(min(pause, patience))
        self._own_requests.append(self._clock.monotonic())

    async def observe(self, reply: "Reply", *, paid: bool) -> None:
        """See `RateLimiter`."""
        before = replace(self._limit, held=0.0)
        after = adjusted(before, reply)
        if after == before:
            return
        self._limit = after
        self._held_until = max(self._held_until, self._clock.monotonic() + after.held)
        self._tell()
        self._unwritten.append((reply, self._clock.monotonic()))
        if not paid:
            await self._write()

    def spacing(self, priority: Priority, sharers: int) -> float:
        """Seconds between two requests of the same sharer, so that all sharers get equally many.

        Args:
            sharers: how many jobs, or other things, are read with this priority.
        """
        return sharers * WINDOW_SECONDS / capacity(allowed(self._limit), priority)

    def _busy(self, pause: float) -> Busy:
        held = self._held_until > self._clock.monotonic()
        full = "As many requests as PixelDojo allows were made in the last minute."
        return Busy("PixelDojo asked for a pause." if held else full, retry_after=pause)

    async def _write(self) -> None:
        """Record the limits that answers named, for the other processes.

        While the ledger is unavailable, the newest answer is kept for the next attempt.
        """
        while self._unwritten:
            reply, at = self._unwritten.pop(0)
            change = partial(adjusted, reply=reply, ago=self._clock.monotonic() - at)
            try:
                await self._coordination.adjust_limit(await self._account(), change)
            except LedgerUnavailable:
                self._unwritten = self._unwritten[-1:] or [(reply, at)]
                return
            except Exception:
                # The answer itself must not be lost because of its rate-limit headers.
                logger.exception("the rate limit that an answer named could not be recorded")

    async def _try_acquire(self, priority: Priority, *, force: bool = False) -> float:
        """Count one request and return 0 if it may leave now; else the seconds until it may.

        Args:
            force: count it even if it may not leave yet.
        """
        await self._write()

        def rule(limit: Limit, ages: Sequence[float]) -> float:
            own = wait(limit, self._own_ages(), priority)
            return 0.0 if force else max(own, wait(limit, ages, priority))

        try:
            acquired = await self._coordination.try_acquire(await self._account(), rule)
        except LedgerUnavailable:
            return rule(self._own_limit(), self._own_ages())
        self._limit = acquired.limit
        self._held_until = self._clock.monotonic() + acquired.limit.held
        self._tell()
        return acquired.wait

    def _tell(self) -> None:
        for listener in facts.listeners:
            pause = max(self._held_until - self._clock.monotonic(), 0.0)
            listener.limited(allowed(self._limit), pause)

    def _own_limit(self) -> Limit:
        return replace(self._limit, held=max(self._held_until - self._clock.monotonic(), 0.0))

    def _own_ages(self) -> list[float]:
        now = self._clock.monotonic()
        return [now - at for at in self._own_requests if now - at < WINDOW_SECONDS]
