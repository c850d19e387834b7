"""The SQLite file: opened, brought to this version, and its failures put into our words."""

import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from wan_mcp.jobs.ledger import LedgerUnavailable

BUSY_SECONDS = 5.0
"""How long to wait for another process that writes; each write takes about a millisecond."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE jobs (
            number            INTEGER PRIMARY KEY,
            handle            TEXT NOT NULL UNIQUE,
            account           TEXT NOT NULL,
            state             TEXT NOT NULL,
            job_id            TEXT,
            digest            TEXT,
            exact             TEXT,
            arguments         TEXT NOT NULL,
            seed              INTEGER,
            seed_planted      INTEGER NOT NULL DEFAULT 0,
            estimate          REAL,
            credit_cost       REAL,
            credits_remaining REAL,
            vendor_status     TEXT NOT NULL DEFAULT '',
            video_url         TEXT,
            expires_at        REAL,
            error             TEXT,
            note              TEXT,
            created_at        REAL NOT NULL,
            sent_at           REAL,
            accepted_at       REAL,
            ended_at          REAL,
            owner             TEXT NOT NULL,
            lease_owner       TEXT,
            lease_until       REAL,
            checks            INTEGER NOT NULL DEFAULT 0,
            next_check_at     REAL,
            findings          TEXT
        )
        """,
        # The last word against paying twice: even a wrong claim cannot insert a second live row.
        """
        CREATE UNIQUE INDEX live ON jobs (account, digest)
        WHERE state IN ('intent', 'sending', 'accepted', 'unknown')
        """,
        "CREATE INDEX unsettled ON jobs (owner) WHERE state IN ('intent', 'sending')",
        "CREATE INDEX ended ON jobs (account, exact) WHERE state = 'completed'",
        "CREATE INDEX by_job_id ON jobs (account, job_id)",
        "CREATE INDEX by_age ON jobs (account, created_at)",
        "CREATE TABLE secret (account_key BLOB NOT NULL)",
    ),
)
"""One entry for each version of the schema: the statements that lead to it from the one before."""

_WORDS = {
    sqlite3.SQLITE_BUSY: "is held by another process for too long",
    sqlite3.SQLITE_LOCKED: "is held by another process for too long",
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
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def connect(path: Path, *, writable: bool = True, busy_seconds: float = BUSY_SECONDS) -> (
    sqlite3.Connection
):
    """A connection that loses no committed change, even when the power fails.

    Raises:
        sqlite3.Error: the file cannot be used.
    """
    # A file that nobody has open (no -wal) in a folder we cannot write to: SQLite reads it only
    # when told that it will not change, because it cannot make the shared memory beside it.
    still = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    mode = "?mode=rw" if writable else f"?mode=ro{still}"
    connection = sqlite3.connect(
        path.absolute().as_uri() + mode,
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    if writable:
        _make_durable(connection, busy_seconds)
    return connection


def migrate(
    connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Bring the file to this program's version, in one transaction.

    Raises:
        LedgerUnavailable: the file comes from a newer version; it is left as it is.
        sqlite3.Error: the file cannot be used.
    """
    if _version(connection) == len(migrations):
        return
    with transaction(connection):
        # Asked again: another process may have done it while we waited for the lock.
        for number, statements in enumerate(migrations[_version(connection) :], 1):
            for statement in statements:
                connection.execute(statement)
            _remember_secret(connection) if number == 1 else None
        connection.execute(f"PRAGMA user_version = {len(migrations)}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, and alone among the writers of all processes from the first line on."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
