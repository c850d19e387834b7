"""What counts against quotas: the requests of workspaces, and what they cost, from the store."""

from collections.abc import Collection, Iterable, Sequence
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
from wan_mcp.ledger.wallets.quotas import Counted, Quota
from wan_mcp.ledger.wallets.scope import some, whole_wallet, with_wallet
from wan_mcp.ledger.wallets.workspace import Workspace


class Together:
    """What several quotas count, asked once about the records of all of them.

    In PostgreSQL each question takes its time, however few records it is about, and a claim has
    the lock of the wallet meanwhile. An answer is kept, so nothing may change before the last one.

    Args:
        reader: the workspace that asks.
        counted: the workspaces that each quota counts; None for the wallet of the reader.
    """

    def __init__(
        self, rows: Rows, reader: Workspace, counted: Collection[frozenset[str] | None]
    ) -> None:
        self.rows = rows
        self.reader = reader
        listed = frozenset[str]().union(*filter(None, counted))
        self._scope = with_wallet(reader, listed) if None in counted else some(listed)
        self._known: dict[object, Sequence[Sequence[Any]]] = {}

    def read(self, statement: Statement, **values: object) -> Read:
        """The question of a statement whose first column is the workspace."""
        return read(self._scope.over(statement), **self._scope.values, **values)

    def names(self, workspaces: frozenset[str] | None) -> list[Read]:
        """The question whose records are meant, where the answer is in the ledger."""
        reader = self.reader
        is_known = workspaces is not None or reader.is_alone
        asked = read(sql.coordination.WORKSPACES, shared_wallet=reader.wallet)
        return [] if is_known else [asked]

    def values(
        self, workspaces: frozenset[str] | None, statement: Statement, **values: object
    ) -> list[Sequence[Any]]:
        """What the statement finds about these workspaces."""
        among = {self.reader.wallet} if workspaces is None else workspaces
        named = [name for asked in self.names(workspaces) for (name,) in self._once(asked)]
        found = self._once(self.read(statement, **values))
        return [row for row in found if row[0] in among.union(named)]

    def _once(self, asked: Read) -> Sequence[Sequence[Any]]:
        statement, values = asked
        key = statement, *values.values()
        if key not in self._known:
            self._known[key] = self.rows.values_of(asked)
        return self._known[key]


class Spending:
    """`spending_limits.Spending` inside the transaction of a claim.

    The engine counts: an agent may start hundreds of jobs a day, and every claim counts them all.

    Args:
        workspaces: whose records count; None for the whole wallet of the reader.
        counts_queue: whether queued requests count, in full; not for one of them whose turn it is.
    """

    def __init__(
        self,
        together: Together,
        workspaces: frozenset[str] | None,
        now: datetime,
        *,
        counts_queue: bool = True,
    ) -> None:
        self._together = together
        self._workspaces = workspaces
        self._counts_queue = counts_queue
        self._day = {"now": now, "within": DAY_SECONDS}

    def reads(self, limits: SpendingLimits) -> list[Read]:
        """What `spending_limits.check` asks for, as long as every price is known."""
        asked, day = self._together, self._day
        paid = asked.read(sql.spending.PAID, **day)
        in_flight = asked.read(sql.spending.IN_FLIGHT, **day)
        ages = asked.read(sql.spending.SUBMIT_AGES, **day | {"within": MINUTE_SECONDS})
        return [
            *asked.names(self._workspaces),
            asked.read(sql.queue.QUEUED_COSTS),
            *[paid] * (limits.credits_per_day is not None),
            *[in_flight] * (limits.in_flight is not None),
            *[ages] * (limits.submits_per_minute is not None),
        ]

    def highest_price(self) -> float:
        return float(self._alone(sql.spending.HIGHEST_PRICE)[0][0] or 0)

    def paid(self) -> tuple[float, int]:
        found, queued = self._each(sql.spending.PAID, **self._day), self.queued()
        credits = sum((float(known) for _, known, _ in found), queued.credits)
        return credits, sum((int(unpriced) for *_, unpriced in found), queued.without_price)

    def payments(self, unpriced: float) -> list[tuple[float, float]]:
        found = self._alone(sql.spending.PAYMENTS, **self._day, unpriced=unpriced)
        queued = self.queued()
        reserved = queued.credits + queued.without_price * unpriced
        # What is queued is paid at the earliest now.
        return [(age, credits) for age, credits in found] + [(0.0, reserved)] * bool(reserved)

    def queued(self) -> Queued:
        """What is queued and counts; nothing if this request was queued itself."""
        return self._queued if self._counts_queue else NOTHING_QUEUED

    @cached_property
    def _queued(self) -> Queued:
        queued = NOTHING_QUEUED
        for _, *counted in self._each(sql.queue.QUEUED_COSTS):
            queued = Queued(*(sum(both) for both in zip(queued, counted, strict=True)))
        return queued

    def in_flight(self) -> list[InFlightJob]:
        found = self._each(sql.spending.IN_FLIGHT, **self._day)
        own = self._together.reader.name
        return [
            InFlightJob(state, age, id if account == own else "")
            for account, state, age, id in found
        ]

    def totals(self) -> Totals:
        """What was bought and spent, in 24 hours and in all."""
        [totals] = self._alone(sql.spending.TOTALS, **self._day)
        return Totals(*totals)

    def balance(self) -> Balance | None:
        """The balance that PixelDojo reported last; None if it is not among the newest answers."""
        found = self._alone(sql.spending.LAST_BALANCE, limit=SEARCHED_JOBS)
        for credits, reported_at in found:
            if at := date(reported_at):
                return Balance(float(credits), at)
        return None

    def submit_ages(self, within: float) -> list[float]:
        found = self._each(sql.spending.SUBMIT_AGES, **self._day | {"within": within})
        return [age for _, age in found]

    def _each(self, statement: Statement, **values: object) -> Sequence[Sequence[Any]]:
        """What is asked for all quotas together."""
        return self._together.values(self._workspaces, statement, **values)

    def _alone(self, statement: Statement, **values: object) -> Sequence[Sequence[Any]]:
        """What is asked for this one only, because it is rarely needed."""
        reader, workspaces = self._together.reader, self._workspaces
        scope = whole_wallet(reader) if workspaces is None else some(workspaces)
        return self._together.rows.values(scope.over(statement), **scope.values, **values)


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
    together = Together(rows, workspace, [quota.workspaces for quota in quotas])
    return [
        Counted(quota, Spending(together, quota.workspaces, now, counts_queue=counts_queue))
        for quota in quotas
    ]


def spending_of(
    rows: Rows, workspace: Workspace, counted: frozenset[str] | None, now: datetime
) -> Spending:
    """What counts for these workspaces alone, None for the whole wallet."""
    return Spending(Together(rows, workspace, [counted]), counted, now)


def whole(
    rows: Rows, workspace: Workspace, limited: Iterable[Counted[Spending]], now: datetime
) -> Spending:
    """What counts for the wallet, which usually is counted for one of the quotas already."""
    known = (spending for quota, spending in limited if quota.workspaces is None)
    return next(known, None) or spending_of(rows, workspace, None, now)
