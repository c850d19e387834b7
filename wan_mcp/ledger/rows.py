"""Reads and writes records through an engine's session, fenced against other processes."""

import json
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.contract import Fenced
from wan_mcp.ledger.expected_price import SEARCHED_JOBS, Charge
from wan_mcp.ledger.fingerprint import canonical_json
from wan_mcp.ledger.record import OPEN, Record, State
from wan_mcp.ledger.session import Read, Session, Values
from wan_mcp.ledger.statements.dialects import Statement
from wan_mcp.ledger.statements.lists import PLACE, recent
from wan_mcp.ledger.statements.records import JOB, insert_job, update_job
from wan_mcp.ledger.wallets.scope import Scope
from wan_mcp.models import Cursor, Difference

FIRST_CHARGES = 4
"""How many of the newest jobs are searched first for a charge: most jobs are like the last ones."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = tuple(Record.model_fields)
_STORED_AS_THEY_ARE = frozenset({type(None), float})
_DATES = frozenset(name for name in _FIELDS if name.endswith(("_at", "_until")))


class Place(NamedTuple):
    """Where a record stands in a list that begins with the newest, and whether it had ended."""

    number: int
    is_ended: bool


class Rows:
    """The records of all accounts, through one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, statement: Statement, **values: object) -> list[Record]:
        """The records that a statement finds."""
        return [_record(row) for row in self._session.query(statement, stored(values))]

    def first(self, statement: Statement, **values: object) -> Record | None:
        """The first record that a statement finds; None if there is none."""
        return self.first_of(read(statement, **values))

    def first_of(self, asked: Read) -> Record | None:
        """The first record that a read finds; None if there is none."""
        found = self._session.query(*asked)
        return _record(found[0]) if found else None

    def record(self, submission_id: str) -> Record:
        """The record with that id. Raises Fenced if there is none."""
        found = self.first(JOB, submission_id=submission_id)
        if found is None:
            raise Fenced(f"The ledger has no request {submission_id}.")
        return found

    def place(self, account: str, cursor: Cursor) -> Place | None:
        """The place that a cursor stands for; None if the account has no such record."""
        found = self.values(PLACE, account=account, submission_id=cursor.submission_id)
        return Place(found[0][0], cursor.is_ended) if found else None

    def newest(
        self,
        scope: Scope,
        states: frozenset[State] | None,
        limit: int,
        after: Place | None = None,
    ) -> list[Record]:
        """All open records and the newest `limit` others in these states: see `contract.Ledger`.

        Args:
            after: where the list begins; None to begin with the newest.
        """
        ended = (frozenset(State) if states is None else states) - OPEN
        if not ended:
            ended, limit = frozenset(State) - OPEN, 0
        place = {} if after is None else {"number": after.number}
        statement = recent(ended, None if after is None else after.is_ended)
        return self.find(scope.over(statement), **scope.values, limit=limit, **place)

    def charges(self, account: str) -> Iterator[Charge]:
        """The charges for the newest jobs, newest first. More are read only when needed."""
        known = 0
        for limit in (FIRST_CHARGES, SEARCHED_JOBS):
            rows = self.values(sql.spending.CHARGES, account=account, limit=limit)
            for arguments, credits in rows[known:]:
                if credits is not None and credits > 0:
                    yield Charge(json.loads(arguments), credits)
            known = len(rows)

    def values(self, statement: Statement, **values: object) -> Sequence[Sequence[Any]]:
        """The rows that a statement finds, as they are stored."""
        return self.values_of(read(statement, **values))

    def values_of(self, asked: Read) -> Sequence[Sequence[Any]]:
        """The rows that a read finds, as they are stored."""
        return self._session.query(*asked)

    def write(self, statement: Statement, **values: object) -> int:
        """Make a change. Returns the number of rows that it changed."""
        return self._session.execute(statement, stored(values))

    def note(self, statement: Statement, **values: object) -> None:
        """Make a change that nothing in this transaction reads."""
        self._session.save(statement, stored(values), None)

    def insert(self, record: Record) -> Record:
        """Add a record."""
        given = {name: value for name, value in vars(record).items() if value is not None}
        self._session.save(insert_job(tuple(given)), stored(given), None)
        return record

    def save(self, before: Record, after: Record) -> Record:
        """Write the fields that differ between a record as it was read and as it should be.

        Raises:
            Fenced: the record has another state or another owner now. The end of the transaction
                may raise it instead.
        """
        known = vars(before)
        changes = {name: value for name, value in vars(after).items() if value != known[name]}
        fence = {
            "submission_id_before": before.submission_id,
            "state_before": before.state,
            "owner_before": before.owner,
            "queued_until_before": before.queued_until,
        }
        if changes:
            fenced = f"Request {before.submission_id} is no longer {before.state} here."
            self._session.save(update_job(tuple(changes)), stored(fence | changes), fenced)
        return after


def read(statement: Statement, **values: object) -> Read:
    """A read to announce, see `Session.ahead`."""
    return statement, stored(values)


def stored(values: Values) -> dict[str, object]:
    """Values as both engines store them: dates as seconds since 1970 UTC, booleans as 0 and 1."""
    return {
        name: value if type(value) in _STORED_AS_THEY_ARE else _stored(name, value)
        for name, value in values.items()
    }


def seconds(date: datetime) -> float:
    """A date as it is stored: seconds since 1970 UTC."""
    return (date - _EPOCH).total_seconds()


def date(stored_seconds: float | None) -> datetime | None:
    """A stored date. One after the year 9999 becomes None, so that it does not hide a paid job."""
    if stored_seconds is None:
        return None
    try:
        return _EPOCH + timedelta(seconds=stored_seconds)
    except OverflowError:
        return None


def among(submission_ids: Collection[str]) -> str:
    """Several ids as one value of a statement, in JSON."""
    return json.dumps(list(submission_ids))


def _stored(name: str, value: object) -> object:
    match value:
        case str():
            return _stored_text(value)
        case datetime():
            return seconds(value)
        case bool():
            return int(value)
        case int() if name == "seed":
            return str(value)
        case dict():
            return canonical_json(value)
        case tuple():  # of differences
            return json.dumps([each.model_dump() for each in value])
    return value


def _stored_text(text: str) -> str:
    if isinstance(text, State) and text is State.QUEUED:
        return State.NOT_SENT.value
    if text.isascii() and "\0" not in text:
        return str(text)
    # Half a surrogate pair is valid in JSON but not in UTF-8. PostgreSQL stores no NUL.
    return text.replace("\0", "").encode(errors="replace").decode()


def _record(row: Sequence[Any]) -> Record:
    values = dict(zip(_FIELDS, row, strict=True))
    values["arguments"] = json.loads(values["arguments"])
    values["inspection"] = _differences(values["inspection"])
    if values["queued_until"] is not None and values["state"] == State.NOT_SENT:
        values["state"] = State.QUEUED
    for name in _DATES:
        # Not by pydantic: it reads the number of a date in the year 9999 as milliseconds.
        if values[name] is not None:
            values[name] = date(values[name])
    return Record.model_validate(values)


def _differences(text: str | None) -> tuple[Difference, ...] | None:
    """An inspection as it was stored; None if it cannot be read, so that it hides no paid job."""
    names = Difference.model_fields
    try:
        stored = None if text is None else json.loads(text)
        if not isinstance(stored, list):
            return None
        return tuple(Difference(**{name: str(each[name]) for name in names}) for each in stored)
    except (ValueError, TypeError, KeyError):
        return None
