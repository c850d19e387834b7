"""One look at the server for all who ask at the same time, which answers in any case."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

FRESH_SECONDS = 1.0
"""How long a result is used again (ours)."""
LOOK_SECONDS = 3.0
"""How long a caller waits for a look, which then goes on without them (ours)."""

logger = logging.getLogger(__name__)

T = TypeVar("T")


class SharedLook(Generic[T]):
    """A look that is made at most once in FRESH_SECONDS, however many callers ask.

    A look takes the thread of the ledger, which payments need, too.

    Args:
        look: makes the look.
        broken: the result if `look` raises an exception.
        now: a clock that never goes back, in seconds.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[T]],
        broken: T,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._broken = broken
        self._now = now
        self._found: tuple[T, float] | None = None
        self._looking: asyncio.Task[T] | None = None

    async def find(self) -> T | None:
        """The newest result; None if the look takes longer than LOOK_SECONDS."""
        if self._looking is None:
            if self._found is not None and self._now() - self._found[1] < FRESH_SECONDS:
                return self._found[0]
            self._looking = asyncio.create_task(self._run())
        looking = self._looking
        await asyncio.wait({looking}, timeout=LOOK_SECONDS)
        return looking.result() if looking.done() else None

    async def _run(self) -> T:
        found = self._broken
        try:
            found = await self._look()
        except Exception:
            logger.exception("a look at the server broke")
        finally:
            self._found, self._looking = (found, self._now()), None
        return found
