"""The ledger in one SQLite file, which any number of processes on a machine share."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wan_mcp.ledger.contract import Fenced, LedgerChanged
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.session import KeptJob, Read, Session, Values
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite import connection as database
from wan_mcp.ledger.sqlite.erasure import erase_remains
from wan_mcp.ledger.sqlite.folder import UnsuitableFolder, private_file
from wan_mcp.ledger.sqlite.guard import Guard
from wan_mcp.ledger.sqlite.identity import inode_of
from wan_mcp.ledger.sqlite.liveness import ProcessLock
from wan_mcp.ledger.statements.dialects import Statement
from wan_mcp.ledger.threaded.ledger import ThreadedLedger
from wan_mcp.models import Job

FILE = "ledger.db"
OWNERS = "owners"

Connect = Callable[[Path], sqlite3.Connection]
Now = Callable[[], datetime]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SQLiteLedger(ThreadedLedger):
    """`Ledger` on a file.

    Args:
        folder: contains nothing but the ledger. It is created if it is missing, and the rights of
            other users to it are removed.
        limits: what the operator allows.
        now: gives the date and time, UTC.
        poll_seconds: how often `settled` looks for changes by other processes.
        connect: opens the file for writing.
        filesystem: a type of file system that the operator declares to be local.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limits: SpendingLimits | None = None,
        now: Now = _utc_now,
        poll_seconds: float = 0.2,
        connect: Connect = database.connect,
        filesystem: str | None = None,
    ) -> None:
        engine = SQLiteEngine(folder, now, connect, filesystem)
        super().__init__(engine, limits or SpendingLimits(), poll_seconds)


class SQLiteEngine:
    """Opens the file, brings it to this version, and gives this process a name."""

    not_writable: tuple[type[Exception], ...] = (
        OSError,
        sqlite3.OperationalError,
        UnsuitableFolder,
        LedgerChanged,
    )

    def __init__(
        self, folder: Path, now: Now, connect: Connect, filesystem: str | None = None
    ) -> None:
        self._folder = folder
        self._file = folder / FILE
        self._now = now
        self._connect = connect
        self._filesystem = filesystem

    def open(self, opening: ExitStack) -> Session:
        guard = self._guard()
        guard.before_opening()
        file = private_file(self._folder, FILE, self._filesystem)
        store = inode_of(file)
        connection = self._connect(file)
        opening.callback(connection.close)
        database.migrate(connection)
        guard.opened(connection)
        owner = ProcessLock(self._folder / OWNERS, store)
        opening.callback(owner.release)
        owner.sweep()
        return SQLiteSession(connection, file, self._now, guard, owner)

    def open_to_read(self, opening: ExitStack, *, any_version: bool = False) -> Session:
        guard = self._guard()
        guard.before_reading()
        connection = database.read_only(self._file, any_version=any_version)
        opening.callback(connection.close)
        return SQLiteSession(connection, self._file, self._now, guard, None)

    def _guard(self) -> Guard:
        return Guard(self._folder, self._file, self._folder / OWNERS)

    def as_ledger_errors(self) -> AbstractContextManager[None]:
        return database.as_ledger_errors(self._file)


class SQLiteSession:
    """One connection to the file.

    Args:
        connection: open on the file, and migrated.
        file: the database.
        guard: watches over the file.
        owner: the lock of this process; None for a session that only reads.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        file: Path,
        now: Now,
        guard: Guard,
        owner: ProcessLock | None,
    ) -> None:
        self.me = "" if owner is None else owner.name
        self._guard = guard
        self._connection = connection
        self._file = file
        self._now = now
        self._owner = owner

    def now(self) -> datetime:
        return self._now()

    def query(self, statement: Statement, values: Values) -> Sequence[Sequence[Any]]:
        return self._connection.execute(statement.sqlite, values).fetchall()

    def execute(self, statement: Statement, values: Values) -> int:
        return self._connection.execute(statement.sqlite, values).rowcount

    def save(self, statement: Statement, values: Values, fenced: str | None) -> None:
        if not self.execute(statement, values) and fenced is not None:
            raise Fenced(fenced)

    def ahead(self, reads: Iterable[Read]) -> None:
        """Do nothing: a read needs no round trip to a server."""

    @contextmanager
    def transaction(
        self,
        account: str | None = None,
        *,
        patient: bool = True,
        ahead: Iterable[Read] = (),
        across: Sequence[str] = (),
    ) -> Iterator[None]:
        self._guard.before_writing()
        # SQLite has one writer at a time in the whole file, whatever the account and the limits.
        with database.patience(self._connection, patient), database.transaction(self._connection):
            yield

    def is_dead(self, owner: str) -> bool:
        return self._owner is not None and self._owner.dead(owner)

    def revision(self) -> int:
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def change(self) -> LedgerChanged | None:
        return self._guard.change()

    def before_payment(self) -> None:
        self._guard.before_payment()

    def commit_point(self, submission_id: str) -> None:
        self._guard.commit_point(submission_id, self._now())

    def keep(self, record: Record, job: Job) -> bool:
        return self._guard.keep(record, job)

    def kept(self) -> Iterable[KeptJob]:
        return self._guard.kept() if self._owner is not None else ()

    def erase(self, record: Record) -> bool:
        self._guard.before_writing()
        self._guard.remove_kept(record)
        return erase_remains(self._connection, self._file)
