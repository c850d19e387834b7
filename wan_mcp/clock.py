"""Time and randomness, handed in so that a test can control them."""

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
    """The sources of time and randomness.

    Attributes:
        monotonic: seconds that never jump; every deadline is measured on it.
        wall: the date, for stored and shown times, and for PixelDojo's `expiresAt`.
        sleep: waits for a number of seconds.
        chance: a random number from 0 to below 1, for jitter.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = _utc_now
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    chance: Callable[[], float] = random.random

    async def wait(self, happens: Callable[[], Awaitable[object]], seconds: float) -> None:
        """Wait until something happens, for at most so many seconds."""
        if self.sleep is anyio.sleep:  # cheap: a thousand waiters need no further tasks
            with anyio.move_on_after(seconds):
                await happens()
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cancel_after, seconds, tasks.cancel_scope)
            await happens()
            tasks.cancel_scope.cancel()

    async def _cancel_after(self, seconds: float, scope: anyio.CancelScope) -> None:
        await self.sleep(seconds)
        scope.cancel()


def retry_delay(attempt: int, chance: float) -> float:
    """Seconds before the next try after `attempt` failures: random, below 1, 2, 4, then 8 s.

    Args:
        attempt: from 1.
        chance: from 0 to below 1.
    """
    return chance * float(min(2 ** (attempt - 1), 8))
