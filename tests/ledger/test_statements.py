"""Every statement of the ledger in both dialects: PostgreSQL and SQLite prepare each of them."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.postgres.fixtures import connected, emptied
from tests.postgres.server import Server
from wan_mcp.ledger import statements
from wan_mcp.ledger.record import OPEN, Record, State
from wan_mcp.ledger.rows import stored
from wan_mcp.ledger.sqlite.schema import MIGRATIONS
from wan_mcp.ledger.statements import coordination, dialects, lists, queue, records, spending
from wan_mcp.ledger.statements.dialects import Statement

EVERY_FIELD = tuple(Record.model_fields)
NEVER_SHARED = {name for name in vars(coordination) if name.isupper()} | {"PLACE"}
STATEMENTS = {
    **{
        name: value
        for module in (records, lists, spending, queue, coordination)
        for name, value in vars(module).items()
        if isinstance(value, Statement)
    },
    "insert_job": records.insert_job(EVERY_FIELD),
    "update_job": records.update_job(EVERY_FIELD),
    "recent": lists.recent(frozenset(State) - OPEN),
    "recent of one state": lists.recent(frozenset({State.FAILED})),
    "recent behind a live one": lists.recent(frozenset(State) - OPEN, after_ended=False),
    "recent behind an ended one": lists.recent(frozenset(State) - OPEN, after_ended=True),
}
PUBLIC = {name: value for name, value in STATEMENTS.items() if not name.startswith("_")}
SHARED = {
    f"{name} {over.__name__}": over(each)
    for name, each in PUBLIC.items()
    for over in (dialects.of_wallet, dialects.of_several, dialects.of_wallet_and_several)
    if each.sqlite.startswith("SELECT") and "account = :account" in each.sqlite
    if name not in NEVER_SHARED
}
"""The statements about one workspace as they are about several, see `wallets.scope`."""
PREPARED = PUBLIC | SHARED
VALUES: dict[str, object] = {
    "account": "me",
    "accounts": '["me", "you"]',
    "shared_wallet": "ours",
    "workspace": "me",
    "submission_id": "sub_1",
    "submission_ids": '["sub_1"]',
    "states": '["completed"]',
    "prefix": "sub_",
    "job_id": "job-1",
    "dedupe_key": "d" * 64,
    "exact_key": "e" * 64,
    "seedless_exact_key": "f" * 64,
    "seed": None,
    "limit": 21,
    "number": 100,
    "now": 1.8e9,
    "since": 1.8e9 - 900,
    "until": 1.8e9 + 900,
    "soon": 1.8e9 + 5,
    "latest": 1.8e9 + 3_600,
    "within": 86_400.0,
    "unpriced": 0.0,
    "size": 2**33,
    "numbers": "[1, 2]",
    "jobs": 2,
    "credits": 4.0,
    "without_cost": 0,
    "saved_path": "/videos/a.mp4",
    "sha256": "0" * 64,
    "kept": 1,
    "why": "it could not be saved",
    "last_error": None,
    "last_error_code": None,
    "me": "a process",
    "per_minute": 10,
    "cut_at": None,
    "held_until": 1.8e9,
}
"""One value for each name in a statement, as the ledger gives them."""

FENCE = {
    "submission_id_before": "sub_1",
    "state_before": "intent",
    "owner_before": "a process",
    "queued_until_before": None,
}
INDEXES = {
    "LIVE_EQUAL": {"live"},
    "UNKNOWN_JOBS": {"unknown"},
    "HIGHEST_PRICE": {"by_price"},
    "recent": {"ended_by_age"},
    "MAY_BE_EQUAL": {"live", "ended", "ended_by_age"},
}
READ_OF_SHARED_WALLETS = {"PAID", "IN_FLIGHT", "SUBMIT_AGES", "QUEUED_COSTS", "LIVE_JOBS"}
SHARED_BY = ("of_wallet", "of_wallet_and_several")
HISTORY = """
INSERT INTO jobs (handle, account, state, digest, exact, arguments, created_at, ended_at, owner)
SELECT 'sub_' || n, CASE WHEN n <= 5000 THEN 'me' ELSE 'user ' || n % 500 END, 'completed',
    LPAD(CAST(n AS TEXT), 64, '0'), 'exact ' || n, '{}', n, n, 'a process'
