"""A file whose ledger was moved to a database: from then on no server can buy anything with it.

Two things stop every version, even one that has the file open: the version of the format is higher
than any program knows, and a trigger refuses new records. What is in the file stays readable.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.contract import LedgerUnavailable, NothingToRead
from wan_mcp.ledger.sqlite.connection import connect, format_of, transaction
from wan_mcp.ledger.sqlite.liveness import anyone_lives
from wan_mcp.ledger.sqlite.schema import MIGRATIONS, MOVED

_TABLE = "CREATE TABLE moved (target TEXT NOT NULL)"
_TRIGGER = (
    "CREATE TRIGGER moved BEFORE INSERT ON jobs "
    "BEGIN SELECT RAISE(ABORT, 'this ledger was moved'); END"
)


class Contents(NamedTuple):
    """The contents of a table.

    Attributes:
        rows: each with its values in the order of the columns, and readable only once.
    """

    columns: tuple[str, ...]
    rows: Iterator[Sequence[Any]]


class MovedFile:
    """The file of a ledger that is being moved.

    Args:
        connection: open on it for writing.
        owners: the folder with the lock files of its servers.
    """

    def __init__(self, connection: sqlite3.Connection, owners: Path) -> None:
        connection.text_factory = _text
        self._connection = connection
        self._owners = owners

    @property
    def secret(self) -> bytes:
        """The secret on which the names of its accounts depend."""
        (key,) = self._connection.execute(sql.coordination.SECRET.sqlite).fetchone()
        return bytes(key)

    @property
    def target(self) -> str | None:
        """The database that a move was begun to; None if no move was begun."""
        if format_of(self._connection) != MOVED:
            return None
        return str(self._connection.execute("SELECT target FROM moved").fetchone()[0])

    def mark(self, target: str) -> None:
        """Prevent every server from adding anything to it.

        Args:
            target: what identifies the database that the ledger is moved to.

        Raises:
            LedgerUnavailable: a server is running on it.
            sqlite3.Error: the file cannot be written.
        """
        with transaction(self._connection):
            if anyone_lives(self._owners):
                raise LedgerUnavailable(
                    "A server is running on the ledger that is to be moved.",
                    next_step="Close every program that uses wan-mcp on it, and try again.",
                )
            self._remove_mark()
            self._connection.execute(_TABLE)
            self._connection.execute("INSERT INTO moved VALUES (?)", (target,))
            self._connection.execute(_TRIGGER)
            self._connection.execute(f"PRAGMA user_version = {MOVED}")

    def unmark(self) -> None:
        """Let servers use it again: nothing of it was stored elsewhere."""
        with transaction(self._connection):
            self._remove_mark()
            self._connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _remove_mark(self) -> None:
        self._connection.execute("DROP TRIGGER IF EXISTS moved")
        self._connection.execute("DROP TABLE IF EXISTS moved")

    def size(self) -> tuple[int, int]:
        """How many requests it holds, and of how many accounts."""
        sizes = "SELECT COUNT(*), COUNT(DISTINCT account) FROM jobs"
        requests, accounts = self._connection.execute(sizes).fetchone()
        return int(requests), int(accounts)

    def own_requests(self) -> list[str]:
        """The ids of all requests that were made with it, oldest first."""
        made = "SELECT handle FROM jobs WHERE digest IS NOT NULL ORDER BY number"
        return [str(handle) for (handle,) in self._connection.execute(made)]

    def contents(self, table: str, without: Sequence[str] = ()) -> Contents:
        """All rows of a table.

        Args:
            without: columns to leave out.
        """
        named = self._connection.execute(f"SELECT name FROM pragma_table_info('{table}')")
        columns = tuple(name for (name,) in named if name not in without)
        rows = self._connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1")
        return Contents(columns, map(tuple, rows))


def is_moved(file: Path) -> bool:
    """Whether a move of the ledger in that file was begun.

    Raises:
        NothingToRead: there is no ledger.
        sqlite3.Error: the file cannot be read.
    """
    if not file.exists() or not file.stat().st_size:
        raise NothingToRead("There is no ledger in that folder.")
    connection = connect(file, writable=False)
    try:
        return format_of(connection) == MOVED
    finally:
        connection.close()


def _text(stored: bytes) -> str:
    """The text as PostgreSQL can store it: valid UTF-8 without NUL."""
    return stored.decode(errors="replace").replace("\0", "")
