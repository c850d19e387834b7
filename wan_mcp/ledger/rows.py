"""Reads and writes records through an engine's session, fenced against other processes."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.contract import Fenced, LedgerChanged
from wan_mcp.ledger.expected_price import SEARCHED_JOBS, Balance, Charge, Totals
from wan_mcp.ledger.fingerprint import canonical_json
from wan_mcp.ledger.record import OPEN, Record, State
from wan_mcp.ledger.spending_limits import DAY_SECONDS, NOTHING_QUEUED, InFlightJob, Queued
from wan_mcp.ledger.statements.dialects import Statement
from wan_mcp.ledger.statements.lists import PLACE, recent
from wan_mcp.ledger.statements.records import JOB, insert_job, update_job
from wan_mcp.ledger.wallets.quotas import Counted, Quota
from wan_mcp.ledger.wallets.scope import Scope, some, whole_wallet
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.models import Cursor, Difference, Job

Values = Mapping[str, object]

FIRST_CHARGES = 4
"""How many of the newest jobs are searched first for a charge: most jobs are like the last ones."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = tuple(Record.model_fields)
_STORED_AS_THEY_ARE = frozenset({type(None), float})
_DATES = frozenset(name for name in _FIELDS if name.endswith(("_at", "_until")))


class KeptJob(NamedTuple):
    """A paid job that could not be written to the store.

    Attributes:
        record: its request, as it was claimed.
        forget: removes it, once it is in the store.
    """

    record: Record
    job: Job
    forget: Callable[[], None]


class Place(NamedTuple):
    """Where a record stands in a list that begins with the newest, and whether it had ended."""

    created_at: float
    number: int
    is_ended: bool


class Session(Protocol):
    """One connection to a store, used by one thread. This is all in which engines differ."""

    @property
    def me(self) -> str:
        """The name under which this process owns records; "" in a session that only reads."""

    def now(self) -> datetime:
        """The date and time by the engine's clock, UTC."""

    def query(self, statement: Statement, values: Values) -> Sequence[Sequence[Any]]:
        """The rows that a statement finds."""

    def execute(self, statement: Statement, values: Values) -> int:
        """Make a change. Returns the number of rows that it changed."""

    def transaction(
        self, account: str | None = None, *, patient: bool = True
    ) -> AbstractContextManager[None]:
        """All or nothing. Two transactions for the same wallet never overlap.

        Args:
            account: the wallet whose records change; None for changes of what processes share while
                they wait. Two transactions without a wallet never overlap either.
            patient: whether to wait for other writers as long as a payment may wait.
        """

    def is_dead(self, owner: str) -> bool:
        """Whether the process of that name is dead. Once true, it stays true."""

    def revision(self) -> int:
        """A number that changes when another process has written."""

    def change(self) -> LedgerChanged | None:
        """Why this is no longer the store that other processes would open; None if it is.

        While it can be written without harm, changes go on to what this process has open.
        """

    def before_payment(self) -> None:
        """Raises LedgerChanged when a payment that is recorded here might be made again."""

    def commit_point(self, submission_id: str) -> None:
        """Check the store once more: the request is `sending`, and its first byte leaves next.

        Raises:
            LedgerChanged: it must not be sent.
        """

    def keep(self, record: Record, job: Job) -> bool:
        """Keep a paid job outside of the store, on disk. Returns whether that was possible."""

    def kept(self) -> Iterable[KeptJob]:
        """The paid jobs that are kept outside of the store, of any process."""

    def erase(self, record: Record) -> bool:
        """Remove from the disk what earlier versions of a forgotten record have left there.

        Returns:
            False if something may be left, because other programs were reading all the time.
        """


class Engine(Protocol):
    """How an engine opens its store. Its methods are called in the ledger's thread only.

    Attributes:
        not_writable: errors of `open` after which the store may still be readable.
    """

    not_writable: tuple[type[Exception], ...]

    def open(self, opening: ExitStack) -> Session:
        """A session on a store of this version. Closing `opening` ends the session."""

    def open_to_read(self, opening: ExitStack) -> Session:
        """A session for one read of a store that cannot be written. Closing `opening` ends it."""

    def as_ledger_errors(self) -> AbstractContextManager[None]:
        """Within it, the engine's errors become LedgerUnavailable."""


