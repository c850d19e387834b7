"""A store of paid requests, and the one thread that uses it."""

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import anyio

from wan_mcp.errors import WanError
from wan_mcp.ledger.contract import LedgerChanged, LedgerUnavailable, NothingToRead
from wan_mcp.ledger.coordination_transactions import CoordinationTransactions
from wan_mcp.ledger.queueing.transactions import QueueTransactions
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.session import Engine, Session
from wan_mcp.ledger.threaded.turns import Pause, Turn
from wan_mcp.ledger.transactions import Transactions
from wan_mcp.logs import facts

T = TypeVar("T")
_Waiting = asyncio.Future[Any]
_Work = Callable[[], object]

logger = logging.getLogger(__name__)


class Opened(NamedTuple):
    """An open store: its paid requests, those that wait, and what processes share meanwhile."""

    session: Session
    requests: Transactions
    coordination: CoordinationTransactions
    queue: QueueTransactions


class Store:
    """A store that one thread uses. It is opened when it is first used.

    If opening fails, the next use tries again.

    Args:
        wait_seconds: how long work that may be refused waits for its turn, see `turns`; None for as
            long as it takes. Without a limit nothing is refused while the store can be opened.
        ticks: a clock that never jumps, in seconds.

    Attributes:
        own_changes: how many changes that a caller may wait for were made by this process, or
            reported by another one.
        notice: see `contract.Ledger.notice`.
    """

    def __init__(
        self,
        engine: Engine,
        wait_seconds: float | None = None,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.own_changes = 0
        self.notice: str | None = None
        self._engine = engine
        self._wait_seconds = wait_seconds
        self._pause = Pause(ticks)
        self._changed: anyio.Event | None = None
        self._opened: Opened | None = None
        self._held = ExitStack()
        self._thread = LedgerThread()
        self._process = os.getpid()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def read(self, work: Callable[[Opened], T]) -> T:
        """Run work that changes nothing, even if the store cannot be written.

        Where there is a time limit, the work may be refused. A caller that is cancelled stops
        waiting then, and work that has not begun is not done.
        """
        limit = self._wait_seconds
        return await self._run(lambda: self._read(work), limit=limit, leaves=limit is not None)

    async def write(
        self, work: Callable[[Opened], T], *, wakes: bool = True, refusable: bool = False
    ) -> T:
        """Run work that makes a change.

        Args:
            wakes: whether a caller may be waiting for the change.
            refusable: whether it may be refused before it begins, see `turns`.
        """
        after = self._note_change if wakes else None
        limit = self._wait_seconds if refusable else None
        return await self._run(lambda: work(self._open()), after, limit=limit)

    def wake(self) -> None:
        """Wake the waits for a change, because another process has made one. From any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed, and with it every wait
                self._loop.call_soon_threadsafe(self._note_change)

    def _note_change(self) -> None:
        self.own_changes += 1
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def next_change(self, since: int) -> None:
        """Wait until `own_changes` differs from `since`."""
        while self.own_changes == since:
            if self._changed is None:
                self._changed = anyio.Event()
            await self._changed.wait()

    async def aclose(self) -> None:
        """Close the store and give up the ownership of records."""
        if not self._closed:
            await self._run(self._close)
            self._thread.end()

    async def _run(
        self,
        work: Callable[[], T],
        after: Callable[[], None] | None = None,
        *,
        limit: float | None = None,
        leaves: bool = False,
    ) -> T:
        """Run work in the ledger's thread. What has begun is finished, whatever its caller does.

        Args:
            after: called in the event loop once the work has succeeded, even if no caller waits.
            limit: seconds after which it is not begun any more; None if it takes its turn however
                long that takes, also if its caller is cancelled.
            leaves: whether a cancelled caller stops waiting; otherwise it still gets the result.
        """
        self._require_open()
        if os.getpid() != self._process:
            raise LedgerUnavailable("The ledger was opened before a fork; the child needs its own.")
        self._loop = loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        turn, asked = Turn(), time.perf_counter()
        due = work if limit is None else partial(self._unless_paused, work)
        # Not `run_in_executor`: if the task is cancelled, it drops work that is still in the queue.
        self._thread.do(partial(self._deliver, loop, done, turn, due, after, asked))
        for listener in facts.listeners:
            listener.asked_ledger()
        timer = None if limit is None else loop.call_later(limit, turn.refuse, done)
        try:
            with anyio.CancelScope(shield=not leaves):
                result = await done
        finally:
            if timer is not None:
                timer.cancel()
            if leaves:
                turn.take()
        return result

    def _require_open(self) -> None:
        if self._closed:
            raise LedgerUnavailable("The ledger is closed: this server is ending.")

    # The methods below run in the ledger's thread.

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        waiting: _Waiting,
        turn: Turn,
        work: Callable[[], object],
        after: Callable[[], None] | None,
        asked: float,
    ) -> None:
        began = time.perf_counter()
        if not turn.take():
            for listener in facts.listeners:
                listener.used_ledger(0.0, waited=began - asked, failed=True)
            return
        result, failure = None, None
        try:
            with self._pause.watching(), self._engine.as_ledger_errors():
                result = work()
        except BaseException as exc:  # every error must reach the caller
            failure = exc
        for listener in facts.listeners:
            took = time.perf_counter() - began
            listener.used_ledger(took, waited=began - asked, failed=failure is not None)
        with suppress(RuntimeError):  # the loop is closed, and with it every wait
            loop.call_soon_threadsafe(_hand_over, waiting, result, failure, after)

    def _unless_paused(self, work: Callable[[], T]) -> T:
        self._pause.require_over()
        return work()

    def _read(self, work: Callable[[Opened], T]) -> T:
        try:
            opened = self._open()
        except self._engine.not_writable as failure:
            return self._read_only(work, failure)
        try:
            return work(opened)
        except Exception:
            if changed := opened.session.change():
                raise changed from None  # the true reason, where there is one
            raise
        finally:
            changed = opened.session.change()
            self.notice = None if changed is None else changed.happened

    def _read_only(self, work: Callable[[Opened], T], failure: Exception) -> T:
        """A full disk or a read-only folder must not hide the jobs that are paid for."""
        changed = failure if isinstance(failure, LedgerChanged) else None
        try:
            with ExitStack() as reading:
                result = work(_on(self._engine.open_to_read(reading)))
        except NothingToRead:
            raise failure from None  # the true reason
        except Exception:
            if changed is not None:
                raise changed from None
            raise
        self.notice = None if changed is None else changed.happened
        return result

    def _open(self) -> Opened:
        self._require_open()  # again: the closing may have been in the queue before this work
        if self._opened is None:
            with ExitStack() as opening:
                opened = _on(self._engine.open(opening))
                recover(opened)
                self._held = opening.pop_all()
            self._opened = opened
        return self._opened

    def _close(self) -> None:
        self._closed = True
        self._opened = None
        self._held.close()


def recover(store: Opened) -> list[Record]:
    """Take in what was kept elsewhere, and settle what dead processes have left."""
    store.requests.take_in_kept()
    return store.requests.recover()


def _on(session: Session) -> Opened:
    return Opened(
        session,
        Transactions(session),
        CoordinationTransactions(session),
        QueueTransactions(session),
    )


def _hand_over(
    waiting: _Waiting,
    result: object,
    failure: BaseException | None,
    after: Callable[[], None] | None,
) -> None:
    if after is not None and failure is None:
        after()
    if waiting.done():  # its task was cancelled
        if failure is not None and not isinstance(failure, WanError):
            logger.error("work on the ledger failed, and its caller is gone", exc_info=failure)
    elif failure is not None:
        waiting.set_exception(failure)
    else:
        waiting.set_result(result)


class LedgerThread:
    """One thread, which does all work in the order in which it is given, even while Python ends.

    A plain queue costs half as much as `concurrent.futures`, and a submit waits for three pieces of
    work.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self.end: Callable[[], object] = lambda: None

    def do(self, work: _Work) -> None:
        """Do work as soon as all earlier work is done; it raises nothing.

        Raises:
            LedgerUnavailable: no thread can be started, so the work is never done.
        """
        if not isinstance(self.end, weakref.finalize):
            # A daemon, because Python would wait for any other before it calls the finalizer.
            thread = threading.Thread(target=_serve, args=[self._queue], name="ledger", daemon=True)
            try:
                thread.start()
            except RuntimeError as exc:
                raise LedgerUnavailable("The system lets no further thread be started.") from exc
            self.end = weakref.finalize(self, _end, self._queue, thread)
        self._queue.put(work)


def _serve(queue: "SimpleQueue[_Work | None]") -> None:
    while (work := queue.get()) is not None:
        work()
        del work  # it refers to the store, which may be dropped


def _end(queue: "SimpleQueue[_Work | None]", thread: threading.Thread) -> None:
    queue.put(None)
    if thread is not threading.current_thread():
        thread.join()
