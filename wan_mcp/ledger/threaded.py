"""The ledger on any engine. Transactions run in a thread of their own, never in the event loop."""

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import anyio

from wan_mcp.errors import WanError
from wan_mcp.ledger.contract import (
    Claim,
    LedgerChanged,
    LedgerUnavailable,
    NothingToRead,
    Page,
    Recorded,
    VideoPolicy,
)
from wan_mcp.ledger.coordination import Acquired, Coordination, Limit, Role, Rule
from wan_mcp.ledger.coordination_transactions import CoordinationTransactions
from wan_mcp.ledger.expected_price import AccountCredits, Charge
from wan_mcp.ledger.record import ListReading, Record, SentInputs, State
from wan_mcp.ledger.rows import Engine, Session
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.transactions import Transactions
from wan_mcp.models import Cursor, Difference, Job, Replacement, SourceClip

T = TypeVar("T")
_Waiting = asyncio.Future[Any]
logger = logging.getLogger(__name__)


class Opened(NamedTuple):
    """An open store: its paid requests, and what processes share while they wait."""

    session: Session
    requests: Transactions
    coordination: CoordinationTransactions


class Store:
    """A store that one thread uses. It is opened when it is first used.

    If opening fails, the next use tries again.

    Attributes:
        own_changes: the number of changes by this process that somebody may wait for.
        notice: see `contract.Ledger.notice`.
    """

    def __init__(self, engine: Engine) -> None:
        self.own_changes = 0
        self.notice: str | None = None
        self._engine = engine
        self._changed: anyio.Event | None = None
        self._opened: Opened | None = None
        self._held = ExitStack()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._process = os.getpid()
        self._closed = False

    async def read(self, work: Callable[[Opened], T]) -> T:
        """Run work that changes nothing, even if the store cannot be written."""
        return await self._run(lambda: self._read(work))

    async def write(self, work: Callable[[Opened], T], *, wakes: bool = True) -> T:
        """Run work that makes a change.

        Args:
            wakes: whether somebody may wait for the change.
        """
        return await self._run(lambda: work(self._open()), self._note_change if wakes else None)

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
            self._thread.shutdown()

    async def _run(self, work: Callable[[], T], after: Callable[[], None] | None = None) -> T:
        """Run work in the ledger's thread. It is finished even if the caller is cancelled.

        Args:
            after: called in the event loop once the work has succeeded, whoever still waits.
        """
        self._require_open()
        if os.getpid() != self._process:
            raise LedgerUnavailable("The ledger was opened before a fork; the child needs its own.")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        # Not `run_in_executor`: if the task is cancelled, it drops work that is still in the queue.
        # Because of the shield, a caller whose scope is cancelled still gets the result.
        self._thread.submit(self._deliver, loop, done, work, after)
        with anyio.CancelScope(shield=True):
            result = await done
        return result

    def _require_open(self) -> None:
        if self._closed:
            raise LedgerUnavailable("The ledger is closed: this server is ending.")

    # The methods below run in the ledger's thread.

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        waiting: _Waiting,
        work: Callable[[], object],
        after: Callable[[], None] | None,
    ) -> None:
        result, failure = None, None
        try:
            with self._engine.as_ledger_errors():
                result = work()
        except BaseException as exc:  # every error must reach the caller
            failure = exc
        with suppress(RuntimeError):  # the loop is closed, so nobody waits any more
            loop.call_soon_threadsafe(_hand_over, waiting, result, failure, after)

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
                _recover(opened)
                self._held = opening.pop_all()
            self._opened = opened
        return self._opened

    def _close(self) -> None:
        self._closed = True
        self._opened = None
        self._held.close()


def _recover(store: Opened) -> list[Record]:
    store.requests.take_in_kept()
    return store.requests.recover()


def _on(session: Session) -> Opened:
    return Opened(session, Transactions(session), CoordinationTransactions(session))


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


