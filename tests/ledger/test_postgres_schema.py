"""The ledger's format in PostgreSQL, and how it changes while servers of older versions go on."""

import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from tests.ledger.stores import HANG_SECONDS, ME, PostgresStore, record_in
from tests.ledger.test_statements import every_step
from tests.postgres.bouncer import bouncer_to
from tests.postgres.fixtures import connected
from tests.postgres.server import Server
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.record import State

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

import psycopg

from wan_mcp.ledger.postgres import migrations
from wan_mcp.ledger.postgres.connection import connect
from wan_mcp.ledger.postgres.migrations import (
    Migration,
    format_of,
    is_to_be_migrated,
    migrate,
    require_current,
)
from wan_mcp.ledger.postgres.people_schema import PEOPLE
from wan_mcp.ledger.postgres.schema import MIGRATIONS, VERSION

if TYPE_CHECKING:
    Connection = psycopg.Connection[Any]

pytestmark = pytest.mark.anyio

ADDITION = ("ALTER TABLE jobs ADD COLUMN later TEXT",)
NEWER = (*MIGRATIONS, ADDITION)
"""What the next version of this program brings."""
REMOVAL = ((VERSION + 1, ("ALTER TABLE keys DROP COLUMN held_until",)),)
"""What a later version removes: only programs that know the next format can do without it."""
OF_PEOPLE = {"teams", "users", "tokens", "wallet_keys", "user_workspaces", "limits", "audit"} | {
    "people_version"
}
OWN_TABLES = {"wallets", "owners", "schema"} | OF_PEOPLE
FILE_ONLY = {"home", "erasure"}


@pytest.fixture
def empty(new_database: Callable[[], str]) -> Iterator["Connection"]:
    """A connection to a database without anything in it."""
    with connected(new_database()) as connection:
        yield connection


@pytest.fixture
def ledger(empty: "Connection") -> "Connection":
    """A connection to a ledger of this version, which a test may change."""
    migrate(empty)
    return empty


def columns(connection: "Connection", table: str) -> set[str]:
    """The columns of a table."""
    found = connection.execute(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = current_schema() AND table_name = %s",
        [table],
    )
    return {name for (name,) in found}


def add_server(connection: "Connection", version: int, seconds: float) -> None:
    """A server that knows this version of the format, and is alive for so long."""
    connection.execute(
        "INSERT INTO owners (name, alive_until, version) VALUES "
        "(gen_random_uuid(), EXTRACT(EPOCH FROM clock_timestamp()) + %s, %s)",
        [seconds, version],
    )


def test_both_engines_have_the_same_tables_columns_and_defaults(ledger: "Connection") -> None:
    """One transactional code uses both (ours)."""
    with closing(sqlite3.connect(":memory:")) as file:
        for statement in every_step():
            file.execute(statement)
        named = file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        tables = {name for (name,) in named} - FILE_ONLY
        expected = {
            (table, name, bool(needed) and default is None, (default or "").strip("'"))
            for table in tables
            for _, name, _, needed, default, key in file.execute(f"PRAGMA table_info({table})")
            if not key
        }
    found = ledger.execute(
        "SELECT table_name, column_name, is_nullable = 'NO' AND column_default IS NULL, "
        "COALESCE(TRIM(SPLIT_PART(column_default, '::', 1), ''''), '') "
        "FROM information_schema.columns WHERE table_schema = current_schema()"
    ).fetchall()
    keys = {("jobs", "number"), ("keys", "account"), ("totals", "account")}
    keys |= {("workspaces", "wallet"), ("workspaces", "name")}

    assert {row for row in found if row[0] not in OWN_TABLES and row[:2] not in keys} == expected
    assert {row[0] for row in found} == tables | OWN_TABLES


def test_both_engines_have_the_same_indexes_word_for_word() -> None:
    """The conditions of the statements are those of the indexes (ours)."""
    with closing(sqlite3.connect(":memory:")) as file:
        for statement in every_step():
            file.execute(statement)
        kept = file.execute("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql NOT NULL")
        expected = {" ".join(sql.split()) for (sql,) in kept}
    steps = (statement for step in MIGRATIONS for statement in step if statement not in PEOPLE)
    ours = {" ".join(statement.split()) for statement in steps}

    assert {sql for sql in ours if re.match(r"CREATE (UNIQUE )?INDEX", sql)} == expected


def test_a_number_of_any_size_and_precision_is_kept(ledger: "Connection") -> None:
    """PostgreSQL's REAL has 4 bytes, and its INTEGER ends at 2 GiB (documented)."""
    found = ledger.execute(
        "SELECT DISTINCT data_type FROM information_schema.columns "
        "WHERE table_schema = current_schema()"
    ).fetchall()

    assert {kind for (kind,) in found} == {"bigint", "double precision", "text", "bytea"}


