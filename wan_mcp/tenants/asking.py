"""One connection to the database that all questions about people share, and what was just asked."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import anyio.to_thread

from wan_mcp.errors import WanError
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.postgres.connection import ANSWER_SECONDS, Link, as_ledger_errors, connect
from wan_mcp.tenants.caller import IdentityUnknown

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)

PAUSE_SECONDS = 1.0
"""After a failure, for so long nobody else waits for the database to fail again (ours)."""
MOST_WAITING = 1_000
"""How many questions may wait for the connection (ours); a question takes less than 1 ms."""


class Questions:
    """Asks the database one question after the other, on a connection that opens anew when lost.

    Args:
        url: the address of the database.
        ticks: seconds that never jump.
    """

    def __init__(self, url: str, ticks: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._ticks = ticks
        self._turn = anyio.CapacityLimiter(1)
        self._asked = 0
        self._link: Link | None = None
        self._again_at = -math.inf

    async def ask(self, work: Callable[[Link], T]) -> T:
        """The result of work in a thread. It may be done twice, if the connection gets lost.

        Raises:
            IdentityUnknown: the database cannot be used now, or too many others wait for it.
        """
        if self._asked > MOST_WAITING:
            raise IdentityUnknown("Too many requests wait for the database of the team.")
        self._asked += 1
        try:
            return await anyio.to_thread.run_sync(self._do, work, limiter=self._turn)
        finally:
            self._asked -= 1

    async def aclose(self) -> None:
        """Close the connection."""
        await anyio.to_thread.run_sync(self._close, limiter=self._turn)

    # The methods below run in one thread at a time.

    def _do(self, work: Callable[[Link], T]) -> T:
        if self._ticks() < self._again_at:
            raise IdentityUnknown("The database of the team could not be used a moment ago.")
        try:
            return self._repeated(work)
        except LedgerUnavailable as exc:
            self._again_at = self._ticks() + PAUSE_SECONDS
            raise IdentityUnknown(exc.what) from None

    def _repeated(self, work: Callable[[Link], T]) -> T:
        was_open, began = self._is_open(), self._ticks()
        try:
            return self._once(work)
        except LedgerUnavailable:
            # A connection that got lost while nobody used it shows that at once.
            if not was_open or self._ticks() - began > PAUSE_SECONDS:
                raise
        return self._once(work)

    def _once(self, work: Callable[[Link], T]) -> T:
        with as_ledger_errors():
            if self._link is None or self._link.closed:
                self._link = connect(self._url, patience=ANSWER_SECONDS)
            try:
                return work(self._link)
            except WanError:  # an answer, and no failure of the connection
                raise
            except BaseException:  # perhaps an answer is still to come on it
                self._link.close()
                raise

    def _is_open(self) -> bool:
        return self._link is not None and not self._link.closed

    def _close(self) -> None:
        if self._link is not None:
            self._link.close()


class Recent(Generic[Key, T]):
    """Answers that hold for a short time, so that a request need not ask the database again.

    Args:
        most: how many are kept; the oldest go first.
        ticks: seconds that never jump.
    """

    def __init__(self, most: int, ticks: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._ticks = ticks
        self._answers: OrderedDict[Key, tuple[T, float]] = OrderedDict()

    def get(self, key: Key) -> T | None:
        """The answer, while it holds."""
        answer, until = self._answers.get(key, (None, 0.0))
        return answer if self._ticks() < until else None

    def put(self, key: Key, answer: T, seconds: float) -> None:
        """Keep an answer for so long."""
        self._answers.pop(key, None)
        self._answers[key] = (answer, self._ticks() + seconds)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)
