"""How long work waits for its turn in the ledger's thread, on a store whose answers the test gives.

No time passes here: a limit of 0 seconds is over as soon as the event loop looks.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any, cast

import anyio
import pytest

from tests.ledger.stores import HANG_SECONDS
from wan_mcp.ledger.contract import LedgerUnavailable, LedgerUnreachable
from wan_mcp.ledger.threaded.store import Opened, Store
from wan_mcp.ledger.threaded.turns import PAUSE_SECONDS, Turn

pytestmark = pytest.mark.anyio

AT_ONCE = 0.0


class Database:
    """An engine whose store does one piece of work when it is released.

    Attributes:
        now: what the clock shows.
        done: the names of the work that was begun, in order.
    """

    not_writable: tuple[type[Exception], ...] = ()

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[str] = []
        self.entered = threading.Event()
        self.released = threading.Event()

    def open(self, opening: ExitStack) -> Any:
        raise NotImplementedError

    def open_to_read(self, opening: ExitStack) -> Any:
        raise NotImplementedError

    def as_ledger_errors(self) -> AbstractContextManager[None]:
        return nullcontext()

    def does(self, name: str) -> Callable[[Opened], str]:
        """Work that is done at once."""

        def work(opened: Opened) -> str:
            self.done.append(name)
            return name

        return work

    def held(self, opened: Opened) -> None:
        """Work that goes on until it is released."""
        self.done.append("held")
        self.entered.set()
        assert self.released.wait(HANG_SECONDS)

    async def has_begun(self) -> None:
        """Wait until that work has begun."""
        with anyio.fail_after(HANG_SECONDS):
            await anyio.to_thread.run_sync(self.entered.wait)

    def unreachable(self, seconds: float) -> Callable[[Opened], None]:
        """Work that finds out after so long that the store cannot be reached."""

        def work(opened: Opened) -> None:
            self.done.append("unreachable")
            self.now += seconds
            raise LedgerUnreachable("It is away.")

        return work


class _Opened:
    """What is needed of an open store: nothing has happened to it."""

    class session:
        change = staticmethod(lambda: None)


StoreWith = Callable[[float | None], Store]
"""Opens a store with a limit of so many seconds."""


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def store_with(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StoreWith]:
    monkeypatch.setattr(Store, "_open", lambda store: cast("Any", _Opened))
    made: list[Store] = []

    def make(wait_seconds: float | None) -> Store:
        made.append(Store(database, wait_seconds, lambda: database.now))
        return made[-1]

    yield make
    database.released.set()
    for store in made:
        await store.aclose()


async def busy(store: Store, database: Database) -> "asyncio.Task[None]":
    """Let the thread of a store do work that goes on until it is released."""
    task = asyncio.create_task(store.write(database.held))
    await anyio.lowlevel.checkpoint()
    await database.has_begun()
    return task


Ask = Callable[[Store, Callable[[Opened], str]], Any]
READ: Ask = Store.read
CLAIM: Ask = partial(Store.write, refusable=True)
ACCEPT: Ask = Store.write


@pytest.mark.parametrize("ask", [READ, CLAIM])
async def test_work_that_has_waited_too_long_is_refused_and_never_done(
    store_with: StoreWith, database: Database, ask: Ask
) -> None:
    """While other work goes on without end. Nothing happened, so a repetition is safe (ours)."""
    store = store_with(AT_ONCE)
    first = await busy(store, database)
    with pytest.raises(LedgerUnavailable) as refused:
        await ask(store, database.does("late"))
    database.released.set()
    await first
    await store.write(database.does("next"))

    assert refused.value.retry_safe
    assert refused.value.charged == "no"
    assert database.done == ["held", "next"]


@pytest.mark.parametrize(
    ("limit", "ask"), [(AT_ONCE, ACCEPT), (HANG_SECONDS, CLAIM), (None, CLAIM), (None, READ)]
)
async def test_work_takes_its_turn_where_its_limit_is_not_over_or_where_it_has_none(
    store_with: StoreWith, database: Database, limit: float | None, ask: Ask
) -> None:
    """A paid answer has no limit, and a ledger in a file gives none to anything (ours)."""
    store = store_with(limit)
    first = await busy(store, database)
    second = asyncio.create_task(ask(store, database.does("second")))
    for _ in range(3):
        await asyncio.sleep(0)
    database.released.set()

    assert await second == "second"
    assert first.done()


async def test_work_that_has_begun_is_not_refused_any_more() -> None:
    """It may have happened, so only its own answer counts (promises 1)."""
    turn = Turn()
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    has_begun = turn.take()
    turn.refuse(waiting)

    assert has_begun
    assert not waiting.done()


async def test_call_that_is_cancelled_leaves_a_read_and_what_had_not_begun_is_not_begun(
    store_with: StoreWith, database: Database
) -> None:
    """Or calls that nobody waits for would keep the others waiting (ours)."""
    store = store_with(HANG_SECONDS)
    begun = asyncio.create_task(store.read(database.held))
    await database.has_begun()
    waits = asyncio.create_task(store.read(database.does("abandoned")))
    with anyio.CancelScope() as scope:  # as a time limit of a caller does it
        scope.cancel()
        await store.read(database.does("abandoned, too"))
    await asyncio.sleep(0)
    begun.cancel()
    waits.cancel()
    left = await asyncio.gather(begun, waits, return_exceptions=True)
    database.released.set()
    await store.read(database.does("next"))

    assert scope.cancelled_caught
    assert [type(each) for each in left] == [asyncio.CancelledError, asyncio.CancelledError]
    assert database.done == ["held", "next"]


@pytest.mark.parametrize(
    ("limit", "ask"), [(HANG_SECONDS, CLAIM), (HANG_SECONDS, ACCEPT), (None, READ)]
)
async def test_change_is_made_and_its_result_handed_over_although_its_caller_is_cancelled(
    store_with: StoreWith,
    database: Database,
    limit: float | None,
    ask: Ask,
) -> None:
    """A claim that nobody took over would block the equal request (promises 4)."""
    store = store_with(limit)
    first = await busy(store, database)
    asyncio.get_running_loop().call_soon(database.released.set)
    with anyio.CancelScope() as scope:
        scope.cancel()
        result = await ask(store, database.does("wanted"))
    await first

    assert result == "wanted"
    assert database.done == ["held", "wanted"]


@pytest.mark.parametrize("ask", [CLAIM, ACCEPT])
async def test_change_of_a_task_that_is_cancelled_is_made_all_the_same(
    store_with: StoreWith, database: Database, ask: Ask
) -> None:
    """A paid answer is recorded although its server stops (promises 3)."""
    store = store_with(HANG_SECONDS)
    first = await busy(store, database)
    call = asyncio.create_task(ask(store, database.does("wanted")))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    database.released.set()
    await first
    await store.write(database.does("next"))

    assert database.done == ["held", "wanted", "next"]


async def test_nobody_waits_for_the_failure_that_another_one_has_just_waited_for(
    store_with: StoreWith, database: Database
) -> None:
    """A paid answer is tried all the same, and the first success ends the pause (ours)."""
    store = store_with(HANG_SECONDS)
    first = await busy(store, database)
    calls = [
        store.read(database.unreachable(PAUSE_SECONDS)),
        store.read(database.does("read")),
        store.write(database.does("claim"), refusable=True),
        store.write(database.unreachable(PAUSE_SECONDS)),
        store.read(database.does("read")),
        store.write(database.does("accept")),
        store.read(database.does("read again")),
    ]
    waiting = asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0)
    database.released.set()
    answers = await waiting
    await first

    refused = [answer for answer in answers if isinstance(answer, LedgerUnavailable)]
    assert answers[5:] == ["accept", "read again"]
    assert len(refused) == 5
    assert all(each.retry_safe for each in refused)
    assert database.done == ["held", "unreachable", "unreachable", "accept", "read again"]


@pytest.mark.parametrize(
    ("took", "later", "is_tried"),
    [
        (PAUSE_SECONDS, PAUSE_SECONDS - 0.1, False),
        (PAUSE_SECONDS, PAUSE_SECONDS, True),
        (PAUSE_SECONDS - 0.1, 0.0, True),
    ],
)
async def test_store_is_tried_again_after_a_pause_or_at_once_where_it_fails_at_once(
    store_with: StoreWith,
    database: Database,
    took: float,
    later: float,
    is_tried: bool,
) -> None:
    """A database that is being restarted refuses at once, and is back within a second (ours)."""
    store = store_with(HANG_SECONDS)
    with pytest.raises(LedgerUnreachable):
        await store.read(database.unreachable(took))
    database.now += later
    with nullcontext() if is_tried else pytest.raises(LedgerUnavailable):
        await store.read(database.does("read"))

    assert ("read" in database.done) is is_tried
