"""The table `jobs`, one row at a time, and the fence before each change of state."""

import base64
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from wan_mcp.ledger.contract import Fenced
from wan_mcp.ledger.fingerprint import without_fragment, without_queries
from wan_mcp.ledger.record import BEFORE, UNSETTLED, Row, State
from wan_mcp.models import Job

Values = Mapping[str, object]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = tuple(name for name in Row.model_fields if name.endswith(("_at", "_until")))


@cache
def listed(states: frozenset[State]) -> str:
    """States as SQL writes a list."""
    return "(" + ", ".join(f"'{state}'" for state in sorted(states)) + ")"


class Table:
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

    def rows(self, where: str, **values: object) -> list[Row]:
        """Rows by an SQL condition, with named values and, if wanted, an order."""
        return list(map(_row, self.query(f"SELECT * FROM jobs WHERE {where}", **values)))

    def write(self, sql: str, **values: object) -> int:
        """Make a change with named values; how many rows it changed."""
        return self.connection.execute(sql, _stored(values)).rowcount

    def row(self, handle: str) -> Row:
        """The row of that handle. Raises Fenced when there is none."""
        found = self.rows("handle = :handle", handle=handle)
        if not found:
            raise Fenced(f"The ledger has no request {handle}.")
        return found[0]

    def query(self, sql: str, **values: object) -> list[Any]:
        """What a SELECT with named values finds."""
        return self.connection.execute(sql, _stored(values)).fetchall()

    def insert(self, **values: object) -> Row:
        """A new row of this process under a new handle."""
        handle = f"sub_{base64.b32encode(secrets.token_bytes(10)).decode().lower()}"
        given = {
            "handle": handle,
            "arguments": "{}",
            "created_at": self.now(),
            "owner": self.me,
        } | values
        names = ", ".join(given)
        marks = ", ".join(f":{name}" for name in given)
        self.connection.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", _stored(given))
        return self.row(handle)

    def update(self, row: Row, changes: Values) -> Row:
        """Change a row that the same transaction has read."""
        self._set("handle = :handle_", {"handle_": row.handle}, changes)
        return self.row(row.handle)

    def delete(self, row: Row) -> None:
        """Drop a row whose job another row stands for."""
        self.connection.execute("DELETE FROM jobs WHERE handle = ?", (row.handle,))

    def move(self, handle: str, state: State, changes: Values) -> None:
        """Enter a state, through the fence.

        Raises:
            Fenced: it cannot be entered from where the row is, or the row is unsettled in the
                hands of another process.
        """
        fence = (
            f"handle = :handle_ AND state IN {listed(BEFORE[state])} "
            f"AND (owner = :me_ OR state NOT IN {listed(UNSETTLED)})"
        )
        known = {"handle_": handle, "me_": self.me}
        if self._set(fence, known, {"state": state, **changes}) != 1:
            found = self.row(handle)
            raise Fenced(f"Request {handle} is {found.state}: it cannot become {state} here.")

    def _set(self, where: str, known: Values, changes: Values) -> int:
        to = ", ".join(f"{name} = :{name}" for name in changes)
        sql = f"UPDATE jobs SET {to} WHERE {where}"
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


def _row(stored: sqlite3.Row) -> Row:
    # By hand: pydantic takes the number of a date in the year 9999 for milliseconds.
    values = dict(zip(stored.keys(), stored, strict=True))  # `dict` looks each name up in turn
    for name in _TIMES:
        if (value := values[name]) is not None:
            values[name] = _time(value)
    return Row.model_validate(values)
