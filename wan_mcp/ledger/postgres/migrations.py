"""Brings the ledger in PostgreSQL to this version while servers of older versions keep running.

First everything new is added, in one transaction: an older program does not use it. What no program
of this version uses any more is removed afterwards, and only when no older server is alive. From
then on an older program refuses to serve, because the ledger names the smallest version that a
program must know (`min_program`).
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.rows import tuple_row

from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.postgres import connection as database
from wan_mcp.ledger.postgres.schema import MIGRATIONS, REMOVALS, VERSION

LOCK = 0x77616E2D6D6370
"""The advisory lock of whoever migrates a ledger in this database (ours)."""
TURN_SECONDS = 300
"""How long to wait for another migration (ours)."""
BUSY_SECONDS = 3
"""How long a step waits for a transaction of a server (ours). All later ones wait behind it."""

Steps = Sequence[Sequence[str]]
Removals = Sequence[tuple[int, Sequence[str]]]
Note = Callable[[dict[str, object]], object]
"""Called in the transaction of each change, with what it does, in numbers."""

ALIVE = "SELECT name FROM owners WHERE alive_until > EXTRACT(EPOCH FROM clock_timestamp())"
"""The names of the servers that are alive."""
_ALIVE_OF_OLDER_VERSIONS = f"SELECT COUNT(*) FROM ({ALIVE} AND version < %s) AS older"


class Format(NamedTuple):
    """The format of a ledger: see the table `schema`."""

    version: int
    min_program: int
    removed: int


class Migration(NamedTuple):
    """The result of a migration.

    Attributes:
        before: the version of the format that the ledger had; 0 if there was none.
        after: the version that it has now.
        older_servers: how many servers of an older version are alive and still need what is to be
            removed; 0 if there is nothing left to remove.
    """

    before: int
    after: int
    older_servers: int


def format_of(connection: Connection[Any]) -> Format | None:
    """The format of the ledger in the connection's schema; None if there is no ledger."""
    if row(connection, "SELECT to_regclass('schema')") == (None,):
        return None
    found = row(connection, "SELECT version, min_program, removed FROM schema")
    return None if found is None else Format(*found)


def require_current(connection: Connection[Any], version: int = VERSION) -> None:
    """Check that a program may serve from this ledger.

    A server calls it before it adds its row to `owners`, and again when that row is committed: then
    either it sees that it has become too old meanwhile, or the migration sees the server.

    Args:
        connection: in autocommit, or in a transaction that has read nothing yet.
        version: the version of the format that the program knows.

    Raises:
        LedgerUnavailable: there is no ledger yet, or its format is too old or too new.
        psycopg.Error: the database cannot be used.
    """
    found = format_of(connection)
    if found is None:
        raise _to_be_migrated("The database has no ledger yet.")
    _require_known(found, version)
    if found.version < version:
        raise _to_be_migrated(
            f"The ledger in the database has format {found.version}, and this version of the "
            f"program needs format {version}."
        )


def connect_to_current(url: str) -> database.Link:
    """A connection to a ledger of this version that waits for each answer only a limited time.

    Raises:
        LedgerUnavailable: as for `connect` and `require_current`.
        psycopg.Error: the database cannot be used.
    """
    link = database.connect(url, patience=database.ANSWER_SECONDS)
    try:
        require_current(link)
    except BaseException:
        link.close()
        raise
    return link


def is_to_be_migrated(connection: Connection[Any]) -> bool:
    """Whether `migrate` has anything to do.

    Raises:
        LedgerUnavailable: the ledger is too new for this program.
        psycopg.Error: the database cannot be used.
    """
    found = format_of(connection)
    if found is None:
        return True
    _require_known(found, VERSION)
    return found.version < VERSION or found.removed < len(REMOVALS)


def migrate(
    connection: Connection[Any],
    migrations: Steps = MIGRATIONS,
    removals: Removals = REMOVALS,
    note: Note = bool,
) -> Migration:
    """Bring the ledger to this version, or create one. Repeating this does no harm.

    Args:
        connection: in autocommit.
        note: records each change, once the tables exist. If it raises, the change is undone.

    Raises:
        LedgerUnavailable: the ledger is too new for this program. It is left as it is.
        psycopg.Error: the database cannot be used, or a server has held a table for too long. A
            step that was begun is undone.
    """
    before = _expand(connection, migrations, note)
    older = sum(_contract(connection, number, removals, note) for number in range(len(removals)))
    return Migration(before, max(before, len(migrations)), older)


def _expand(connection: Connection[Any], migrations: Steps, note: Note) -> int:
    """Add what is missing. Returns the version before."""
    with alone(connection):
        found = format_of(connection) or Format(0, 1, 0)
        _require_known(found, len(migrations))
        for step in migrations[found.version :]:
            for statement in step:
                connection.execute(statement)
        if found.version == 0:
            connection.execute("INSERT INTO secret VALUES (%s)", [secrets.token_bytes(32)])
            connection.execute("INSERT INTO schema VALUES (%s)", [len(migrations)])
        elif found.version < len(migrations):
            connection.execute("UPDATE schema SET version = %s", [len(migrations)])
        if found.version < len(migrations):
            note({"before": found.version, "after": len(migrations)})
        return found.version


def _contract(connection: Connection[Any], number: int, removals: Removals, note: Note) -> int:
    """Remove something, unless older servers need it. Returns how many are alive."""
    least, statements = removals[number]
    with alone(connection):
        # Committed first: from here on, no older server starts.
        connection.execute("UPDATE schema SET min_program = GREATEST(min_program, %s)", [least])
    with alone(connection):
        found = format_of(connection)
        if found is None or found.removed != number:
            return 0
        older = row(connection, _ALIVE_OF_OLDER_VERSIONS, least)
        if older is not None and older[0]:
            return int(older[0])
        for statement in statements:
            connection.execute(statement)
        connection.execute("UPDATE schema SET removed = %s", [number + 1])
        note({"removed": number + 1})
    return 0


@contextmanager
def alone(connection: Connection[Any]) -> Iterator[None]:
    """A transaction that no other migration overlaps."""
    with connection.transaction():
        _limit(connection, "statement_timeout", 0)  # building an index may take long
        _limit(connection, "lock_timeout", TURN_SECONDS)
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        _limit(connection, "lock_timeout", BUSY_SECONDS)
        yield


def _limit(connection: Connection[Any], setting: str, seconds: int) -> None:
    connection.execute("SELECT set_config(%s, %s, true)", [setting, f"{seconds}s"])


def row(connection: Connection[Any], sql: str, *values: object) -> tuple[Any, ...] | None:
    """The first row that a query finds; None if there is none."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(sql, values or None).fetchone()


def _require_known(found: Format, version: int) -> None:
    if found.min_program > version:
        raise LedgerUnavailable(
            f"The ledger in the database was changed by a newer version of this program (it must "
            f"know format {found.min_program}, and this version knows {version}).",
            next_step="Ask the operator to update wan-mcp.",
        )


def _to_be_migrated(what: str) -> LedgerUnavailable:
    return LedgerUnavailable(what, next_step="Ask the operator to run `wan-mcp admin migrate`.")
