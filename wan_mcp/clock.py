"""Time and chance, handed in so that a test can own them."""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import anyio


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """What tells the time, passes it, and rolls the dice.

    Attributes:
        monotonic: seconds that never jump; every deadline is measured on it.
        wall: the date, for what is stored or shown, and for the vendor's `expiresAt`.
        sleep: waits that many seconds.
        chance: a number from 0 up to 1, for jitter.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = _utc_now
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    chance: Callable[[], float] = random.random

    async def wait(self, happens: Callable[[], Awaitable[object]], seconds: float) -> None:
        """Wait until something happens, at most so many seconds."""
        if self.sleep is anyio.sleep:  # a thousand waiters without a thousand tasks
            with anyio.move_on_after(seconds):
                await happens()
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cut, seconds, tasks.cancel_scope)
            await happens()
            tasks.cancel_scope.cancel()

    async def _cut(self, seconds: float, scope: anyio.CancelScope) -> None:
        await self.sleep(seconds)
        scope.cancel()


def retry_delay(attempt: int, chance: float) -> float:
    """Seconds before the next try after `attempt` failures: full jitter under 1, 2, 4, 8 s."""
    return chance * float(min(2 ** (attempt - 1), 8))
