"""How a serving process ends: in an orderly way, soon, and without interrupting a paid request.

Exit codes: 0 after the end of stdin, a first signal, the death of the parent, or a client that
stopped reading; 1 when work was still running at the end of the grace period; 128 + n after a
second signal n that is not a repetition of the first.
"""

import asyncio
import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import NoReturn, Self

import anyio

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deadlines:
    """How long each part of the end may take.

    Attributes:
        grace_seconds: from the request to stop until work is cut off. Hosts kill a stdio server
            after 2 s (observed).
        exit_seconds: from the end of all work until the process is ended, whatever its threads are
            doing; together with `grace_seconds` this is still under 2 s.
        last_write_seconds: how long the last answer may take to leave; the lifespan ends after
            that in any case.
        last_answers_seconds: from the end of stdin, without a signal, until work is asked to stop
            although requests have no answer yet. A script that pipes one request gets its answer;
            a host that wants an end at once sends a signal (observed).
        repeated_signal_seconds: how long after a first signal a second one means the same: a host
            that stops a server may send SIGINT and SIGTERM at once, and that must not interrupt a
            paid request (assumed).
        linger_seconds: how long after the signal an HTTP server still takes requests that are free
            of charge, so that a balancer has time to notice that it is no longer ready.
        answer_seconds: from the end of the payments until HTTP requests without an answer are cut
            off.
    """

    grace_seconds: float = 1.5
    exit_seconds: float = 0.4
    last_write_seconds: float = 0.2
    repeated_signal_seconds: float = 0.4
    last_answers_seconds: float = 5.0
    linger_seconds: float = 0.0
    answer_seconds: float = 1.0


STDIO = Deadlines()
HTTP = Deadlines(grace_seconds=9.5)
"""A paid request has time to be answered; supervisors commonly kill a service after 10 s
(assumed)."""


def lingering(seconds: float) -> Deadlines:
    """The deadlines of an HTTP server that lingers this many seconds before it ends."""
    return replace(HTTP, grace_seconds=HTTP.grace_seconds + seconds, linger_seconds=seconds)


def serve_and_leave(serve: Callable[[], Awaitable[None]], deadlines: Deadlines) -> NoReturn:
    """Serve, then end the process soon, with code 0, whatever signal comes.

    Functions registered with `atexit` are still called, and output is flushed. An ordinary exit
    also waits for every thread, and a name lookup or a write that nobody reads keeps its thread for
    a long time (observed). It also frees what a running thread may still use: Python 3.13.0 on a
    busy machine once ended with signal 11 there (observed). `os._exit` does neither.
    """
    anyio.run(_serve, serve, deadlines)
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError, ValueError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(0)


async def _serve(serve: Callable[[], Awaitable[None]], deadlines: Deadlines) -> None:
    await serve()
    for number in _signals():
        signal.signal(number, signal.SIG_IGN)
    _after(deadlines.exit_seconds, partial(os._exit, 0))


class Shutdown:
    """The one way in which serving ends: by a signal, by the client, or by the death of the parent.

    A context manager around serving: it replaces the signal handlers and restores them at the end.

    Args:
        end: ends the process with a code, from any thread, without waiting for anything.
        now: a clock that never goes back, in seconds.

    Attributes:
        asked: set when serving is to end.
    """

    def __init__(
        self,
        *,
        deadlines: Deadlines = STDIO,
        end: Callable[[int], object] = os._exit,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.asked = anyio.Event()
        self.deadlines = deadlines
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
        """Let serving end within the grace period. Call this in the event loop."""
        if not self.asked.is_set():
            self.asked.set()
            self._cleanup.callback(_after(self.deadlines.grace_seconds, self._cut).cancel)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = self._now()
        if self._signalled_at is None:
            self._signalled_at = now
        elif now - self._signalled_at > self.deadlines.repeated_signal_seconds:
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
            continue  # this system lacks the signal; or nohup is used, whose user wants to log out
        yield number


def _after(seconds: float, do: Callable[[], object]) -> threading.Timer:
    """Call `do` in a thread of its own, because it may be the event loop itself that hangs."""
    timer = threading.Timer(seconds, do)
    timer.daemon = True
    timer.start()
    return timer
