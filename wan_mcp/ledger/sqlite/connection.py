"""Opens the SQLite file, brings it to this version, and turns its errors into LedgerUnavailable."""

import logging
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from wan_mcp.errors import NO_FILES_LEFT, files_are_used_up, shows_no_files_left
from wan_mcp.ledger.contract import LedgerUnavailable, NothingToRead
from wan_mcp.ledger.sqlite.schema import MIGRATIONS, MOVED

BUSY_SECONDS = 5.0
"""How long to wait for another process that writes (ours). One write takes about a millisecond."""
IMPATIENT_SECONDS = 0.3
"""How long a change that concerns no money waits for another process (ours)."""

_HELD = "has been held by another process for too long"
_REASONS = {
    sqlite3.SQLITE_BUSY: _HELD,
    sqlite3.SQLITE_LOCKED: _HELD,
    sqlite3.SQLITE_PROTOCOL: _HELD,
    sqlite3.SQLITE_INTERRUPT: "was interrupted",
    sqlite3.SQLITE_NOMEM: "cannot be used: there is no memory left",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full",
    sqlite3.SQLITE_READONLY: "is read-only",
    sqlite3.SQLITE_PERM: "may not be used by this user",
    sqlite3.SQLITE_AUTH: "may not be used by this user",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk reports an error",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is damaged: it is not a database",
    sqlite3.SQLITE_ERROR: "is not one that this program can read",
}
_TRANSIENT = {
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL),
    *(sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_NOMEM),
}
_WAS_MOVED = "The ledger in this folder was moved to a PostgreSQL database, so it is used no more."
_USE_THE_OTHER = (
    "Ask the user to set WAN_MCP_LEDGER_URL to that database for every assistant. If the move was "
    "interrupted: to finish it first, with `wan-mcp admin move-ledger`."
)
_WITHOUT_HANDLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}
"""The errors that SQLite reports if it gets no file descriptor, and in other cases, too."""

logger = logging.getLogger(__name__)


def connect(
    path: Path, *, writable: bool = True, busy_seconds: float = BUSY_SECONDS
) -> sqlite3.Connection:
    """A connection that loses no committed change, even when the power fails.

    Args:
        writable: whether changes are wanted too.
        busy_seconds: how long to wait for a lock that another process holds.

    Raises:
        sqlite3.Error, LedgerUnavailable: the file cannot be used.
    """
    connection = sqlite3.connect(
        path.absolute().as_uri() + _mode(path, writable=writable),
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
    )
    connection.row_factory = sqlite3.Row
    try:
        if writable:
            _make_durable(connection, busy_seconds)
    except BaseException:
        connection.close()
        raise
    return connection


def read_only(path: Path, *, any_version: bool = False) -> sqlite3.Connection:
    """A connection for one read, where the file or its folder cannot or must not be written.

    Args:
        any_version: also read the format of another version: a newer one only adds to this one,
            and of an older one a copy in memory is brought to this version.

    Raises:
        sqlite3.Error: the file cannot be read.
        NothingToRead: there is no ledger yet.
        LedgerUnavailable: the file has the format of another version.
    """
    if not path.exists():
        raise NothingToRead("There is no ledger yet.")
    connection = connect(path, writable=False)
    try:
        if any_version and format_of(connection) > len(MIGRATIONS):
            return connection
        if _missing(connection, MIGRATIONS):
            if not connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
                raise NothingToRead("The ledger is still empty.")
            if any_version:
                return _migrated_copy(connection)
            raise LedgerUnavailable("The ledger is read-only and has an old format.")
    except BaseException:
        connection.close()
        raise
    return connection


