"""A ledger moves from a computer into PostgreSQL as a whole or not at all; nobody pays twice."""

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import anyio
import anyio.to_thread
import pytest

from tests.ledger.old_version import contents
from tests.ledger.old_version.contents import ACCOUNTS, API_BASE, END, FILE, FIRST_KEY, STATES
from tests.ledger.old_version.servers import SLOWEST_SECONDS, server
from tests.ledger.stores import (
    ME,
    NO_LIMITS,
    PostgresStore,
    SQLiteStore,
    claimed,
    reported,
    sent,
    wanted,
)
from tests.postgres.fixtures import connected
from tests.postgres.proxy import Fault, proxy_to
from tests.postgres.server import Server
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.sqlite.connection import connect as connect_file
from wan_mcp.ledger.sqlite.copies import ledger_id
from wan_mcp.ledger.sqlite.kept_jobs import KeptJobs
from wan_mcp.ledger.sqlite.schema import MIGRATIONS
from wan_mcp.models import Replacement
from wan_mcp.sandbox import Sandbox, Terms

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

import psycopg

from wan_mcp.ledger.postgres.connection import connect
from wan_mcp.ledger.postgres.moving import Move, move

if TYPE_CHECKING:
    Connection = psycopg.Connection[Any]

pytestmark = pytest.mark.anyio

