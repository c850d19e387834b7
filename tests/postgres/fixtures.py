"""What a test asks for: an empty ledger in PostgreSQL, or a server of its own."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.ledger.stores import HANG_SECONDS
from tests.postgres.server import Server, private_server, shared_server

if TYPE_CHECKING:
    from psycopg import Connection

TEMPLATE = "ledger"
"""The database that the others are copied from: a ledger without any record."""

RAN_WITH = "ran with"
"""The property of a test that names a program."""

EMPTY = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid();
DELETE FROM jobs; DELETE FROM keys; DELETE FROM requests; DELETE FROM wallets; DELETE FROM owners;
DELETE FROM audit; DELETE FROM limits; DELETE FROM user_workspaces; DELETE FROM wallet_keys;
DELETE FROM tokens; DELETE FROM users; DELETE FROM teams;
DELETE FROM totals;
UPDATE secret SET account_key = '\\x{}'
"""
"""Removes what is in a ledger, and gives it another secret, in hexadecimal digits."""


def prepare(server: Server) -> None:
    """Make the template."""
    from wan_mcp.ledger.postgres.migrations import migrate

    server.execute(f"CREATE DATABASE {TEMPLATE}")
    with connected(server.url(TEMPLATE)) as connection:
        migrate(connection)


def connected(url: str) -> "Connection[Any]":
    """A connection in autocommit. As a context manager it closes itself."""
    import psycopg

    return psycopg.connect(url, autocommit=True)


def emptied(server: Server, database: str) -> str:
    """The address of a database, without what earlier tests have left in it."""
    server.execute(EMPTY.format(secrets.token_hex(32)), database=database)
    return server.url(database)


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[Server]:
    """The server of all tests. Nobody stops it."""
    with shared_server(prepare) as server:
        yield server


@pytest.fixture(scope="session")
def worker_database(shared_postgres: Server) -> str:
    """The name of the database of this process."""
    name = f"of_{os.getpid()}"
    shared_postgres.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    return name


@pytest.fixture
def postgres(shared_postgres: Server, request: pytest.FixtureRequest) -> Server:
    """The server of all tests; the report names it."""
    request.node.user_properties.append((RAN_WITH, shared_postgres.version))
    return shared_postgres


@pytest.fixture
def leisure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ledgers of this process refuse nothing because a slow machine keeps it waiting."""
    monkeypatch.setattr("wan_mcp.ledger.threaded.turns.WAIT_SECONDS", HANG_SECONDS)
    monkeypatch.setattr("wan_mcp.ledger.threaded.turns.PAUSE_SECONDS", 0.0)


@pytest.fixture
def database(postgres: Server, worker_database: str, leisure: None) -> str:
    """The address of a ledger without any record, of this version."""
    return emptied(postgres, worker_database)


@pytest.fixture
def new_database(postgres: Server) -> Iterator[Callable[[], str]]:
    """Makes databases without anything in them."""
    with ExitStack() as made:

        def make() -> str:
            name = f"new_{secrets.token_hex(8)}"
            postgres.execute(f"CREATE DATABASE {name}")
            made.callback(postgres.execute, f"DROP DATABASE {name} WITH (FORCE)")
            return postgres.url(name)

        yield make


@pytest.fixture
def own_postgres(postgres: Server, leisure: None) -> Iterator[Server]:
    """A server that a test may stop and kill; it runs, and its database `ledger` is a ledger."""
    with private_server(postgres) as server:
        server.start()
        prepare(server)
        yield server
