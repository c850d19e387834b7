"""The table `jobs`, one row at a time, and the fence before each change of state."""

import base64
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from wan_mcp.ledger.contract import Fenced
from wan_mcp.ledger.fingerprint import without_fragment, without_queries
from wan_mcp.ledger.record import BEFORE, UNSETTLED, Record, State
from wan_mcp.models import Job

Values = Mapping[str, object]

COLUMNS = {
    "submission_id": "handle",
    "dedupe_key": "digest",
    "exact_key": "exact",
    "seed_generated": "seed_planted",
    "last_polled_at": "looked_at",
    "last_reply_at": "heard_at",
    "last_error": "trouble",
    "last_error_code": "trouble_code",
}
"""The column of each field that has another name. Columns keep their first names for ever, so that
servers of different versions can work on one ledger."""
_FIELDS = {column: field for field, column in COLUMNS.items()}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = tuple(name for name in Record.model_fields if name.endswith(("_at", "_until")))


@cache
def listed(states: frozenset[State]) -> str:
    """States as SQL writes a list."""
    return "(" + ", ".join(f"'{state}'" for state in sorted(states)) + ")"


def assigned(changes: Iterable[str]) -> str:
    """Fields as an UPDATE assigns them."""
    return ", ".join(f"{COLUMNS.get(name, name)} = :{name}" for name in changes)


class Rows:
    """Rows through one connection. Whoever changes one has a transaction open.

    Args:
        connection: open and migrated; used by one thread at a time.
        me: the name under which this process owns rows; "" owns none.
        now: the wall clock, UTC.
    """

    def __init__(
        self, connection: sqlite3.Connection, me: str, now: Callable[[], datetime]
    ) -> None:
        self.connection = connection
        self.me = me
        self.now = now

    def records(self, where: str, **values: object) -> list[Record]:
        """Rows by an SQL condition, with named values and, if wanted, an order."""
        return list(map(_record, self.query(f"SELECT * FROM jobs WHERE {where}", **values)))

    def write(self, sql: str, **values: object) -> int:
        """Make a change with named values; how many rows it changed."""
        return self.connection.execute(sql, _stored(values)).rowcount

    def record(self, submission_id: str) -> Record:
        """The row of that handle. Raises Fenced when there is none."""
        found = self.records("handle = :submission_id", submission_id=submission_id)
        if not found:
            raise Fenced(f"The ledger has no request {submission_id}.")
        return found[0]

    def query(self, sql: str, **values: object) -> list[Any]:
        """What a SELECT with named values finds."""
        return self.connection.execute(sql, _stored(values)).fetchall()

    def insert(self, **values: object) -> Record:
        """A new row of this process under a new handle."""
        submission_id = f"sub_{base64.b32encode(secrets.token_bytes(10)).decode().lower()}"
        given = {
            "submission_id": submission_id,
            "arguments": "{}",
            "created_at": self.now(),
            "owner": self.me,
        } | values
        names = ", ".join(COLUMNS.get(name, name) for name in given)
        marks = ", ".join(f":{name}" for name in given)
        self.connection.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", _stored(given))
        return self.record(submission_id)

    def update(self, record: Record, changes: Values) -> Record:
        """Change a row that the same transaction has read."""
        self._set("handle = :id_", {"id_": record.submission_id}, changes)
        return self.record(record.submission_id)

    def delete(self, record: Record) -> None:
        """Drop a row whose job another row stands for."""
        self.connection.execute("DELETE FROM jobs WHERE handle = ?", (record.submission_id,))

    def move(self, submission_id: str, state: State, changes: Values) -> None:
        """Enter a state, through the fence.

        Raises:
            Fenced: it cannot be entered from where the row is, or the row is unsettled in the
                hands of another process.
        """
        fence = (
            f"handle = :id_ AND state IN {listed(BEFORE[state])} "
            f"AND (owner = :me_ OR state NOT IN {listed(UNSETTLED)})"
        )
        known = {"id_": submission_id, "me_": self.me}
        if self._set(fence, known, {"state": state, **changes}) != 1:
            found = self.record(submission_id)
            raise Fenced(
                f"Request {submission_id} is {found.state}: it cannot become {state} here."
            )

    def _set(self, where: str, known: Values, changes: Values) -> int:
        sql = f"UPDATE jobs SET {assigned(changes)} WHERE {where}"
        return self.connection.execute(sql, _stored({**known, **changes})).rowcount


def seconds(time: datetime) -> float:
    """A time as the file keeps it."""
    return (time - _EPOCH).total_seconds()


def told_columns(job: Job) -> dict[str, object]:
    """The columns that news fills: what it leaves out is kept as it was."""
    said = {
        "vendor_status": without_queries(job.vendor_status),
        "video_url": without_fragment(job.video_url),
        "expires_at": job.expires_at,
        "credit_cost": job.credit_cost,
        "credits_remaining": job.credits_remaining,
        "error": without_queries(job.error),
        "note": without_queries(job.note),
    }
    kept: dict[str, object] = {"job_id": job.job_id}
    return kept | {name: value for name, value in said.items() if value not in (None, "")}


def _stored(values: Values) -> dict[str, object]:
    return {name: _value(value) for name, value in values.items()}


def _value(value: object) -> object:
    if isinstance(value, str):
        # Half a surrogate pair is valid in JSON and cannot be stored as UTF-8.
        return value if value.isascii() else value.encode(errors="replace").decode()
    return seconds(value) if isinstance(value, datetime) else value


def _time(stored: float) -> datetime | None:
    try:
        return _EPOCH + timedelta(seconds=stored)
    except OverflowError:
        # The last microseconds of the year 9999 are rounded up. No date may hide a paid job.
        return None


def _record(stored: sqlite3.Row) -> Record:
    # By hand: pydantic takes the number of a date in the year 9999 for milliseconds.
    values = {_FIELDS.get(name, name): stored[name] for name in stored.keys()}  # noqa: SIM118
    for name in _TIMES:
        if (value := values[name]) is not None:
            values[name] = _time(value)
    return Record.model_validate(values)
