"""The rig of the tests on PostgreSQL: faults happen when, and only when, a test says so."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.ledger.stores import HANG_SECONDS
from tests.postgres.bouncer import bouncer_to
from tests.postgres.fixtures import connected
from tests.postgres.proxy import Fault, Proxy, proxy_to
from tests.postgres.server import Server

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

import psycopg

if TYPE_CHECKING:
    Connection = psycopg.Connection[Any]

DATABASE = "ledger"
ADD = "INSERT INTO wallets VALUES ('me')"


@pytest.fixture
def proxy(postgres: Server) -> Iterator[Proxy]:
    with proxy_to(postgres) as proxy:
        yield proxy


@pytest.fixture
def name(database: str) -> str:
    """The name of the test's database."""
    return psycopg.conninfo.conninfo_to_dict(database)["dbname"]  # type: ignore[return-value]


def wallets(url: str) -> int:
    """How many rows are committed."""
    with connected(url) as connection:
        (count,) = connection.execute("SELECT COUNT(*) FROM wallets").fetchone() or (None,)
        return int(count or 0)


def commit(connection: "Connection") -> None:
    with connection.transaction():
        connection.execute(ADD)


@pytest.mark.parametrize(
    ("fault", "stored"), [(Fault.CUT, 0), (Fault.LOSE_ANSWER, 1), (Fault.DELIVER_LATE, 0)]
)
def test_a_proxy_cuts_a_connection_at_its_commit(
    proxy: Proxy, name: str, database: str, fault: Fault, stored: int
) -> None:
    with connected(proxy.url(name)) as connection:
        struck = proxy.plan("COMMIT", fault)
        with pytest.raises(psycopg.OperationalError):
            commit(connection)

        assert struck.wait(HANG_SECONDS)
        assert wallets(database) == stored
    if fault is Fault.DELIVER_LATE:
        proxy.deliver()
        assert wallets(database) == 1
    assert wallets(proxy.url(name)) == wallets(database)


def test_a_proxy_holds_everything_until_it_is_released(
    proxy: Proxy, name: str, database: str
) -> None:
    with connected(proxy.url(name)) as connection:
        struck = proxy.plan("COMMIT", Fault.HOLD)
        committing = threading.Thread(target=commit, args=[connection])
        committing.start()
        assert struck.wait(HANG_SECONDS)
        assert wallets(database) == 0
        assert committing.is_alive()
        proxy.release()
        committing.join(HANG_SECONDS)
    assert wallets(database) == 1


def test_a_server_of_its_own_is_stopped_killed_and_started_again(own_postgres: Server) -> None:
    url = own_postgres.url(DATABASE)
    crash = partial(own_postgres.stop, "immediate")
    ends: list[Callable[[], None]] = [own_postgres.stop, crash, own_postgres.kill]
    for number, end in enumerate(ends):
        with connected(url) as connection:
            connection.execute("INSERT INTO wallets VALUES (%s)", [str(number)])
            end()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            connected(url)
        own_postgres.start()
        assert wallets(url) == number + 1


def test_a_bouncer_shares_one_connection_among_transactions(
    postgres: Server, name: str, database: str
) -> None:
    with bouncer_to(postgres, connections=1) as folder:
        url = postgres.url(name, folder)
        with connected(url) as one, connected(url) as other:
            assert (
                one.execute("SELECT pg_backend_pid()").fetchone()
                == other.execute("SELECT pg_backend_pid()").fetchone()
            )
            commit(one)
    assert wallets(database) == 1
