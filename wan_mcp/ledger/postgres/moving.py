"""Moves the ledger of one computer into PostgreSQL, completely or not at all.

First the file is marked, so that no server buys anything with it any more; then all rows are copied
in one transaction, together with the file's secret. So the database has the secret of the file if
and only if it has its records, and the move can be repeated after an interruption at any moment.
"""

import hashlib
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import Connection

from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.postgres.migrations import ALIVE, alone, require_current, row
from wan_mcp.ledger.sqlite import history
from wan_mcp.ledger.sqlite.connection import connect
from wan_mcp.ledger.sqlite.engine import FILE, OWNERS
from wan_mcp.ledger.sqlite.moved import MovedFile, is_moved
from wan_mcp.ledger.sqlite.places import FOLDER

LEASE = ("poller", "poller_until")
"""The columns of the table `keys` that are about running servers."""
COUNTED = ("counted_as",)
"""The column of the table `jobs` that is about `totals`: the database adds up by itself."""


class Move(NamedTuple):
    """The result of a move.

    Attributes:
        records: how many requests the file has.
        accounts: of how many accounts.
        was_done: whether an earlier move had done it all.
    """

    records: int
    accounts: int
    was_done: bool


def move(
    data: Path,
    connection: Connection[Any],
    now: Callable[[], datetime],
    filesystem: str | None = None,
    *,
    again: bool = False,
    note: Callable[[Move], object] = bool,
) -> Move:
    """Move the ledger of a data folder into a database that has a ledger without records.

    Args:
        data: the data folder.
        connection: to the database, in autocommit.
        now: gives the date, UTC.
        filesystem: a type of file system that the operator declares to be local.
        again: whether the operator confirms that the database of an earlier move is out of use.
        note: called in the transaction that stores everything. If it raises, nothing is stored.

    Raises:
        LedgerUnavailable: it cannot be moved, and is as it was; or it is not known whether it was
            moved, and then it stays marked. The text says which.
        sqlite3.Error, psycopg.Error: it cannot be moved, and is as it was.
    """
    require_current(connection)
    file = data / FOLDER / FILE
    if not is_moved(file):
        # As a server does: take in the paid jobs beside the folder, and settle those of the dead.
        history.change(data, now, filesystem, lambda _: None)
    with closing(connect(file)) as opened:
        source = MovedFile(opened, data / FOLDER / OWNERS)
        return _Moving(source, connection, note).run(again=again)


class _Moving:
    """One attempt to move a file's ledger."""

    def __init__(
        self, source: MovedFile, connection: Connection[Any], note: Callable[[Move], object]
    ) -> None:
        self._source = source
        self._connection = connection
        self._note = note

    def run(self, *, again: bool) -> Move:
        """Move it, or find out that it was moved."""
        own = self._secret()
        if own == self._source.secret:
            return self._was_done()
        self._require_empty()
        target = hashlib.sha256(b"ledger " + own).hexdigest()
        begun = self._source.target
        if begun not in (None, target) and not again:
            raise LedgerUnavailable(
                "A move of this ledger to another database was begun before, and may have been "
                "finished there. The same job could be paid from both.",
                next_step="Move it to that database. If that one is gone for good, add --again.",
            )
        self._source.mark(target)
        self._copy_all(begun)
        return self._result(was_done=False)

    def _copy_all(self, begun: str | None) -> None:
        stored = False
        try:
            with alone(self._connection):
                self._lock()
                self._require_empty()
                self._copy()
                self._note(self._result(was_done=False))
                stored = True
        except psycopg.Error as exc:
            if stored:
                raise LedgerUnavailable(
                    "The connection to the database ended before it said whether everything is "
                    "stored. Nothing is lost, and nobody can pay twice.",
                    next_step="Repeat the command: it finds out.",
                ) from exc
            raise
        finally:
            if not stored and begun is None:
                self._source.unmark()

    def _lock(self) -> None:
        """Let no server read the secret or write anything before this transaction ends."""
        self._connection.execute("LOCK TABLE secret IN ACCESS EXCLUSIVE MODE")
        self._connection.execute("LOCK TABLE jobs, keys, requests, wallets IN EXCLUSIVE MODE")

    def _require_empty(self) -> None:
        if row(self._connection, "SELECT 1 FROM jobs LIMIT 1") is not None:
            raise LedgerUnavailable(
                "The database has jobs of another ledger. Two ledgers cannot become one, because "
                "each names its accounts in its own way.",
                next_step="Use a database without jobs.",
            )
        if row(self._connection, ALIVE) is not None:
            raise LedgerUnavailable(
                "A server is running on the database.",
                next_step="Stop all servers on it, and try again.",
            )

    def _copy(self) -> None:
        self._connection.execute("DELETE FROM keys")
        self._connection.execute("DELETE FROM requests")
        self._connection.execute("UPDATE secret SET account_key = %s", [self._source.secret])
        self._copy_table("jobs", without=COUNTED)
        self._copy_table("keys", without=LEASE)
        self._copy_table("requests")
        self._connection.execute(
            "INSERT INTO wallets SELECT DISTINCT COALESCE(wallet, account) FROM jobs "
            "ON CONFLICT DO NOTHING"
        )
        self._connection.execute(
            "INSERT INTO workspaces SELECT DISTINCT wallet, account FROM jobs "
            "WHERE wallet IS NOT NULL"
        )
        # The numbers are those of the file, and the next record gets the next one.
        self._connection.execute(
            "SELECT setval(pg_get_serial_sequence('jobs', 'number'), MAX(number)) FROM jobs"
        )

    def _copy_table(self, table: str, without: tuple[str, ...] = ()) -> None:
        columns, rows = self._source.contents(table, without)
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()) as copy,
        ):
            for values in rows:
                copy.write_row(values)

    def _was_done(self) -> Move:
        """The result of an earlier move, once it is certain that nothing was added since."""
        if self._source.target is None:  # the file was put back from a backup
            self._source.mark("")
        stored = {
            handle for (handle,) in self._connection.execute("SELECT handle FROM jobs").fetchall()
        }
        if missing := [id for id in self._source.own_requests() if id not in stored]:
            raise LedgerUnavailable(
                f"The ledger was moved to this database before, and {len(missing)} requests that "
                f"are in the file are not in the database (the first is {missing[0]}): the file "
                "was used after the move, or the database was put back from an old backup.",
                next_step="Restore the newest backup of the database, or look at these jobs with "
                "`wan-mcp jobs`. Nobody can pay with the file any more.",
            )
        return self._result(was_done=True)

    def _secret(self) -> bytes:
        found = row(self._connection, sql.coordination.SECRET.postgres)
        if found is None:
            raise LedgerUnavailable("The ledger in the database is damaged: it has no secret.")
        return bytes(found[0])

    def _result(self, *, was_done: bool) -> Move:
        return Move(*self._source.size(), was_done)
