"""The ledger in one SQLite file, which any number of processes on a machine share."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import anyio

from wan_mcp.jobs import database, place
from wan_mcp.jobs.book import Book
from wan_mcp.jobs.ledger import Caps, Claim, Learnt, LedgerUnavailable
from wan_mcp.jobs.owners import Owner
from wan_mcp.jobs.row import Row, State
from wan_mcp.jobs.table import Table
from wan_mcp.models import Job, Replacement

FILE = "ledger.db"
OWNERS = "owners"

T = TypeVar("T")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SQLiteLedger:
    """`Ledger` on a file. Opened by its first use, and again by the next one if that failed.

    Args:
        folder: a folder of the ledger's own, made when missing; others' rights to it are removed.
        caps: what the operator allows.
        now: the wall clock, UTC.
        look_seconds: how often `settled` looks for what another process wrote.
        connect: opens the file for writing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        caps: Caps | None = None,
        now: Callable[[], datetime] = _utc_now,
        look_seconds: float = 0.2,
        connect: Callable[[Path], sqlite3.Connection] = database.connect,
    ) -> None:
        self._folder = folder
        self._caps = caps or Caps()
        self._now = now
        self._look_seconds = look_seconds
        self._connect = connect
        self._book: Book | None = None
        self._held = ExitStack()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._process = os.getpid()
        self._closed = False
        self._changed = anyio.Event()

    async def account(self, api_base: str, api_key: str) -> str:
        return await self._read(lambda book: book.account(api_base, api_key))

    async def claim(
        self, account: str, wanted: Replacement, *, planted_seed: int, estimate: float | None
    ) -> Claim:
        return await self._write(
            lambda book: book.claim(account, wanted, planted_seed, estimate, self._caps)
        )

    async def equal(self, account: str, wanted: Replacement) -> Row | None:
        return await self._read(lambda book: book.equal(account, wanted))

    async def commit_sending(self, handle: str) -> Row:
        return await self._write(lambda book: book.commit_sending(handle))

    async def accept(self, handle: str, job: Job) -> Row:
        return await self._write(lambda book: book.accept(handle, job))

    async def conclude(self, handle: str, state: State, why: str) -> Row:
        return await self._write(lambda book: book.conclude(handle, state, why))

    async def learn(self, account: str, job: Job) -> Learnt:
        return await self._write(lambda book: book.learn(account, job))

    async def settled(self, handle: str, seconds: float) -> Row:
        with anyio.move_on_after(seconds):
            while True:
                changed = self._changed  # before the look: what happens meanwhile is not missed
                row = await self._read(lambda book: book.row(handle))
                if row.settled:
                    return row
                with anyio.move_on_after(self._look_seconds):
                    await changed.wait()
        return await self._read(lambda book: book.row(handle))

    async def find(self, account: str, id: str) -> Row | None:
        return await self._read(lambda book: book.find(account, id))

    async def recent(
        self, account: str, states: frozenset[State] | None = None, limit: int = 10
    ) -> list[Row]:
        return await self._read(lambda book: book.recent(account, states, limit))

    async def unknowns(self, account: str, due_at: datetime | None = None) -> list[Row]:
        return await self._read(lambda book: book.unknowns(account, due_at))

    async def record_check(self, handle: str, findings: str, next_at: datetime | None) -> Row:
        return await self._write(lambda book: book.record_check(handle, findings, next_at))

    async def recover(self) -> list[Row]:
        return await self._write(lambda book: book.recover())

    async def aclose(self) -> None:
        if not self._closed:
            await self._run(self._close)
            self._closed = True
            self._thread.shutdown()

    async def _read(self, work: Callable[[Book], T]) -> T:
        return await self._run(lambda: self._reading(work))

    async def _write(self, work: Callable[[Book], T]) -> T:
        done = await self._run(lambda: work(self._opened()))
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        return done

    async def _run(self, work: Callable[[], T]) -> T:
        """Do it in the ledger's own thread, to its end, whatever becomes of the caller."""
        if self._closed:
            raise LedgerUnavailable("The ledger is closed: this server is ending.")
        if os.getpid() != self._process:
            raise LedgerUnavailable("The ledger was opened before a fork; the child needs its own.")
        done = asyncio.wrap_future(self._thread.submit(self._translated, work))
        # Two shields: anyio's keeps the caller for the answer, asyncio's keeps work that is still
        # queued from being dropped when the task itself is cancelled.
        with anyio.CancelScope(shield=True):
            result = await asyncio.shield(done)
        return result

    # From here on, what runs in the ledger's thread.

    def _translated(self, work: Callable[[], T]) -> T:
        with database.in_our_words(self._folder / FILE):
            return work()

    def _reading(self, work: Callable[[Book], T]) -> T:
        try:
            book = self._opened()
        except (OSError, sqlite3.OperationalError):
            # A full disk or a folder that became read-only must not hide the jobs paid for.
            with closing(database.read_only(self._folder / FILE)) as connection:
                return work(Book(Table(connection, "", self._now), None))
        return work(book)

    def _opened(self) -> Book:
        if self._book is None:
            with ExitStack() as opening:
                book = self._open(opening)
                book.recover()
                self._held = opening.pop_all()
            self._book = book
        return self._book

    def _open(self, opening: ExitStack) -> Book:
        connection = self._connect(place.private_file(self._folder, FILE))
        opening.callback(connection.close)
        database.migrate(connection)
        owner = Owner(self._folder / OWNERS)
        opening.callback(owner.release)
        owner.sweep()
        return Book(Table(connection, owner.name, self._now), owner)

    def _close(self) -> None:
        self._book = None
        self._held.close()