def format_of(connection: sqlite3.Connection) -> int:
    """The version of the format of a ledger."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _migrated_copy(connection: sqlite3.Connection) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:", isolation_level=None)
    copy.row_factory = sqlite3.Row
    with closing(connection):
        connection.backup(copy)
    migrate(copy)
    return copy


def migrate(
    connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Bring the file to this version of the program, in one transaction.

    Raises:
        LedgerUnavailable: the file was written by a newer version. It is left as it is.
        sqlite3.Error: the file cannot be used.
    """
    if not _missing(connection, migrations):
        return
    with transaction(connection):
        # Read again: another process may have done this while we waited for the lock.
        for statements in _missing(connection, migrations):
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute(
            "INSERT INTO secret SELECT ? WHERE NOT EXISTS (SELECT * FROM secret)",
            (secrets.token_bytes(32),),
        )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. No other process can write from the beginning of the block to its end."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def patience(connection: sqlite3.Connection, patient: bool) -> Iterator[None]:
    """Within it, an impatient change gives up early when another process holds the file.

    One thread writes for all callers. A payment must not wait behind a note that can be written
    later or left out.
    """
    if patient:
        yield
        return
    connection.execute(f"PRAGMA busy_timeout = {int(IMPATIENT_SECONDS * 1000)}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")


@contextmanager
def as_ledger_errors(path: Path) -> Iterator[None]:
    """Within it, errors of SQLite and of the disk become LedgerUnavailable."""
    try:
        yield
    except sqlite3.Error as exc:
        # The last byte of an extended code is the plain one. An error without a code is a defect
        # of this program, and must be seen as one.
        code = getattr(exc, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_CONSTRAINT_TRIGGER:  # moved while this process was opening it
            raise LedgerUnavailable(_WAS_MOVED, next_step=_USE_THE_OTHER) from exc
        reason = None if code is None else _REASONS.get(code & 0xFF)
        if code is None or reason is None:
            raise
        if code & 0xFF in _WITHOUT_HANDLE and files_are_used_up():
            raise _unavailable(path, f"cannot be used: {NO_FILES_LEFT}", transient=True) from exc
        raise _unavailable(path, reason, transient=code & 0xFF in _TRANSIENT) from exc
    except OSError as exc:
        used_up = shows_no_files_left(exc)
        reason = NO_FILES_LEFT if used_up else exc.strerror
        raise _unavailable(path, f"cannot be used: {reason}", transient=used_up) from exc


def _mode(path: Path, *, writable: bool) -> str:
    if writable:
        return "?mode=rw"
    # Where we may not write, SQLite cannot create its shared memory. It then reads the file only if
    # we declare that nobody changes it. That is true if no process has it open: then there is no
    # file with the suffix -wal.
    return "?mode=ro" if Path(f"{path}-wal").exists() else "?mode=ro&immutable=1"


def _make_durable(connection: sqlite3.Connection, busy_seconds: float) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # macOS: plain fsync stops at the drive's cache
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    # Apple's SQLite cuts the log back to 32 KiB by itself. For `identity` a log that was cut short
    # was cut from outside, and nothing would be paid any more.
    connection.execute("PRAGMA journal_size_limit = -1")
    until = time.monotonic() + busy_seconds
    while not _is_wal(connection):
        # When two processes open a new file, this switch does not wait for the lock as writes do.
        if time.monotonic() > until:
            raise LedgerUnavailable(
                "The ledger cannot be opened: another program holds it, or its disk cannot be "
                "shared between processes."
            )
        time.sleep(0.005)


def _is_wal(connection: sqlite3.Connection) -> bool:
    try:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode & 0xFF in _TRANSIENT:
            return False
        raise
    return bool(mode == "wal")


def _missing(
    connection: sqlite3.Connection, migrations: Sequence[Sequence[str]]
) -> Sequence[Sequence[str]]:
    version = format_of(connection)
    if version == MOVED:
        raise LedgerUnavailable(_WAS_MOVED, next_step=_USE_THE_OTHER)
    if version > len(migrations):
        raise LedgerUnavailable(
            f"The ledger was written by a newer version of this program (its format is {version}, "
            f"this version knows {len(migrations)}).",
            next_step="Ask the user to update wan-mcp and to restart the client.",
        )
    return migrations[version:]


def _unavailable(path: Path, reason: str, *, transient: bool) -> LedgerUnavailable:
    # The folder is written to the log only: over HTTP the caller may be another person.
    logger.warning("the ledger %s %s", path, reason)
    return LedgerUnavailable(f"The ledger ({path.name}) {reason}.", transient=transient)
