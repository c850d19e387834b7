"""How the database is asked about people, so that no caller can delay the questions of others.

One connection asks one question after the other. Questions about callers that the server does not
know yet have a connection of their own (see `directory`), and each known user has at most one
question at a time in the queue of the other connection.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from copy import copy
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio

from wan_mcp.errors import WanError
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.postgres.connection import ANSWER_SECONDS, Link, as_ledger_errors, connect
from wan_mcp.tenants.caller import IdentityUnknown

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)

PAUSE_SECONDS = 1.0
"""How long questions are refused at once after a failure, instead of each waiting for the same
failure (ours)."""
MOST_WAITING = 1_000
"""How many questions may wait for the connection (ours); a question takes less than 1 ms."""


class Questions:
    """Asks the database one question after the other, on a connection that is opened again if lost.

    A thread of its own takes the next question without waiting for the event loop, which under a
    flood of requests runs each of its tasks only a few times a second.

    Args:
        url: the address of the database.
        ticks: seconds that never jump.
    """

    def __init__(self, url: str, ticks: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._ticks = ticks
        self._thread = ThreadPoolExecutor(1, "people")
        self._asked = 0
        self._link: Link | None = None
        self._again_at = -math.inf

    async def ask(self, work: Callable[[Link], T]) -> T:
        """The result of work in a thread. The work may run twice, if the connection is lost.

        Raises:
            IdentityUnknown: the database cannot be used now, or too many questions wait for it.
        """
        if self._asked > MOST_WAITING:
            raise IdentityUnknown("Too many requests wait for the database of the team.")
        self._asked += 1
        try:
            return await self._in_thread(lambda: self._do(work))
        finally:
            self._asked -= 1

    async def aclose(self) -> None:
        """Close the connection."""
        await self._in_thread(self._close)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._thread.submit(copy_context().run, work))

    # The methods below run in the thread.

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
            # A connection that was lost between two questions fails at once.
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


@dataclass(eq=False)
class _Batch(Generic[Key, T]):
    wanted: list[Key]
    asking: asyncio.Task[Sequence[T]]


class Batches(Generic[Key, T]):
    """Asks one question for all callers that have come while the question before was asked.

    Each question is a task of its own: if one caller is cancelled, the others still get their
    answers.

    Args:
        ask: asks it. The answers are in the order of what is wanted.
        most: about how many callers share a question; further ones are asked to try again.
    """

    def __init__(self, ask: Callable[[Sequence[Key]], Awaitable[Sequence[T]]], most: int) -> None:
        self._ask = ask
        self._most = most
        self._turn = anyio.Lock()
        self._next: _Batch[Key, T] | None = None

    async def find(self, wanted: Key) -> T:
        """The answer for one caller.

        Raises:
            IdentityUnknown: it cannot be known now, or too many callers wait.
            Exception: whatever `ask` has raised. Every caller of the question gets a copy, because
                an exception that several tasks raise collects the tracebacks of all of them.
        """
        batch = self._next
        if batch is None:
            first: list[Key] = []
            batch = self._next = _Batch(first, asyncio.create_task(self._run(first)))
        place = len(batch.wanted)
        if place >= self._most:
            raise IdentityUnknown("Too many callers come who are not known yet.")
        batch.wanted.append(wanted)
        await asyncio.wait({batch.asking})
        if failed := batch.asking.exception():
            raise copy(failed) from failed
        return batch.asking.result()[place]

    async def _run(self, wanted: Sequence[Key]) -> Sequence[T]:
        async with self._turn:
            self._next = None  # callers that come from now on share the next question
            return await self._ask(wanted)


@dataclass(eq=False)
class _Line:
    turn: anyio.Lock = field(default_factory=anyio.Lock)
    length: int = 0


class Lines:
    """A queue for each user, so that others wait for one question of a user, and not for all."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def turn(self, user: str) -> AsyncIterator[None]:
        """Wait until the earlier questions of this user are answered; within it, later ones wait.

        Args:
            user: the id.
        """
        line = self._lines.setdefault(user, _Line())
        line.length += 1
        try:
            async with line.turn:
                yield
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[user]