class ThreadedLedger:
    """`Ledger` on any engine.

    Args:
        limits: what the operator allows; also an attribute.
        poll_seconds: how often `settled` looks for changes by other processes.
    """

    def __init__(self, engine: Engine, limits: SpendingLimits, poll_seconds: float) -> None:
        self.limits = limits
        self._poll_seconds = poll_seconds
        self._store = Store(engine)
        self.coordination: Coordination = ThreadedCoordination(self._store)

    @property
    def notice(self) -> str | None:
        return self._store.notice

    async def account(self, api_base: str, api_key: str) -> str:
        return await self._store.read(lambda store: store.requests.account(api_base, api_key))

    async def secret(self, purpose: str) -> bytes:
        return await self._store.read(lambda store: store.requests.secret(purpose))

    async def claim(
        self,
        account: str,
        wanted: Replacement,
        *,
        generated_seed: int,
        estimate: float | None,
        videos: VideoPolicy | None = None,
        source: SourceClip | None = None,
        agreed: float | None = None,
    ) -> Claim:
        limits = self.limits if agreed is None else replace(self.limits, agreed=agreed)
        return await self._store.write(
            lambda store: store.requests.claim(
                account, wanted, generated_seed, estimate, limits, videos, source
            )
        )

    async def equal(self, account: str, wanted: Replacement) -> Record | None:
        return await self._store.read(lambda store: store.requests.equal(account, wanted))

    async def commit_sending(self, record: Record, sent: SentInputs | None = None) -> None:
        await self._store.write(lambda store: store.requests.commit_sending(record, sent))

    async def join(self, record: Record) -> None:
        await self._store.write(lambda store: store.requests.join(record))

    async def withdraw(self, record: Record) -> Record:
        return await self._store.write(lambda store: store.requests.withdraw(record))

    async def accept(self, record: Record, job: Job) -> Record:
        return await self._store.write(lambda store: store.requests.accept(record, job))

    async def match(self, record: Record, job: Job) -> Record:
        return await self._store.write(lambda store: store.requests.match(record, job))

    async def conclude(self, record: Record, state: State, why: str) -> Record:
        return await self._store.write(lambda store: store.requests.conclude(record, state, why))

    async def record_update(self, account: str, job: Job) -> Recorded:
        return await self._store.write(lambda store: store.requests.record_update(account, job))

    async def settled(self, submission_id: str, seconds: float) -> Record:
        with anyio.move_on_after(seconds):
            while True:
                since = self._store.own_changes  # before the read, so that no change is missed
                record = await self._store.read(lambda store: store.requests.record(submission_id))
                if record.settled:
                    return record
                with anyio.move_on_after(self._poll_seconds):
                    await self._store.next_change(since)
        return await self._store.read(lambda store: store.requests.record(submission_id))

    async def find(self, account: str, id: str) -> Record | None:
        return await self._store.read(lambda store: store.requests.find(account, id))

    async def recent(
        self, account: str, states: frozenset[State] | None = None, limit: int = 10
    ) -> list[Record]:
        return await self._store.read(lambda store: store.requests.recent(account, states, limit))

    async def page(
        self, account: str, states: frozenset[State] | None, limit: int, after: Cursor | None
    ) -> Page | None:
        return await self._store.read(
            lambda store: store.requests.page(account, states, limit, after)
        )

    async def charges(self, account: str) -> list[Charge]:
        return await self._store.read(lambda store: list(store.requests.charges(account)))

    async def credits(self, account: str, estimate: float | None) -> AccountCredits:
        limits = self.limits
        return await self._store.read(
            lambda store: store.requests.credits(account, estimate, limits)
        )

    async def unknowns(self, account: str) -> list[Record]:
        return await self._store.read(lambda store: store.requests.unknowns(account))

    async def record_check(
        self, record: Record, findings: str, next_in: float | None, reading: ListReading
    ) -> Record:
        return await self._store.write(
            lambda store: store.requests.record_check(record, findings, next_in, reading)
        )

    async def recover(self) -> list[Record]:
        return await self._store.write(_recover)

    async def aclose(self) -> None:
        await self._store.aclose()


class ThreadedCoordination:
    """`Coordination` on the same store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def lead(self, account: str, role: Role, seconds: float) -> bool:
        return await self._store.write(
            lambda store: store.coordination.lead(account, role, seconds), wakes=False
        )

    async def leave(self, account: str, role: Role) -> None:
        await self._store.write(lambda store: store.coordination.leave(account, role), wakes=False)

    async def live(self, account: str) -> list[Record]:
        return await self._store.read(lambda store: store.coordination.live(account))

    async def records(self, submission_ids: Collection[str]) -> list[Record]:
        return await self._store.read(lambda store: store.coordination.records(submission_ids))

    async def expect(self, submission_ids: Collection[str], seconds: float) -> None:
        await self._store.write(lambda store: store.coordination.expect(submission_ids, seconds))

    async def polled(
        self, submission_ids: Collection[str], last_error: WanError | None = None
    ) -> None:
        await self._store.write(lambda store: store.coordination.polled(submission_ids, last_error))

    async def try_acquire(self, account: str, rule: Rule) -> Acquired:
        return await self._store.write(
            lambda store: store.coordination.try_acquire(account, rule), wakes=False
        )

    async def adjust_limit(self, account: str, change: Callable[[Limit], Limit]) -> None:
        await self._store.write(
            lambda store: store.coordination.adjust_limit(account, change), wakes=False
        )

    async def unsaved(self, account: str) -> list[Record]:
        return await self._store.read(lambda store: store.coordination.unsaved(account))

    async def saved(self, submission_id: str, path: str, sha256: str, size: int) -> bool:
        return await self._store.write(
            lambda store: store.coordination.saved(submission_id, path, sha256, size)
        )

    async def uninspected(self, account: str) -> list[Record]:
        return await self._store.read(lambda store: store.coordination.uninspected(account))

    async def inspected(self, submission_id: str, inspection: Sequence[Difference]) -> None:
        await self._store.write(
            lambda store: store.coordination.inspected(submission_id, inspection)
        )

    async def not_saved(self, submission_id: str, why: str) -> None:
        await self._store.write(lambda store: store.coordination.not_saved(submission_id, why))

    async def not_saved_yet(self, submission_id: str, why: str) -> None:
        await self._store.write(lambda store: store.coordination.not_saved_yet(submission_id, why))

    async def durations(self, account: str) -> list[float]:
        return await self._store.read(lambda store: store.coordination.durations(account))

    @property
    def own_changes(self) -> int:
        return self._store.own_changes

    async def next_change(self, since: int) -> None:
        await self._store.next_change(since)

    async def changed_since(self, revision: int) -> int:
        others = await self._store.read(lambda store: store.coordination.revision())
        return self._store.own_changes << 32 | others
