"""An event loop in virtual time: when there is nothing to do, its clock jumps to the next timer.

Half an hour of polling takes seconds, and every run has exactly the same times. Threads, sockets
and the processes that read videos are real; while one of them works, virtual time stands still.
"""

import asyncio
import selectors
from asyncio import futures
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

import anyio
import anyio.to_thread

from wan_mcp.clock import Clock

EPOCH = datetime(2026, 11, 1, tzinfo=UTC)
GRACE_SECONDS = 0.005
"""In this real time, bytes arrive from one socket of this process at another."""


class VirtualTime:
    """A clock that moves only by jumps, or when a test sets `now`.

    Attributes:
        now: the monotonic time in seconds.
        began: the first value of `now`.
        skew: how many seconds the wall clock is ahead. A test changes it to let the clock jump.
        chance: the random number, from 0 to 1, that every draw returns.
    """

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = self.began = now
        self.skew = 0.0
        self.chance = 0.5

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now + self.skew)

    def passed(self) -> float:
        """Seconds since the start."""
        return round(self.now - self.began, 3)

    def clock(self) -> Clock:
        """A clock of wan-mcp that shows this time."""
        return Clock(monotonic=self.monotonic, wall=self.wall, chance=lambda: self.chance)

    def backend(self, *, sockets: bool = False) -> tuple[str, dict[str, Any]]:
        """The value of the fixture `anyio_backend` with which a test runs in this time."""
        return "asyncio", {"loop_factory": partial(VirtualLoop, self, sockets=sockets)}


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time.

    Args:
        sockets: whether real sockets are used. This costs GRACE_SECONDS for each jump.
    """

    def __init__(self, virtual: VirtualTime, *, sockets: bool = False) -> None:
        self._virtual = virtual
        super().__init__(_Jumping(virtual, GRACE_SECONDS if sockets else 0.0))

    def time(self) -> float:
        return self._virtual.now

    async def shutdown_default_executor(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 # asyncio has it
    ) -> None:
        """Wait for its threads: they end in real time, so no virtual time limits that."""
        await super().shutdown_default_executor()


class _Jumping(selectors.DefaultSelector):
    def __init__(self, virtual: VirtualTime, grace: float) -> None:
        super().__init__()
        self._virtual = virtual
        self._grace = grace
        self._has_moved_bytes = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            ready = super().select(timeout)
            self._has_moved_bytes |= bool(ready)
            return ready
        if _in_threads:
            # Not for long: work that wakes the loop itself is still in the set afterwards.
            return super().select(GRACE_SECONDS)
        # After bytes have arrived, more may follow: an answer, or the next request.
        grace = self._grace * (10 if self._has_moved_bytes else 1)
        if ready := super().select(grace):
            self._has_moved_bytes = True
            return ready
        self._has_moved_bytes = False
        self._virtual.now += timeout
        return []


_in_threads: set[object] = set()
"""What a thread or a process works on, until the loop has its result."""


def _timeless(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The same function, but time stands still in it."""

    async def timeless(*args: Any, **named: Any) -> Any:
        work = object()
        _in_threads.add(work)
        try:
            return await function(*args, **named)
        finally:
            _in_threads.discard(work)

    return timeless


def _watched_do(do: Callable[..., None]) -> Callable[..., None]:
    """`LedgerThread.do`, but time stands still until the work has woken its loop."""

    def watched(thread: object, work: Callable[[], object]) -> None:
        token = object()
        _in_threads.add(token)

        def whole() -> None:
            try:
                work()
            finally:
                _in_threads.discard(token)

        do(thread, whole)

    return watched


@contextmanager
def watched_threads() -> Iterator[None]:
    """Within it, time stands still while a thread pool or a process works for a loop."""
    # Not above: a bench measures the memory of a process that imports this module.
    from anyio._backends._asyncio import Process

    from wan_mcp.inputs.decoder_process import DecoderProcess
    from wan_mcp.ledger.threaded.store import LedgerThread

    wrap_future, submit = futures.wrap_future, ThreadPoolExecutor.submit

    def wrap(*args: Any, **named: Any) -> asyncio.Future[Any]:
        wrapped: asyncio.Future[Any] = wrap_future(*args, **named)
        _in_threads.add(wrapped)
        wrapped.add_done_callback(_in_threads.discard)
        return wrapped

    def submitted(self: ThreadPoolExecutor, *args: Any, **named: Any) -> Future[Any]:
        # Work that wakes its loop by itself has done so when its future is done.
        future: Future[Any] = submit(self, *args, **named)
        _in_threads.add(future)
        future.add_done_callback(_in_threads.discard)
        return future

    run_sync = anyio.to_thread.run_sync

    async def watched(*args: Any, abandon_on_cancel: bool = False, **named: Any) -> Any:
        if abandon_on_cancel:  # it may hang for ever, and then time must continue
            return await run_sync(*args, abandon_on_cancel=True, **named)
        work = object()
        _in_threads.add(work)
        try:
            return await run_sync(*args, **named)
        finally:
            _in_threads.discard(work)

    with (
        patch.object(anyio.to_thread, "run_sync", watched),
        patch.object(futures, "wrap_future", wrap),
        patch.object(asyncio, "wrap_future", wrap),
        patch.object(ThreadPoolExecutor, "submit", submitted),
        patch.object(LedgerThread, "do", _watched_do(LedgerThread.do)),
        patch.object(anyio, "open_process", _timeless(anyio.open_process)),
        patch.object(DecoderProcess, "ask", _timeless(DecoderProcess.ask)),
        patch.object(Process, "aclose", _timeless(Process.aclose)),
    ):
        yield


def in_virtual_time(start: float = 1_000.0, *, sockets: bool = False) -> tuple[object, object]:
    """The fixtures `time` and `anyio_backend` for a module whose tests run in virtual time.

    Args:
        sockets: as for `VirtualLoop`.
    """
    import pytest  # not above, because the benches import this module without pytest

    @pytest.fixture
    def time() -> Iterator[VirtualTime]:
        with watched_threads():
            yield VirtualTime(start)

    @pytest.fixture
    def anyio_backend(time: VirtualTime) -> object:
        return time.backend(sockets=sockets)

    return time, anyio_backend
