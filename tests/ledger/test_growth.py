"""A longer history makes no read of the ledger longer."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.ledger.test_statements import EVERY_FIELD, FENCE, PUBLIC, VALUES, every_step
from wan_mcp.ledger.record import ENDED, FREE_OF_CHARGE, LIVE, OPEN, State
from wan_mcp.ledger.statements.dialects import Statement
from wan_mcp.ledger.statements.records import insert_job, update_job
from wan_mcp.ledger.statements.spending import MARK_COUNTED, PAID, TOTALS

NOW = 1.8e9
INSERT_JOB = insert_job(EVERY_FIELD)
SHORT, LONG = 150, 1_500
WHOLE_HISTORY = {
    *("HISTORY", "HISTORY_SIZES", "HISTORY_PRICES", "EVERY_ID", "JOBS_BY_PREFIX", "JOB_COUNTS"),
    "WHOLE_QUEUE",
}
"""What only the commands read that a person types."""
READS = {
    name: each
    for name, each in PUBLIC.items()
    if each.sqlite.startswith("SELECT") and name not in WHOLE_HISTORY
}
ENDS = sorted(set(State) - OPEN)


@pytest.fixture(scope="module")
def ledgers() -> Iterator[tuple[sqlite3.Connection, sqlite3.Connection]]:
    """One with a short history, and one with a history ten times as long."""
    with closing(history(SHORT)) as short, closing(history(LONG)) as long:
        yield short, long


def history(length: int) -> sqlite3.Connection:
    """A ledger with so many ended jobs from before this day; none of its newest was ever lost."""
    ledger = sqlite3.connect(":memory:")
    for statement in every_step():
        ledger.execute(statement)
    ends = [end for end in ENDS if end is not State.LOST]
    rows = [ended(number, ends[number % len(ends)], length) for number in range(length)]
    rows += [ended(length + number, state, length) for number, state in enumerate(sorted(LIVE))]
    ledger.executemany(INSERT_JOB.sqlite, rows)
    numbers = [number for (number,) in ledger.execute("SELECT number FROM jobs")]
    ledger.execute(MARK_COUNTED.sqlite, {"numbers": json.dumps(numbers)})  # by a server that served
    return ledger


def ended(number: int, state: State, length: int) -> dict[str, object]:
    at = NOW - 100_000 - 60 * (length - number)
    row: dict[str, object] = dict.fromkeys(EVERY_FIELD)
    return (
        row
        | {
            "submission_id": f"sub_{number}",
            "account": "me",
            "state": str(state),
            "job_id": f"job-{number}",
            "dedupe_key": f"{number:064}",
            "exact_key": f"{number:064}",
            "arguments": "{}",
            "vendor_status": "",
            "owner": "a process",
            "credit_cost": float(number % 20),
            "created_at": at,
            "accepted_at": at,
            "ended_at": None if state in LIVE else at + 60,
            "saved_path": "/videos/a.mp4",
            "video_url": "https://films.example/a.mp4",
        }
        | dict.fromkeys(("seed_generated", "checks", "proof_readings", "kept"), 0)
    )


def steps(ledger: sqlite3.Connection, statement: Statement) -> int:
    """How many instructions SQLite takes: a figure that no other load of the machine changes."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    ledger.set_progress_handler(step, 1)
    names = re.findall(r":([a-z_0-9]+)", statement.sqlite)
    ledger.execute(statement.sqlite, {name: VALUES[name] for name in names}).fetchall()
    ledger.set_progress_handler(None, 0)
    return count


@pytest.mark.parametrize("name", READS)
def test_read_takes_no_longer_in_a_history_ten_times_as_long(
    ledgers: tuple[sqlite3.Connection, sqlite3.Connection], name: str
) -> None:
    """Every statement that only reads, those of the claim and of the list among them. (ours)"""
    before, after = (steps(ledger, READS[name]) for ledger in ledgers)

    assert after < before + SHORT


def test_totals_read_an_index_only(
    ledgers: tuple[sqlite3.Connection, sqlite3.Connection],
) -> None:
    """Of what was not added up yet, after the update of a server with a long history (ours)."""
    plan = [row[3] for row in ledgers[1].execute(f"EXPLAIN QUERY PLAN {TOTALS.sqlite}", VALUES)]

    assert any("USING COVERING INDEX uncounted" in step for step in plan)
    assert any("USING COVERING INDEX spent" in step for step in plan)
    assert any("USING INDEX live" in step for step in plan)


def test_what_counts_as_spent_is_every_state_that_is_not_free_of_charge() -> None:
    """The claim counts these groups, each in an index of its own. (ours)"""
    assert set(State) == {State.QUEUED} | LIVE | ENDED | FREE_OF_CHARGE
    assert not FREE_OF_CHARGE & (LIVE | ENDED)


@pytest.mark.parametrize("state", sorted(set(State) - {State.QUEUED}))
def test_a_claim_counts_the_job_of_each_state_that_is_not_free_of_charge(state: State) -> None:
    with closing(history(0)) as ledger:
        ledger.execute("DELETE FROM jobs")
        row = ended(1, state, 0) | {"created_at": NOW - 60, "credit_cost": None, "estimate": 3.0}
        ledger.execute(INSERT_JOB.sqlite, row)

        counted = ledger.execute(PAID.sqlite, VALUES).fetchall()

    assert counted == ([] if state in FREE_OF_CHARGE else [("me", 3.0, 0)])


def test_a_submit_builds_a_table_in_memory_for_the_unique_index_only(
    ledgers: tuple[sqlite3.Connection, sqlite3.Connection],
) -> None:
    """SQLite builds one for each list of more than two states in the condition of an index. (ours)

    Six of them took longer than the rest of the statement (measured). The list of the index `live`
    stays, because servers of older versions name that index and need it word for word.
    """
    insert = tables_in_memory(ledgers[0], INSERT_JOB, EVERY_FIELD)
    change = tables_in_memory(ledgers[0], update_job(("state", "sent_at")), ("state", "sent_at"))

    assert (insert, change) == (1, 2)


def tables_in_memory(
    ledger: sqlite3.Connection, statement: Statement, names: tuple[str, ...]
) -> int:
    values = dict.fromkeys([*names, *FENCE])
    program = ledger.execute(f"EXPLAIN {statement.sqlite}", values)
    return sum(operation == "OpenEphemeral" for _, operation, *_ in program)