class Rows:
    """The records of all accounts, through one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, statement: Statement, **values: object) -> list[Record]:
        """The records that a statement finds."""
        return [_record(row) for row in self._session.query(statement, stored(values))]

    def first(self, statement: Statement, **values: object) -> Record | None:
        """The first record that a statement finds; None if there is none."""
        return next(iter(self.find(statement, **values)), None)

    def record(self, submission_id: str) -> Record:
        """The record with that id. Raises Fenced when there is none."""
        found = self.first(JOB, submission_id=submission_id)
        if found is None:
            raise Fenced(f"The ledger has no request {submission_id}.")
        return found

    def place(self, account: str, cursor: Cursor) -> Place | None:
        """The place that a cursor stands for; None if the account has no such record."""
        found = self.values(PLACE, account=account, submission_id=cursor.submission_id)
        return Place(found[0][0], found[0][1], cursor.is_ended) if found else None

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
        place = {} if after is None else {"created_at": after.created_at, "number": after.number}
        statement = recent(ended, None if after is None else after.is_ended)
        return self.find(scope.over(statement), **scope.values, limit=limit, **place)

    def charges(self, account: str) -> Iterator[Charge]:
        """What the newest jobs were charged, newest first. Few are read before more are needed."""
        known = 0
        for limit in (FIRST_CHARGES, SEARCHED_JOBS):
            rows = self.values(sql.spending.CHARGES, account=account, limit=limit)
            for arguments, credits in rows[known:]:
                if credits is not None and credits > 0:
                    yield Charge(json.loads(arguments), credits)
            known = len(rows)

    def values(self, statement: Statement, **values: object) -> Sequence[Sequence[Any]]:
        """The rows that a statement finds, as they are stored."""
        return self._session.query(statement, stored(values))

    def write(self, statement: Statement, **values: object) -> int:
        """Make a change. Returns the number of rows that it changed."""
        return self._session.execute(statement, stored(values))

    def insert(self, record: Record) -> Record:
        """Add a record."""
        given = {name: value for name, value in vars(record).items() if value is not None}
        self.write(insert_job(tuple(given)), **given)
        return record

    def save(self, before: Record, after: Record) -> Record:
        """Write the fields that differ between a record as it was read and as it should be.

        Raises:
            Fenced: the record has another state or another owner now.
        """
        known = vars(before)
        changes = {name: value for name, value in vars(after).items() if value != known[name]}
        fence = {
            "submission_id_before": before.submission_id,
            "state_before": before.state,
            "owner_before": before.owner,
            "queued_until_before": before.queued_until,
        }
        if changes and self.write(update_job(tuple(changes)), **fence, **changes) != 1:
            raise Fenced(f"Request {before.submission_id} is no longer {before.state} here.")
        return after


class Spending:
    """`spending_limits.Spending` inside the transaction of a claim.

    The engine counts: an agent may start hundreds of jobs a day, and every claim counts them all.

    Args:
        scope: whose records count.
        reader: the workspace to which the ids of its jobs may be told.
        counts_queue: whether queued requests count, in full; not for one of them whose turn it is.
    """

    def __init__(
        self, rows: Rows, scope: Scope, reader: str, now: datetime, *, counts_queue: bool = True
    ) -> None:
        self._rows = rows
        self._scope = scope
        self._reader = reader
        self._counts_queue = counts_queue
        self._day = {"now": now, "within": DAY_SECONDS}

    def highest_price(self) -> float:
        return float(self._values(sql.spending.HIGHEST_PRICE)[0][0] or 0)

    def paid(self) -> tuple[float, int]:
        [(known, unpriced)] = self._values(sql.spending.PAID, **self._day)
        queued = self.queued()
        return float(known) + queued.credits, int(unpriced) + queued.without_price

    def payments(self, unpriced: float) -> list[tuple[float, float]]:
        found = self._values(sql.spending.PAYMENTS, **self._day, unpriced=unpriced)
        queued = self.queued()
        reserved = queued.credits + queued.without_price * unpriced
        # What is queued is paid at the earliest now.
        return [(age, credits) for age, credits in found] + [(0.0, reserved)] * bool(reserved)

    def queued(self) -> Queued:
        """What is queued and counts; nothing if this request was queued itself."""
        if not self._counts_queue:
            return NOTHING_QUEUED
        return Queued._make(self._values(sql.queue.QUEUED_COSTS)[0])

    def in_flight(self) -> list[InFlightJob]:
        found = self._values(sql.spending.IN_FLIGHT, **self._day)
        return [
            InFlightJob(state, age, id if account == self._reader else "")
            for state, age, id, account in found
        ]

    def totals(self) -> Totals:
        """What was bought and spent, in 24 hours and in all."""
        [totals] = self._values(sql.spending.TOTALS, **self._day)
        return Totals(*totals)

    def balance(self) -> Balance | None:
        """The balance that PixelDojo reported last; None if it is not among the newest answers."""
        found = self._values(sql.spending.LAST_BALANCE, limit=SEARCHED_JOBS)
        for credits, reported_at in found:
            if at := date(reported_at):
                return Balance(float(credits), at)
        return None

    def submit_ages(self, within: float) -> list[float]:
        known = self._day | {"within": within}
        return [age for (age,) in self._values(sql.spending.SUBMIT_AGES, **known)]

    def _values(self, statement: Statement, **values: object) -> Sequence[Sequence[Any]]:
        return self._rows.values(self._scope.over(statement), **self._scope.values, **values)


def counted(
    rows: Rows,
    workspace: Workspace,
    quotas: Iterable[Quota],
    now: datetime,
    *,
    counts_queue: bool = True,
) -> list[Counted]:
    """The quotas of a workspace, each with what counts against it."""

    def scope(quota: Quota) -> Scope:
        return whole_wallet(workspace) if quota.workspaces is None else some(quota.workspaces)

    return [
        Counted(
            quota,
            Spending(rows, scope(quota), workspace.name, now, counts_queue=counts_queue),
        )
        for quota in quotas
    ]


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
