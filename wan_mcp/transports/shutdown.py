"""How a serving process ends: in order, soon, and without tearing a paid request.

Exit codes: 0 after the end of stdin, a first signal, a dead parent, or a client that stopped
reading; 1 when work was still running as the grace ended; 128 + n after a second signal n
that comes more than IMPATIENCE later.
"""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from types import FrameType
from typing import Self

import anyio

logger = logging.getLogger(__name__)

GRACE = 1.5
"""Seconds from the wish to stop until work is cut; hosts kill after 2 s (observed)."""

LEAVING = 0.4
"""Seconds an orderly end may take after all work; together with GRACE still under 2 s."""

LAST_WRITE = 0.2
"""Seconds for the last answer to leave; then the lifespan's exit comes first."""

IMPATIENCE = 0.4
"""Seconds after a first signal in which a second one is the same wish: a host that stops a server
may send SIGINT and SIGTERM at once, and that must not tear a paid request (assumed)."""


async def serve_and_leave(serve: Callable[[], Awaitable[None]]) -> None:
    """Serve, then see to it that the process ends soon, with code 0, and no signal spoils that.

    The usual way out waits for every thread, and a name lookup or a write that nobody reads keeps
    its thread for long (observed); `os._exit` does not wait.
    """
    await serve()
    for number in _signals():
        signal.signal(number, signal.SIG_IGN)
    _after(LEAVING, partial(os._exit, 0))


class Shutdown:
    """The one way serving ends, whoever wants it: a signal, the client, or a dead parent.

    A context manager around serving: signals are taken on entry and given back on exit. `end`
    ends the process with a code, from any thread, without waiting for anything.
    """

    def __init__(
        self,
        *,
        grace: float = GRACE,
        end: Callable[[int], object] = os._exit,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.asked = anyio.Event()
        self._grace = grace
        self._end = end
        self._now = now
        self._signalled_at: float | None = None
        self._loop = asyncio.get_running_loop()
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        # `signal.signal`, not the event loop's handlers: those do not exist on Windows, where of
        # all these only Ctrl-C and Ctrl-Break arrive.
        for number in _signals():
            before = signal.signal(number, self._on_signal)
            self._cleanup.callback(signal.signal, number, before)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._cleanup.close()

    def ask(self) -> None:
        """Let serving end; from now on it has `grace` seconds. Call on the event loop."""
        if not self.asked.is_set():
            self.asked.set()
            self._cleanup.callback(_after(self._grace, self._cut).cancel)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = self._now()
        if self._signalled_at is None:
            self._signalled_at = now
        elif now - self._signalled_at > IMPATIENCE:
            self._end(128 + number)
        self._loop.call_soon_threadsafe(self.ask)

    def _cut(self) -> None:
        try:
            logger.error("wan-mcp: stopped while work was still running")
        finally:
            self._end(1)


def _signals() -> Iterator[signal.Signals]:
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
            continue  # not on this system; or nohup, whose user wants to log out
        yield number


def _after(seconds: float, do: Callable[[], object]) -> threading.Timer:
    """A thread, not the event loop's clock: the loop may be what does not get on."""
    timer = threading.Timer(seconds, do)
    timer.daemon = True
    timer.start()
    return timer