FROM generate_series(2, 10000) AS n
"""
"""One account has much more than the others: a plan for any values expects little of each."""


def stored_record() -> dict[str, object]:
    """The values of one record, as the ledger stores them."""
    record = Record(
        submission_id="sub_1",
        account="me",
        state=State.INTENT,
        arguments={"seconds": 5},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        owner="a process",
        size=2**33,
    )
    return stored({name: getattr(record, name) for name in EVERY_FIELD})


def every_step() -> Iterator[str]:
    """Each statement that makes a ledger in SQLite."""
    for step in MIGRATIONS:
        yield from step


@pytest.fixture(scope="module")
def postgres(shared_postgres: Server, worker_database: str) -> Iterator[Any]:
    """A connection to a ledger that none of the tests changes."""
    with connected(emptied(shared_postgres, worker_database)) as connection:
        yield connection


@pytest.fixture
def sqlite() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in every_step():
            connection.execute(statement)
        yield connection


def numbered(sql: str) -> str:
    """The statement with PostgreSQL's numbers for its named values."""
    names: dict[str, int] = {}
    return re.sub(
        r"(?<!:):([a-z_0-9]+)", lambda name: f"${names.setdefault(name[1], len(names) + 1)}", sql
    )


@pytest.mark.parametrize("name", PREPARED)
def test_postgresql_prepares_every_statement(postgres: Any, name: str) -> None:
    """PREPARE resolves each table, column, function and type, even of values without a type."""
    postgres.execute(f"PREPARE checked AS {numbered(PREPARED[name].postgres)}")
    postgres.execute("DEALLOCATE checked")


@pytest.mark.parametrize("name", PREPARED)
def test_postgresql_runs_every_statement_with_values_of_the_ledger(
    postgres: Any, name: str
) -> None:
    """A driver sends numbers by their size, text without a type, and NULL with none. (ours)"""
    named = re.sub(r"(?<!:):([a-z_0-9]+)", r"%(\1)s", PREPARED[name].postgres)

    with postgres.transaction(force_rollback=True):
        postgres.execute(named, VALUES | stored_record() | FENCE)


@pytest.mark.parametrize(
    "name", [*INDEXES, *(f"{n} {by}" for n in sorted(READ_OF_SHARED_WALLETS) for by in SHARED_BY)]
)
@pytest.mark.parametrize("kept", ["force_custom_plan", "force_generic_plan"])
def test_postgresql_has_an_index_for_what_every_submit_reads(
    postgres: Any, name: str, kept: str
) -> None:
    """In a history of some length, also with the plan for any values that is kept for a statement.

    SQLite is asked the same in `test_growth`. (ours)
    """
    from psycopg import ClientCursor

    sql = PREPARED[name].postgres
    names = dict.fromkeys(re.findall(r"(?<!:):([a-z_0-9]+)", sql))
    given = ", ".join(f"%({each})s" for each in names)
    with postgres.transaction(force_rollback=True):
        postgres.execute(HISTORY)
        postgres.execute("ANALYZE jobs")
        postgres.execute(f"SET LOCAL plan_cache_mode = {kept}")
        postgres.execute(f"PREPARE kept AS {numbered(sql)}")
        asked = f"EXPLAIN EXECUTE kept {f'({given})' if names else ''}"
        plan = "\n".join(line for (line,) in ClientCursor(postgres).execute(asked, VALUES))
        postgres.execute("DEALLOCATE kept")

    assert "Seq Scan on jobs" not in plan
    assert INDEXES.get(name, set()) <= set(re.findall(r"Scan.*? (?:using|on) (\w+)", plan))


@pytest.mark.parametrize("name", PREPARED)
def test_sqlite_prepares_every_statement(sqlite: sqlite3.Connection, name: str) -> None:
    sql = PREPARED[name].sqlite
    values = dict.fromkeys(re.findall(r":([a-z_0-9]+)", sql))

    assert sqlite.execute(f"EXPLAIN {sql}", values).fetchall()


@pytest.mark.parametrize(
    ("cost", "estimate", "expected"),
    [(None, None, None), (None, 3.5, 3.5), (4.0, 3.5, 4.0), (-2.0, 3.0, 0.0)],
)
def test_an_unknown_price_stays_unknown_in_both_dialects(
    sqlite: sqlite3.Connection,
    postgres: Any,
    cost: float | None,
    estimate: float | None,
    expected: float | None,
) -> None:
    """GREATEST(NULL, 0) is 0 in PostgreSQL, which would make an unknown price free."""
    price = re.sub(r"\b(credit_cost|estimate)\b", r"CAST(:\1 AS DOUBLE PRECISION)", spending.PRICE)
    theirs = price.replace(":credit_cost", "%(credit_cost)s").replace(":estimate", "%(estimate)s")
    values = {"credit_cost": cost, "estimate": estimate}

    assert sqlite.execute(f"SELECT {price}", values).fetchone()[0] == expected
    assert postgres.execute(f"SELECT {theirs}", values).fetchone()[0] == expected


def test_every_module_of_the_ledger_takes_its_sql_from_the_statements() -> None:
    """A statement anywhere else would be in one dialect only."""
    folder = Path(statements.__file__).parents[1]
    elsewhere = [
        path.name
        for path in folder.glob("*.py")
        if re.search(r"\"(SELECT|INSERT|UPDATE|DELETE) ", path.read_text("utf-8"))
    ]

    assert elsewhere == []
