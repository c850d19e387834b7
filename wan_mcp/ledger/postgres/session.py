"""One connection to the ledger in PostgreSQL, which is opened again when it is lost."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from time import monotonic, sleep
from typing import Any, NoReturn, TypeVar

import psycopg
from psycopg.errors import Diagnostic
from psycopg.pq import TransactionStatus

from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.contract import Fenced, LedgerChanged, LedgerUnavailable
from wan_mcp.ledger.postgres.change import Change
from wan_mcp.ledger.postgres.connection import (
    BUSY_SECONDS,
    IMPATIENT_SECONDS,
    Link,
    NoAnswer,
    Part,
    Rows,
    converted,
    only_if_found,
)
from wan_mcp.ledger.postgres.liveness import ALIVE, Lease, ServerClock
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.session import KeptJob, Read, Values
from wan_mcp.ledger.sqlite.kept_jobs import KeptJobs
from wan_mcp.ledger.statements.columns import column
from wan_mcp.ledger.statements.dialects import Statement, both
from wan_mcp.models import Job

T = TypeVar("T")

LOOK_SECONDS = 3.0
"""How long to try to find out whether a change was committed if its answer is lost (ours)."""
TRY_AGAIN_SECONDS = 0.05
"""How long to wait after each failed connection during that time (ours)."""

_SHARED = ""
"""The row of `wallets` that is locked for what processes share while they wait."""
_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"
_LOCK = both("SELECT 1 FROM wallets WHERE account = :account FOR UPDATE")
# Taken after the lock of the wallet, so that nobody who holds one of these waits for that. They are
# taken only if the wallet has its row: its first transaction locks in the order of all others.
_LOCK_LIMITS = both("""
SELECT pg_advisory_xact_lock(hashtextextended(name, 0))
FROM unnest(CAST(:names AS TEXT[])) AS limits (name)
WHERE EXISTS (SELECT 1 FROM wallets WHERE account = :account)
""")
_INSERT_WALLET = b"INSERT INTO wallets (account) VALUES (%(account)s) ON CONFLICT DO NOTHING"
_COMMIT = b"COMMIT"
_NEWS = both("UPDATE owners SET news = news + 1 WHERE name = :me")
_ROLLBACK = b"ROLLBACK"
# The changes of this process are counted elsewhere. A sum: every process counts in its own row.
_REVISION = b"SELECT COALESCE(SUM(news), 0) FROM owners WHERE name <> %(me)s"
_READ_ONLY = "25006"
_NOT_REPLICATED = "01000"
"""The SQLSTATE of the warning that a commit is here and on no standby yet (documented)."""


class PostgresSession:
    """One connection, used by one thread.

    Args:
        connect: opens a connection.
        lease: the name of this process, and whether it can be relied on.
        announce: informs the other processes soon that there is something new.
        kept: where paid jobs are kept that cannot be written; None for nowhere.
        now: gives the date and time, UTC; None for the server's clock.
    """

    def __init__(
        self,
        connect: Callable[[], Link],
        lease: Lease,
        announce: Callable[[], None],
        kept: KeptJobs | None,
        now: Callable[[], datetime] | None,
    ) -> None:
        self._acted_as = lease.name
        self._connect = connect
        self._lease = lease
        self._announce = announce
        self._kept = kept
        self._now = lease.clock.now if now is None else now
        self._change: Change | None = None
        self._dead: set[str] = set()
        self._is_replicated = True
        self._link = self._opened()
        try:
            [(key,)] = self.query(sql.coordination.SECRET, {})
        except BaseException:
            self._link.close()
            raise
        self._ledger = hashlib.sha256(b"ledger " + bytes(key)).hexdigest()[:16]

    @property
    def me(self) -> str:
        # It may change at any moment, but not within a transaction.
        return self._lease.name if self._change is None else self._acted_as

    def close(self) -> None:
        """Close the connection. What is not committed is undone."""
        self._link.close()

    def now(self) -> datetime:
        return self._now()

    def query(self, statement: Statement, values: Values) -> Sequence[Sequence[Any]]:
        if self._change is None:
            return self._read((converted(statement).text, values))
        known = self._change.known.get(_key((statement, values)))
        if known is not None:
            return known
        return self._send(self._change, (self._link.prepared(statement), values))[-1]

    def execute(self, statement: Statement, values: Values) -> int:
        assert self._change is not None, "a change outside of a transaction"
        text, changes_jobs = converted(statement)
        self._send(self._change)
        count = self._link.change(text, values)
        if count:
            self._change.note(values, changes_jobs=changes_jobs)
        return count

    def save(self, statement: Statement, values: Values, fenced: str | None) -> None:
        assert self._change is not None, "a change outside of a transaction"
        if self._change.fence is not None:
            self._send(self._change)  # so that it is clear which one finds no record
        sent = statement if fenced is None else only_if_found(statement)
        self._change.later.append((self._link.prepared(sent), values))
        self._change.fence = fenced
        self._change.note(values, changes_jobs=converted(statement).changes_jobs)

    def ahead(self, reads: Iterable[Read]) -> None:
        assert self._change is not None, "there is only one question outside of a transaction"
        asked = {_key(read): read for read in reads}
        answers = self._send(self._change, *_parts(self._link, asked.values()))
        self._change.known.update(zip(asked, answers, strict=True))

    @contextmanager
    def transaction(
        self,
        account: str | None = None,
        *,
        patient: bool = True,
        ahead: Iterable[Read] = (),
        across: Sequence[str] = (),
    ) -> Iterator[None]:
        self._acted_as = self._lease.name
        reads, name = list(ahead), _SHARED if account is None else account
        patience = BUSY_SECONDS if patient else IMPATIENT_SECONDS
        answers = self._repeated(lambda link: self._lock(link, name, patience, reads, across))
        self._change = Change(account, known=dict(zip(map(_key, reads), answers, strict=True)))
        try:
            yield
        except BaseException:
            self._roll_back()
            raise
        finally:
            change, self._change = self._change, None
        self._commit(change)

    def is_dead(self, owner: str) -> bool:
        if owner not in self._dead and owner not in self._alive():
            self._dead.add(owner)
        return owner in self._dead

    def revision(self) -> int:
        return int(self._read((_REVISION, {"me": self._lease.name}))[0][0])

    def change(self) -> LedgerChanged | None:
        return None  # nobody can move a database away under a connection to it

    def before_payment(self) -> None:
        self._require_trust()

    def commit_point(self, submission_id: str) -> None:
        self._require_trust()

    def keep(self, record: Record, job: Job) -> bool:
        return self._kept is not None and self._kept.keep(record, job, self._ledger)

    def kept(self) -> Iterable[KeptJob]:
        return () if self._kept is None else self._kept.all(self._ledger)

    def erase(self, record: Record) -> bool:
        if self._kept is not None:
            self._kept.remove(record)
        return False  # earlier versions of a row lie in the database's files until it removes them

    def _require_trust(self) -> None:
        """Raises LedgerUnavailable if others may have taken this process for dead."""
        if not self._lease.is_trusted(self._acted_as):
            raise LedgerUnavailable(
                "This server has not reached the ledger's database for some seconds, so another "
                "one may have taken over what it was to send. Nothing was sent and nothing was "
                "charged.",
                transient=True,
            )

    # How the connection is used.

    def _opened(self) -> Link:
        link = self._connect()
        link.add_notice_handler(self._note_warning)
        return link

    def _usable(self) -> Link:
        if self._link.closed:
            self._link = self._opened()
        return self._link

    def _send(self, change: Change, *parts: Part) -> list[Rows]:
        """Run statements in a transaction, after those that were to be sent with them.

        Returns:
            The rows of each statement in `parts`, without those of the statements before them.
        """
        later, fence = change.later, change.fence
        change.later, change.fence = [], None
        try:
            return self._link.run(*later, *parts)[len(later) :] if later or parts else []
        except psycopg.errors.DivisionByZero:
            raise Fenced(fence or "") from None

    def _read(self, part: Part) -> Rows:
        """Run a statement that changes nothing, outside of a transaction."""
        return self._repeated(lambda link: link.run(*link.limits(), part)[-1])

    def _alive(self) -> frozenset[str]:
        """The processes that are alive. A transaction asks for them once."""
        change = self._change
        if change is None:
            return _names(self._read((ALIVE, None)))
        if change.alive is None:
            change.alive = _names(self._send(change, (ALIVE, None))[-1])
        return change.alive

    def _repeated(self, work: Callable[[Link], T]) -> T:
        """Do work that may be done twice; again on a new connection if the old one was lost."""
        try:
            return work(self._usable())
        except psycopg.Error as error:
            self._give_up(error)
            if not self._link.closed or isinstance(error, NoAnswer):
                raise
        try:
            return work(self._usable())
        except psycopg.Error as error:
            self._give_up(error)
            raise

    def _lock(
        self,
        link: Link,
        account: str,
        patience: float,
        ahead: Sequence[Read] = (),
        across: Sequence[str] = (),
    ) -> list[Rows]:
        """Begin a transaction that no other one for the same account overlaps.

        Returns:
            The rows of each statement in `ahead`, asked behind the lock.
        """
        limits = link.limits(patience)  # first, because they also limit what is prepared
        known = {"account": account}
        limited = (_LOCK_LIMITS, {"names": list(across), **known})
        others = [limited] if across else []
        # The locks come first, and the clock after them: other processes may have been waited for.
        locks = _parts(link, [(_LOCK, known), *others])
        locking = *locks, (ServerClock.TEXT, None), *_parts(link, ahead)
        found = link.run((_BEGIN, None), *limits, *locking)[-len(locking) :]
        if not found[0]:  # nobody has used this account yet
            found = link.run((_INSERT_WALLET, known), *locking)[-len(locking) :]
        clock, *asked = found[len(locks) :]
        self._lease.clock.set(clock[0][0])
        return asked

    def _roll_back(self) -> None:
        """End the transaction, if there is one. Close a connection that cannot do that."""
        status = self._link.info.transaction_status
        if self._link.closed or status is TransactionStatus.IDLE:
            return
        if status is TransactionStatus.ACTIVE:  # its last answer has not come
            self._link.close()
            return
        try:
            self._link.run((_ROLLBACK, None))
        except psycopg.Error:
            self._link.close()

    def _give_up(self, error: psycopg.Error) -> None:
        self._roll_back()
        if error.sqlstate == _READ_ONLY:  # it has become a standby: another server is the primary
            self._link.close()

    def _commit(self, change: Change) -> None:
        """Commit. Raises if the change is on no disk, or not on a standby that must have it."""
        self._is_replicated = True
        try:
            news = (_NEWS, {"me": self._acted_as})
            self._send(change, *_parts(self._link, [news] * change.writes), (_COMMIT, None))
        except Fenced:
            self._roll_back()
            raise
        except psycopg.Error:
            # A COMMIT that is canceled while the server logs it has been carried out (observed).
            is_over = self._link.info.transaction_status is TransactionStatus.IDLE
            self._roll_back()
            if not change.writes:
                return  # what was read was right while the account was locked
            if not self._link.closed and not is_over:
                raise
            self._require_committed(change)
        if not self._is_replicated:
            self._doubt(change)
        if change.is_news:
            self._announce()

    def _require_committed(self, change: Change) -> None:
        """A COMMIT has no answer, or an error: look, and raise LedgerUnavailable if it failed."""
        try:
            found = self._is_committed(change)
        except LedgerUnavailable:
            found = None
        if found is None:
            self._doubt(change)
        if not found:
            raise LedgerUnavailable(
                "The ledger's database was lost before it had stored the change.", transient=True
            )

    def _doubt(self, change: Change) -> NoReturn:
        if change.creates:
            # The caller does not get the new record. If it is there, nobody may wait for it long.
            self._lease.give_up()
            self._announce()
        raise LedgerUnavailable(
            "The ledger's database has not confirmed that the change is stored.", transient=True
        )

    def _is_committed(self, change: Change) -> bool | None:
        """Whether the records are as they were written; None if that cannot be known in time.

        A COMMIT whose answer was lost may still be under way. While it is, it holds the account's
        lock, so whoever gets the lock sees how it ended.
        """
        until = monotonic() + LOOK_SECONDS
        while change.account is not None and change.jobs and (left := until - monotonic()) > 0:
            try:
                self._lock(self._usable(), change.account, left)
                return all(self._is_written(*each) for each in change.jobs.items())
            except psycopg.Error:
                sleep(TRY_AGAIN_SECONDS)
            finally:
                self._roll_back()
        return None

    def _is_written(self, submission_id: str, fields: Values) -> bool:
        equal = "".join(f" AND {column(name)} IS NOT DISTINCT FROM %({name})s" for name in fields)
        text = f"SELECT 1 FROM jobs WHERE handle = %(id)s{equal}".encode()
        return bool(self._link.run((text, {"id": submission_id, **fields}))[-1])

    def _note_warning(self, warning: Diagnostic) -> None:
        if warning.sqlstate == _NOT_REPLICATED:
            self._is_replicated = False


def _parts(link: Link, reads: Iterable[Read]) -> list[Part]:
    return [(link.prepared(statement), values) for statement, values in reads]


def _key(read: Read) -> object:
    """A value that is the same for equal reads."""
    statement, values = read
    return statement.postgres, tuple(sorted(values.items()))


def _names(found: Rows) -> frozenset[str]:
    return frozenset(name for (name,) in found)