Rows = list[dict[str, Any]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with the ledger that version 0.1.0 left behind: jobs in every state."""
    (tmp_path / "ledger").mkdir()
    shutil.copyfile(FILE, tmp_path / "ledger/ledger.db")
    return tmp_path


def now() -> datetime:
    return END + timedelta(seconds=5)


def moved(data: Path, url: str, *, again: bool = False) -> Move:
    with connect(url) as connection:
        return move(data, connection, now, again=again)


def in_file(data: Path, table: str, order: str = "1") -> Rows:
    """The rows of a table, read with plain SQL."""
    with closing(connect_file(data / "ledger/ledger.db")) as connection:
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY {order}")]


def in_database(url: str, table: str, order: str = "1") -> Rows:
    with connected(url) as connection:
        connection.row_factory = psycopg.rows.dict_row
        return connection.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()


@pytest.fixture
async def store(database: str) -> AsyncIterator[PostgresStore]:
    """The ledger in the database, at the time at which it was moved."""
    store = PostgresStore(database)
    store.now = now()
    yield store
    for ledger in store.opened:
        await ledger.aclose()


def test_every_row_of_an_old_ledger_arrives_as_it_was(data: Path, database: str) -> None:
    """Jobs in every state, with dates, seeds, costs and the paths of videos (ours)."""
    done = moved(data, database)

    jobs = in_file(data, "jobs")
    assert {row["state"] for row in jobs} >= STATES - {"intent", "sending"}
    assert in_database(database, "jobs") == jobs
    assert in_database(database, "secret") == in_file(data, "secret")
    assert in_database(database, "requests", "1, 2") == in_file(data, "requests", "1, 2")
    kept = {"account", "per_minute", "cut_at", "held_until"}
    for theirs, ours in zip(in_file(data, "keys"), in_database(database, "keys"), strict=True):
        assert {name: ours[name] for name in kept} == {name: theirs[name] for name in kept}
        assert ours["poller"] is ours["poller_until"] is None
    assert done == (len(jobs), len(ACCOUNTS), False)


def test_a_record_of_this_version_arrives_with_every_field(tmp_path: Path, database: str) -> None:
    """Each column has a value that none of the others has (ours)."""
    store = SQLiteStore(tmp_path / "ledger")

    async def make() -> None:
        ledger = store.ledger()
        await ledger.recover()
        await store.end(ledger)

    anyio.run(make)
    with closing(connect_file(tmp_path / "ledger/ledger.db")) as file:
        columns = file.execute("SELECT name, type FROM pragma_table_info('jobs')").fetchall()
        values: dict[str, object] = {
            name: number if kind == "INTEGER" else number / 3 if kind == "REAL" else f"é{number}"
            for number, (name, kind) in enumerate(columns, 2**33)
        }
        values["state"] = "completed"
        values["counted_as"] = None  # the database adds up by itself
        names = ", ".join(values)
        holes = ", ".join(f":{name}" for name in values)
        file.execute(f"INSERT INTO jobs ({names}) VALUES ({holes})", values)
    moved(tmp_path, database)

    assert in_database(database, "jobs") == in_file(tmp_path, "jobs") == [values]


async def test_servers_go_on_with_the_moved_ledger(
    data: Path, database: str, store: PostgresStore
) -> None:
    """Equal requests find their jobs, under the same accounts and the same keys (ours)."""
    before = SQLiteStore(data / "ledger")
    before.now = store.now
    old = before.ledger(NO_LIMITS)
    account = await old.account(API_BASE, FIRST_KEY)
    page = await old.page(account, None, 1000, None)
    key, credits = await old.secret("lending"), await old.credits(account, 2.0)
    await before.end(old)
    await anyio.to_thread.run_sync(moved, data, database)
    ledger = store.ledger(NO_LIMITS)

    assert await ledger.account(API_BASE, FIRST_KEY) == account
    assert await ledger.secret("lending") == key
    assert await ledger.page(account, None, 1000, None) == page
    assert (await ledger.credits(account, 2.0)).spent == credits.spent
    live = contents.jobs(FIRST_KEY, "accepted", "unknown", "sending")
    for row in live:
        if row["digest"] is not None:
            request = Replacement.model_validate_json(row["arguments"])
            claim = await ledger.claim(account, request, generated_seed=1, estimate=2.0)
            assert (claim.created, claim.record.submission_id) == (False, row["handle"])
    new = await ledger.claim(account, wanted(12_345), generated_seed=1, estimate=2.0)
    assert new.created


def test_a_paid_job_beside_the_ledger_is_moved_too(tmp_path: Path, database: str) -> None:
    """A server whose ledger was taken away has kept it there (ours)."""
    store = SQLiteStore(tmp_path / "ledger")

    async def keep() -> None:
        ledger = store.ledger()
        record = await sent(ledger, await claimed(ledger))
        with closing(connect_file(tmp_path / "ledger/ledger.db")) as file:
            id = ledger_id(file)
        KeptJobs(tmp_path / "ledger").keep(record, reported(job_id="job-kept"), id)
        await store.end(ledger, killed=True)

    anyio.run(keep)
    moved(tmp_path, database)

    [row] = in_database(database, "jobs")
    assert (row["job_id"], row["state"]) == ("job-kept", "accepted")


async def test_no_server_pays_with_a_file_that_was_moved(data: Path, database: str) -> None:
    """It says where the ledger is now (ours)."""
    await anyio.to_thread.run_sync(moved, data, database)
    store = SQLiteStore(data / "ledger")
    ledger = store.ledger()
    before = in_file(data, "jobs")

    with pytest.raises(LedgerUnavailable, match="moved to a PostgreSQL database") as refusal:
        await claimed(ledger)
    assert "WAN_MCP_LEDGER_URL" in refusal.value.next_step
    with pytest.raises(LedgerUnavailable, match="moved"):
        await ledger.recent(ME)
    await ledger.aclose()
    assert in_file(data, "jobs") == before


async def test_a_server_that_opened_the_file_in_that_instant_pays_nothing_either(
    data: Path, database: str
) -> None:
    """Its lock was not there yet when the move looked for living servers (ours)."""
    store = SQLiteStore(data / "ledger")
    store.now = now()
    ledger = store.ledger()
    record = await claimed(ledger)
    with patch("wan_mcp.ledger.sqlite.moved.anyone_lives", return_value=False):
        await anyio.to_thread.run_sync(moved, data, database)

    with pytest.raises(LedgerUnavailable, match="moved to a PostgreSQL database"):
        await claimed(ledger, wanted(99))
    await store.end(ledger)
    assert record.submission_id in {row["handle"] for row in in_database(database, "jobs")}


@pytest.mark.parametrize("opened_before", [True, False])
async def test_version_0_1_0_pays_nothing_with_a_file_that_was_moved(
    tmp_path: Path, database: str, opened_before: bool
) -> None:
    """Neither one that starts later, nor one that has the file open (ours)."""
    terms = Terms(credits=100, requests_per_minute=100_000)
    unseen = patch("wan_mcp.ledger.sqlite.moved.anyone_lives", return_value=False)
    async with Sandbox(terms, idle_seconds=SLOWEST_SECONDS) as sandbox:
        async with server(sandbox, tmp_path, old=True) as old:
            await old.settled(1)
            if opened_before:
                with unseen:
                    await anyio.to_thread.run_sync(moved, tmp_path, database)
                refused = await old.submit(2)
        if not opened_before:
            await anyio.to_thread.run_sync(moved, tmp_path, database)
            async with server(sandbox, tmp_path, old=True) as old:
                refused = await old.submit(2)

        assert not refused.get("job_id"), refused
        assert len(sandbox.charges) == 1


async def test_nothing_is_moved_while_a_server_runs_on_the_file(data: Path, database: str) -> None:
    """It may be about to pay (ours)."""
    store = SQLiteStore(data / "ledger")
    store.now = now()
    ledger = store.ledger()
    await ledger.recover()

    with pytest.raises(LedgerUnavailable, match="server is running on the ledger"):
        await anyio.to_thread.run_sync(moved, data, database)
    assert (await ledger.claim(ME, wanted(5), generated_seed=1, estimate=1)).created
    await store.end(ledger)
    assert in_database(database, "jobs") == []


async def test_nothing_is_moved_while_a_server_runs_on_the_database(
    data: Path, store: PostgresStore
) -> None:
    """It names accounts by the secret that would be replaced (ours)."""
    ledger = store.ledger()
    await ledger.recover()

    with pytest.raises(LedgerUnavailable, match="server is running on the database"):
        await anyio.to_thread.run_sync(moved, data, store.url)
    await still_pays(data)


async def test_two_ledgers_do_not_become_one(data: Path, store: PostgresStore) -> None:
    """Their accounts have different names, so equal requests would not be found (ours)."""
    ledger = store.ledger()
    await claimed(ledger)
    await store.end(ledger)
    secret = in_database(store.url, "secret")

    with pytest.raises(LedgerUnavailable, match="jobs of another ledger"):
        await anyio.to_thread.run_sync(moved, data, store.url)
    assert in_database(store.url, "secret") == secret
    await still_pays(data)


def test_a_database_without_a_ledger_is_refused(
    data: Path, new_database: Callable[[], str]
) -> None:
    with pytest.raises(LedgerUnavailable) as refusal:
        moved(data, new_database())

    assert "wan-mcp admin migrate" in refusal.value.next_step


def test_a_folder_without_a_ledger_is_refused(tmp_path: Path, database: str) -> None:
    """Nothing is created in it (ours)."""
    with pytest.raises(LedgerUnavailable, match="no ledger in that folder"):
        moved(tmp_path, database)
    assert not (tmp_path / "ledger").exists()


async def still_pays(data: Path) -> None:
    """A server can be started on the file as before."""
    store = SQLiteStore(data / "ledger")
    store.now = now()
    ledger = store.ledger()
    assert (await ledger.claim(ME, wanted(6), generated_seed=1, estimate=1)).created
    await store.end(ledger)


def test_a_move_that_is_repeated_changes_nothing(data: Path, database: str) -> None:
    """Servers may have gone on with the records in the database (ours)."""
    first = moved(data, database)
    with connected(database) as connection:
        connection.execute("UPDATE jobs SET note = 'later'")
        connection.execute("DELETE FROM jobs WHERE digest IS NULL")
    rows = in_database(database, "jobs")

    assert moved(data, database) == first._replace(was_done=True)
    assert in_database(database, "jobs") == rows


async def test_a_commit_whose_answer_is_lost_is_found_by_repeating_the_command(
    data: Path, database: str, postgres: Server
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    for fault, was_done in ((Fault.CUT, None), (Fault.LOSE_ANSWER, True)):
        with proxy_to(postgres) as proxy:
            proxy.plan("COMMIT", fault)
            with pytest.raises(LedgerUnavailable, match="before it said whether") as unknown:
                moved(data, proxy.url(str(name)))
            assert "Repeat the command" in unknown.value.next_step
        with pytest.raises(LedgerUnavailable, match="moved"):
            await still_pays(data)
        assert bool(in_database(database, "jobs")) is (was_done or False)
    assert moved(data, database).was_done
    assert in_database(database, "jobs") == in_file(data, "jobs")


def test_a_move_to_a_second_database_has_to_be_wanted(
    data: Path, database: str, new_database: Callable[[], str]
) -> None:
    """The first one may have everything, and servers that pay (ours)."""
    moved(data, database)
    second = new_database()
    migrate_new(second)

    with pytest.raises(LedgerUnavailable, match="another database was begun"):
        moved(data, second)
    assert in_database(second, "jobs") == []
    assert not moved(data, second, again=True).was_done
    assert in_database(second, "jobs") == in_file(data, "jobs")


def migrate_new(url: str) -> None:
    from wan_mcp.ledger.postgres.migrations import migrate

    with connected(url) as connection:
        migrate(connection)


async def test_a_file_that_is_put_back_after_the_move_is_marked_again(
    data: Path, database: str
) -> None:
    """And what was paid with it meanwhile is named (ours)."""
    await anyio.to_thread.run_sync(moved, data, database)
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
        (data / "ledger" / name).unlink(missing_ok=True)
    shutil.copyfile(FILE, data / "ledger/ledger.db")
    assert (await anyio.to_thread.run_sync(moved, data, database)).was_done
    with pytest.raises(LedgerUnavailable, match="moved"):
        await still_pays(data)

    with closing(connect_file(data / "ledger/ledger.db")) as file:
        file.executescript(
            f"DROP TRIGGER moved; DROP TABLE moved;PRAGMA user_version = {len(MIGRATIONS)}"
        )
    await still_pays(data)
    with pytest.raises(LedgerUnavailable, match="1 requests that are in the file"):
        await anyio.to_thread.run_sync(moved, data, database)


def test_a_move_that_is_killed_at_any_moment_is_finished_by_repeating_it(
    tmp_path: Path, database: str
) -> None:
    """No row twice, none lost, and at no moment could both ledgers pay (ours)."""
    command = [sys.executable, "-m", "tests.ledger.move_kills", database, str(tmp_path), "6"]
    run = subprocess.run(command, capture_output=True, text=True)

    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["kills"] > 8
    assert result["wrong"] == []
    assert set(result["seen"]) == {"file", "neither", "database"}
