"""The ledger's file in the hands of one thread, opened when it is first used."""

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import anyio

from wan_mcp.errors import WanError
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination_transactions import CoordinationTransactions
from wan_mcp.ledger.rows import Rows
from wan_mcp.ledger.sqlite import connection as database
from wan_mcp.ledger.sqlite import folder as place
from wan_mcp.ledger.sqlite.liveness import ProcessLock
from wan_mcp.ledger.transactions import Transactions

FILE = "ledger.db"
OWNERS = "owners"

T = TypeVar("T")
Work = Callable[[], object]
_Waits = asyncio.Future[Any]
logger = logging.getLogger(__name__)


class Pages(NamedTuple):
    """What stands in the file: the requests that were paid, and who waits for what."""

    transactions: Transactions
    coordination: CoordinationTransactions


class LedgerFile:
    """One file and its thread.

    Args:
        folder: a folder of the ledger's own, made when missing; others' rights to it are removed.
        now: the wall clock, UTC.
        connect: opens the file for writing.

    Attributes:
        next_change: set when this process next changes what others may wait for.
    """

    def __init__(
        self,
        folder: Path,
        now: Callable[[], datetime],
        connect: Callable[[Path], sqlite3.Connection],
    ) -> None:
        self.next_change = anyio.Event()
        self._folder = folder
        self._now = now
        self._connect = connect
        self._pages: Pages | None = None
        self._held = ExitStack()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._process = os.getpid()
        self._closed = False

    async def read(self, work: Callable[[Pages], T]) -> T:
        """Do what changes nothing, also when the file cannot be written."""
        return await self._run(lambda: self._reading(work))

    async def write(self, work: Callable[[Pages], T], *, told: bool = True) -> T:
        """Make a change.

        Args:
            told: whether anybody might wait for it.
        """
        done = await self._run(lambda: work(self._opened()))
        if told:
            changed, self.next_change = self.next_change, anyio.Event()
            changed.set()
        return done

    async def aclose(self) -> None:
        """Let go of the file and of this process's ownership."""
        if not self._closed:
            await self._run(self._close)
            self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        """Do it in the ledger's own thread, to its end, whatever becomes of the caller."""
        self._check_open()
        if os.getpid() != self._process:
            raise LedgerUnavailable("The ledger was opened before a fork; the child needs its own.")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        # Not `run_in_executor`: its future drops work that is still queued when the task itself is
        # cancelled. The shield keeps a caller whose scope is cancelled for the answer.
        self._thread.submit(self._deliver, loop, done, work)
        with anyio.CancelScope(shield=True):
            result = await done
        return result

    def _check_open(self) -> None:
        if self._closed:
            raise LedgerUnavailable("The ledger is closed: this server is ending.")

    # From here on, what runs in the ledger's thread.

    def _deliver(self, loop: asyncio.AbstractEventLoop, waits: _Waits, work: Work) -> None:
        result, broke = None, None
        try:
            with database.as_ledger_errors(self._folder / FILE):
                result = work()
        except BaseException as exc:  # whoever waits must hear of everything
            broke = exc
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_hand_over, waits, result, broke)

    def _reading(self, work: Callable[[Pages], T]) -> T:
        try:
            pages = self._opened()
        except (OSError, sqlite3.OperationalError):
            # A full disk or a folder that became read-only must not hide the jobs paid for.
            with closing(database.read_only(self._folder / FILE)) as connection:
                return work(_pages(Rows(connection, "", self._now), None))
        return work(pages)

    def _opened(self) -> Pages:
        self._check_open()  # once more: this may have been queued behind the closing
        if self._pages is None:
            with ExitStack() as opening:
                pages = self._open(opening)
                pages.transactions.recover()
                self._held = opening.pop_all()
            self._pages = pages
        return self._pages

    def _open(self, opening: ExitStack) -> Pages:
        connection = self._connect(place.private_file(self._folder, FILE))
        opening.callback(connection.close)
        database.migrate(connection)
        owner = ProcessLock(self._folder / OWNERS)
        opening.callback(owner.release)
        owner.sweep()
        return _pages(Rows(connection, owner.name, self._now), owner)

    def _close(self) -> None:
        self._closed = True
        self._pages = None
        self._held.close()


def _pages(rows: Rows, owner: ProcessLock | None) -> Pages:
    return Pages(Transactions(rows, owner), CoordinationTransactions(rows, owner))


def _hand_over(waits: _Waits, result: object, broke: BaseException | None) -> None:
    if waits.done():  # its task was cancelled
        if broke is not None and not isinstance(broke, WanError):
            logger.error("work on the ledger broke, and nobody waits for it", exc_info=broke)
    elif broke is not None:
        waits.set_exception(broke)
    else:
        waits.set_result(result)
