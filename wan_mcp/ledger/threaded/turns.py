"""How long work waits for the one thread of a store, and which work is refused instead.

Work may be refused while it has not begun: nothing of it has happened then, so the same call is
safe to repeat. These kinds of work may be refused:

* every read, because it changes nothing;
* a claim, before which there is no record and nothing may be sent;
* the recording of a reading of a job and the count of a request to PixelDojo: the reading is free
  and is made again, and without the count a process counts its own requests alone;
* the check whether the ledger can be written, whose answer is then "not now".

All other work takes its turn, however long that takes, and is tried even while the store cannot be
reached: the commit point of a claimed request; the answer to a paid request and every other outcome
of it, which is kept on disk if it cannot be stored; a withdrawal, and the note of another caller
that prevents one; leases; facts about videos. The call that caused the work may have ended by then.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from wan_mcp.ledger.contract import LedgerUnavailable, LedgerUnreachable

WAIT_SECONDS = 2.0
"""How long work that may be refused waits for its turn (ours). A tool answers within 4 seconds, and
a paid call reads the ledger before its claim, so it may wait twice."""
PAUSE_SECONDS = 1.0
"""How long work is refused at once after the store could not be reached, so that not each call
waits for the same failure (ours). A failure that took less time than this begins no such pause,
because trying again costs the next call hardly any time."""


class Turn:
    """The place of one piece of work in the queue: the work is begun, or it is never done."""

    def __init__(self) -> None:
        self._taken = threading.Lock()

    def take(self) -> bool:
        """Decide what becomes of the work. False if that is decided already. From any thread."""
        return self._taken.acquire(blocking=False)

    def refuse(self, waiting: "asyncio.Future[Any]") -> None:
        """Tell the waiter that the work is not done, unless it has begun."""
        if self.take() and not waiting.done():
            what = "Too much other work waited for the ledger, so this was not begun."
            waiting.set_exception(LedgerUnavailable(what, transient=True))


class Pause:
    """The time after a failure to reach the store. Used in the store's thread.

    Args:
        ticks: a clock that never jumps, in seconds.
    """

    def __init__(self, ticks: Callable[[], float] = time.monotonic) -> None:
        self._ticks = ticks
        self._until = -math.inf

    def require_over(self) -> None:
        """Raises LedgerUnavailable while the pause lasts."""
        if self._ticks() < self._until:
            what = "The ledger's database could not be reached a moment ago."
            raise LedgerUnavailable(what, transient=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it, the store is used. The pause begins with a failure, and ends with success."""
        began = self._ticks()
        try:
            yield
        except LedgerUnreachable:
            if self._ticks() - began >= PAUSE_SECONDS:
                self._until = self._ticks() + PAUSE_SECONDS
            raise
        self._until = -math.inf
