"""Counts against quotas: reads from the store the requests of workspaces, and their cost."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.expected_price import SEARCHED_JOBS, Balance, Totals
from wan_mcp.ledger.rows import Rows, date, read
from wan_mcp.ledger.session import Read
from wan_mcp.ledger.spending_limits import (
    DAY_SECONDS,
    MINUTE_SECONDS,
    NOTHING_QUEUED,
    InFlightJob,
    Queued,
    SpendingLimits,
)
from wan_mcp.ledger.statements.dialects import Statement
from wan_mcp.ledger.wallets.members import names_of_wallet
from wan_mcp.ledger.wallets.quotas import Counted, Quota
from wan_mcp.ledger.wallets.scope import some, with_wallet
from wan_mcp.ledger.wallets.workspace import Workspace


class Together:
    """The figures that several quotas count, read once for all of them together.

    In PostgreSQL each query takes time, however few records it is about, and a claim holds the
    lock of the wallet meanwhile. Answers are kept, so nothing may change before the last query.

    Args:
        reader: the workspace that asks.
        counted: the workspaces that each quota counts; None for the wallet of the reader.

    Attributes:
        of_wallet: the names on that wallet, if a quota counts it.
        day: the values of a query about the last 24 hours.
    """

    def __init__(
        self,
        rows: Rows,
        reader: Workspace,
        counted: Collection[frozenset[str] | None],
        now: datetime,
    ) -> None:
        self.rows = rows
        self.reader = reader
        self.day = {"now": now, "within": DAY_SECONDS}
        self.of_wallet = names_of_wallet(rows, reader) if None in counted else frozenset[str]()
        others = frozenset[str]().union(*filter(None, counted)) - self.of_wallet
        self._scope = with_wallet(reader, others) if None in counted else some(others)
        self._found: dict[object, Sequence[Sequence[Any]]] = {}

    def reads(self, limits: Collection[SpendingLimits]) -> Iterator[Read]:
        """The reads of `spending_limits.check`, as long as every price is known."""
        yield self._read(sql.queue.QUEUED_COSTS)
        if any(each.credits_per_day is not None for each in limits):
            yield self._read(sql.spending.PAID, **self.day)
        if any(each.in_flight is not None for each in limits):
            yield self._read(sql.spending.IN_FLIGHT, **self.day)
        if any(each.submits_per_minute is not None for each in limits):
            yield self._read(sql.spending.SUBMIT_AGES, **self.day | {"within": MINUTE_SECONDS})

    def values(
        self, names: frozenset[str], statement: Statement, **values: object
    ) -> list[Sequence[Any]]:
        """The rows about these workspaces, of a statement whose first column is the workspace."""
        asked = statement, *values.values()
        if asked not in self._found:
            self._found[asked] = self.rows.values_of(self._read(statement, **values))
        return [row for row in self._found[asked] if row[0] in names]

    def _read(self, statement: Statement, **values: object) -> Read:
        return read(self._scope.over(statement), **self._scope.values, **values)


class Spending:
    """`spending_limits.Spending` inside the transaction of a claim.

    The engine counts: an agent may start hundreds of jobs a day, and every claim counts them all.

    Args:
        workspaces: whose records count; None for the whole wallet of the reader.
        counts_queue: whether queued requests count, in full; False for one whose turn has come.
    """

    def __init__(
        self,
        together: Together,
        workspaces: frozenset[str] | None,
        *,
        counts_queue: bool = True,
    ) -> None:
        self.together = together
        self._names = together.of_wallet if workspaces is None else workspaces
        self._counts_queue = counts_queue

    def highest_price(self) -> float:
        return float(self._alone(sql.spending.HIGHEST_PRICE)[0][0] or 0)

    def paid(self) -> tuple[float, int]:
        found, queued = self._each(sql.spending.PAID, **self.together.day), self.queued()
        credits = sum((float(known) for _, known, _ in found), queued.credits)
        return credits, sum((int(unpriced) for *_, unpriced in found), queued.without_price)

    def payments(self, unpriced: float) -> list[tuple[float, float]]:
        found = self._alone(sql.spending.PAYMENTS, **self.together.day, unpriced=unpriced)
        queued = self.queued()
        reserved = queued.credits + queued.without_price * unpriced
        # What is queued is paid now at the earliest.
        return [(age, credits) for age, credits in found] + [(0.0, reserved)] * bool(reserved)

    def queued(self) -> Queued:
        """The queued requests that count; none if this request was queued itself."""
        return self._queued if self._counts_queue else NOTHING_QUEUED

    @cached_property
    def _queued(self) -> Queued:
        queued = NOTHING_QUEUED
        for _, *counted in self._each(sql.queue.QUEUED_COSTS):
            queued = Queued(*(sum(both) for both in zip(queued, counted, strict=True)))
        return queued

    def in_flight(self) -> list[InFlightJob]:
        found = self._each(sql.spending.IN_FLIGHT, **self.together.day)
        own = self.together.reader.name
        return [
            InFlightJob(state, age, id if account == own else "")
            for account, state, age, id in found
        ]

    def totals(self) -> Totals:
        """The purchases and their cost, in 24 hours and in total."""
        [totals] = self._alone(sql.spending.TOTALS, **self.together.day)
        return Totals(*totals)

    def balance(self) -> Balance | None:
        """The balance that PixelDojo reported last; None if it is not among the newest answers."""
        found = self._alone(sql.spending.LAST_BALANCE, limit=SEARCHED_JOBS)
        for credits, reported_at in found:
            if at := date(reported_at):
                return Balance(float(credits), at)
        return None

    def submit_ages(self, within: float) -> list[float]:
        found = self._each(sql.spending.SUBMIT_AGES, **self.together.day | {"within": within})
        return [age for _, age in found]

    def _each(self, statement: Statement, **values: object) -> Sequence[Sequence[Any]]:
        """The rows of a statement that is run for all quotas together."""
        return self.together.values(self._names, statement, **values)

    def _alone(self, statement: Statement, **values: object) -> Sequence[Sequence[Any]]:
        """The rows of a statement that is run for this one only, because it is rarely needed."""
        scope = some(self._names)
        return self.together.rows.values(scope.over(statement), **scope.values, **values)


def counted(
    rows: Rows,
    workspace: Workspace,
    quotas: Iterable[Quota],
    now: datetime,
    *,
    counts_queue: bool = True,
) -> list[Counted[Spending]]:
    """The quotas of a workspace, each with what counts against it."""
    quotas = list(quotas)
    together = Together(rows, workspace, [quota.workspaces for quota in quotas], now)
    return [
        Counted(quota, Spending(together, quota.workspaces, counts_queue=counts_queue))
        for quota in quotas
    ]


def reads(limited: Sequence[Counted[Spending]]) -> Iterator[Read]:
    """The reads of `quotas.check`, as long as every price is known."""
    limits = [quota.limits for quota, _ in limited]
    for _, spending in limited[:1]:  # they ask together
        yield from spending.together.reads(limits)


def spending_of(
    rows: Rows, workspace: Workspace, counted: frozenset[str] | None, now: datetime
) -> Spending:
    """The spending of these workspaces alone; None stands for the whole wallet."""
    return Spending(Together(rows, workspace, [counted], now), counted)


def whole(
    rows: Rows, workspace: Workspace, limited: Iterable[Counted[Spending]], now: datetime
) -> Spending:
    """The spending of the whole wallet, which one of the quotas usually counts already."""
    known = (spending for quota, spending in limited if quota.workspaces is None)
    return next(known, None) or spending_of(rows, workspace, None, now)
