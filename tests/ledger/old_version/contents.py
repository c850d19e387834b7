"""What `ledger.db` holds, read with plain SQL: the new code has no part in it."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.ledger.old_version.make import KEYS, PORT

FOLDER = Path(__file__).parent
FILE = FOLDER / "ledger.db"
ARCHIVE = FOLDER / "server.zip"
API_BASE = f"http://127.0.0.1:{PORT}/api/v1"
FIRST_KEY, SECOND_KEY = KEYS

Row = dict[str, Any]

UNSETTLED = {"intent", "sending"}
LIVE = {*UNSETTLED, "accepted", "unknown"}
STATES = LIVE | {"completed", "failed", "lost", "refused", "not_sent"}
"""All that the old version knows."""

FIELDS = {
    "handle": "submission_id",
    "digest": "dedupe_key",
    "exact": "exact_key",
    "seed_planted": "seed_generated",
    "looked_at": "last_polled_at",
    "heard_at": "last_reply_at",
    "trouble": "last_error",
    "trouble_code": "last_error_code",
}
"""The field of a record that has another name than its column."""


def read(sql: str, path: Path = FILE) -> list[Row]:
    """Rows of a ledger that no process has open for writing."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql)]


def columns(path: Path, table: str) -> dict[str, Row]:
    """What SQLite says of each column of a table."""
    return {row["name"]: row for row in read(f"PRAGMA table_info({table})", path)}


JOBS = read("SELECT * FROM jobs ORDER BY number")
ACCOUNTS = {
    key: next(row["account"] for row in JOBS if row["seed"] == seed)
    for key, seed in {FIRST_KEY: "101", SECOND_KEY: "501"}.items()
}
"""The account of each key, by the seed of one of its requests."""


def jobs(key: str, *states: str) -> list[Row]:
    """An account's jobs in these states, or in any; oldest first."""
    mine = [row for row in JOBS if row["account"] == ACCOUNTS[key]]
    return [row for row in mine if not states or row["state"] in states]


def date(seconds: float) -> datetime:
    """A time as a record has it."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


END = date(max(row["created_at"] for row in JOBS))
"""When the last process died."""


def field(column: str, value: Any) -> Any:
    """The value of a record's field, by what stands in its column."""
    if value is None:
        return None
    if column.endswith(("_at", "_until")):
        return date(value)
    match column:
        case "arguments":
            return json.loads(value)
        case "seed":
            return int(value)
        case "seed_planted":
            return bool(value)
    return value


def fields(row: Row) -> dict[str, Any]:
    """Every field of the record that must come out of a row."""
    kept = {column: value for column, value in row.items() if column != "number"}
    return {FIELDS.get(column, column): field(column, value) for column, value in kept.items()}
