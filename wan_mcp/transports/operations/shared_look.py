"""One look at the server for all who ask at the same time, with an answer in any case."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

FRESH_SECONDS = 1.0
"""How long a finding is used again (ours)."""
LOOK_SECONDS = 3.0
"""How long somebody who asks waits for a look. It goes on without them (ours)."""

logger = logging.getLogger(__name__)

T = TypeVar("T")


class SharedLook(Generic[T]):
    """What is found out at most once in FRESH_SECONDS, however many ask.

    A look takes the thread of the ledger, which payments need, too.

    Args:
        look: finds it out.
        broken: what is found if `look` raises an exception.
        now: seconds that never go back.
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
        """What was found just now; None if a look takes longer than LOOK_SECONDS."""
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