def test_several_migrations_at_once_make_one_ledger(new_database: Callable[[], str]) -> None:
    """Each replica's host may run the command at the same moment (ours)."""
    url = new_database()
    ready = threading.Barrier(4)
    done: list[Migration] = []

    def run() -> None:
        with connected(url) as connection:
            ready.wait(HANG_SECONDS)
            done.append(migrate(connection))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(each.before for each in done) == [0, VERSION, VERSION, VERSION]
    with connected(url) as connection:
        assert len(connection.execute("SELECT * FROM secret").fetchall()) == 1
        assert connection.execute("SELECT * FROM schema").fetchall() == [(VERSION, 1, 0)]


def test_a_server_refuses_an_empty_database_and_names_the_command(empty: "Connection") -> None:
    """It makes no tables itself: its user may not be allowed to (ours)."""
    with pytest.raises(LedgerUnavailable) as refusal:
        require_current(empty)

    assert "wan-mcp admin migrate" in refusal.value.next_step
    assert is_to_be_migrated(empty)


def test_a_server_refuses_a_ledger_that_is_not_migrated_yet(ledger: "Connection") -> None:
    with pytest.raises(LedgerUnavailable, match=f"format {VERSION}.* needs format {VERSION + 1}"):
        require_current(ledger, VERSION + 1)


def test_an_older_program_serves_a_ledger_to_which_a_newer_one_has_added(
    ledger: "Connection",
) -> None:
    """Replicas are updated one after the other (ours)."""
    assert migrate(ledger, NEWER) == (VERSION, VERSION + 1, 0)

    require_current(ledger)
    assert not is_to_be_migrated(ledger)
    assert migrate(ledger) == (VERSION + 1, VERSION + 1, 0)
    assert "later" in columns(ledger, "jobs")


def test_a_server_with_an_open_connection_goes_on_through_a_migration(
    ledger: "Connection",
) -> None:
    """It does not even connect anew (ours)."""
    with connected(ledger.info.dsn) as server:
        insert = "INSERT INTO wallets VALUES ({})"
        server.execute(insert.format("'before'"))
        migrate(ledger, NEWER)
        server.execute(insert.format("'after'"))

        assert len(server.execute("SELECT * FROM wallets").fetchall()) == 2


def test_a_migration_that_fails_leaves_nothing_behind(ledger: "Connection") -> None:
    """Half a format would fit no program (ours)."""
    broken = (*MIGRATIONS, (*ADDITION, "ALTER TABLE missing ADD COLUMN later TEXT"))
    with pytest.raises(psycopg.Error):
        migrate(ledger, broken)

    assert "later" not in columns(ledger, "jobs")
    assert format_of(ledger) == (VERSION, 1, 0)


def test_a_migration_waits_for_no_server_for_long_and_can_be_repeated(
    ledger: "Connection",
) -> None:
    """What comes after it waits behind it: all servers would stand still (documented)."""
    with connected(ledger.info.dsn) as server:
        with server.transaction(), patch.object(migrations, "BUSY_SECONDS", 0.01):
            server.execute("SELECT * FROM jobs")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                migrate(ledger, NEWER)
        assert migrate(ledger, NEWER).after == VERSION + 1


def test_what_older_servers_use_is_removed_only_when_none_is_alive(ledger: "Connection") -> None:
    """Until then no more of them start (ours)."""
    add_server(ledger, VERSION, seconds=3600)
    add_server(ledger, VERSION + 1, seconds=3600)
    add_server(ledger, VERSION, seconds=-1)

    assert migrate(ledger, NEWER, REMOVAL).older_servers == 1
    assert "held_until" in columns(ledger, "keys")
    with pytest.raises(LedgerUnavailable, match="newer version"):
        require_current(ledger)
    with pytest.raises(LedgerUnavailable, match="newer version"):
        migrate(ledger)

    ledger.execute("UPDATE owners SET alive_until = 0 WHERE version = %s", [VERSION])
    assert migrate(ledger, NEWER, REMOVAL).older_servers == 0
    assert migrate(ledger, NEWER, REMOVAL) == (VERSION + 1, VERSION + 1, 0)
    assert "held_until" not in columns(ledger, "keys")
    require_current(ledger, VERSION + 1)


def test_a_ledger_is_made_behind_pgbouncer(
    postgres: Server, new_database: Callable[[], str]
) -> None:
    """In transaction mode nothing that is set before a transaction holds in it (documented)."""
    name = psycopg.conninfo.conninfo_to_dict(new_database())["dbname"]
    with (
        bouncer_to(postgres, connections=2) as folder,
        connect(postgres.url(str(name), folder)) as connection,
    ):
        assert migrate(connection) == (0, VERSION, 0)
        require_current(connection)


async def test_a_server_needs_no_right_to_change_the_tables(
    ledger: "Connection", postgres: Server
) -> None:
    """Only the operator who migrates owns them (ours)."""
    ledger.execute("CREATE ROLE server LOGIN")
    try:
        ledger.execute(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO server"
        )
        name = ledger.info.dbname
        store = PostgresStore(postgres.url(name).replace("postgres@", "server@"))
        process = store.ledger()
        record = await record_in(process, State.COMPLETED)
        assert await process.recent(ME) == [record]
        await process.coordination.try_acquire(ME, lambda limit, ages: 0.0)
        await store.end(process)
    finally:
        ledger.execute("DROP OWNED BY server")
        ledger.execute("DROP ROLE server")
