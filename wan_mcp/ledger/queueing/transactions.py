"""`Queue` on every engine. Each method is one transaction and runs in one thread.

The methods are documented in `contract.Queue`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from wan_mcp.ledger import rules
from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.contract import Fenced
from wan_mcp.ledger.equal_requests import EqualRequests
from wan_mcp.ledger.expected_price import expected_price
from wan_mcp.ledger.queueing import rules as queue_rules
from wan_mcp.ledger.queueing.contract import Next, Place
from wan_mcp.ledger.queueing.order import order_of
from wan_mcp.ledger.record import WITHDRAWN, Record, State
from wan_mcp.ledger.rows import Rows
from wan_mcp.ledger.session import Session
from wan_mcp.ledger.spending_limits import (
    DAY_SECONDS,
    MINUTE_SECONDS,
    LimitReached,
    NoRoom,
    PriceRose,
    is_in_flight,
)
from wan_mcp.ledger.wallets import quotas as quota_rules
from wan_mcp.ledger.wallets.counting import Spending, counted
from wan_mcp.ledger.wallets.members import require_current, version_asked
from wan_mcp.ledger.wallets.quotas import Counted, Quota
from wan_mcp.ledger.wallets.scope import some, wallet_scope
from wan_mcp.ledger.wallets.workspace import Workspace


class Waiting(NamedTuple):
    """A queued request."""

    submission_id: str
    account: str


T = TypeVar("T", Record, Waiting)


class QueueTransactions:
    """The queued requests of all accounts, as one process uses them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rows = Rows(session)
        self._equal_requests = EqualRequests(self._rows)

    def waiting(self, wallet: str) -> list[Record]:
        everybody = wallet_scope(wallet)
        return self._in_turns(
            self._rows.find(everybody.over(sql.queue.QUEUED_JOBS), **everybody.values)
        )

    def next(
        self,
        wallet: str,
        usual: Sequence[Quota],
        quotas: Mapping[str, Sequence[Quota]] | None,
    ) -> Next | None:
        everybody, now = wallet_scope(wallet), self._session.now()
        firsts = self._rows.find(everybody.over(sql.queue.FIRST_QUEUED), **everybody.values)
        found: list[Next] = []
        for first in self._in_turns(firsts):
            allowed = usual if quotas is None else quotas.get(first.account, ())
            if not allowed or any(quota.limits.read_only for quota in allowed):
                continue  # another server may send it
            wait = queue_rules.wait_for_room(self._counted(first.workspace, allowed), now)
            if wait == 0:
                return Next(first, wait)
            found.append(Next(first, wait))
        return min(found, key=lambda each: (each.wait is None, each.wait or 0.0), default=None)

    def places(
        self, workspace: Workspace, quotas: Sequence[Quota], typical: float | None
    ) -> dict[str, Place]:
        everybody = wallet_scope(workspace.wallet)
        found = self._rows.values(everybody.over(sql.queue.QUEUED_IDS), **everybody.values)
        waiting = self._in_turns([Waiting(*each) for each in found])
        if all(each.account != workspace.name for each in waiting):
            return {}
        starts = [self._starts(each, waiting, typical) for each in self._counted(workspace, quotas)]
        return {
            id: Place(place, queue_rules.latest([known.get(id) for known in starts]))
            for place, (id, account) in enumerate(waiting, 1)
            if account == workspace.name
        }

    def dispatch(
        self, record: Record, estimate: float | None, quotas: Sequence[Quota]
    ) -> Record | None:
        across = quota_rules.across_wallets(quotas)
        people = version_asked(quotas)
        with self._session.transaction(record.workspace.wallet, ahead=people, across=across):
            require_current(self._rows, quotas)
            first = self._rows.first(sql.queue.FIRST_QUEUED, account=record.account)
            if first is None or first.submission_id != record.submission_id:
                return None
            return self._dispatch(first, estimate, quotas)

    def put_back(self, record: Record) -> Record:
        with self._session.transaction(record.workspace.wallet):
            known = self._rows.record(record.submission_id)
            may_enter = rules.may_enter(known, State.QUEUED, self._session.me)
            # Each turn has a date of its own: a report about one turn must not end the next.
            is_of_this_turn = known.created_at == record.created_at
            if record.queued_until is None or not may_enter or not is_of_this_turn:
                raise Fenced(f"Request {known.submission_id} is {known.state}: it was not unsent.")
            return self._rows.save(known, queue_rules.put_back(known, record))

    def cancel(self, record: Record, only_if_alone: bool) -> Record:
        with self._session.transaction(record.workspace.wallet):
            known = self._rows.record(record.submission_id)
            if known.state is not State.QUEUED:
                raise Fenced(f"Request {known.submission_id} is not queued any more.")
            name = rules.joined_name(known.submission_id)
            if only_if_alone and self._rows.values(sql.coordination.KEY, account=name):
                raise Fenced(f"Others wait for request {known.submission_id}.")
            return self._end(known, WITHDRAWN)

    def end_all(self, wallet: str, why: str) -> list[Record]:
        with self._session.transaction(wallet):
            return [self._end(record, why) for record in self.waiting(wallet)]

    # The methods below run inside the transaction of a method above.

    def _in_turns(self, waiting: Sequence[T]) -> list[T]:
        names = frozenset(each.account for each in waiting)
        if len(names) < 2:
            return list(waiting)
        among, now = some(names), self._session.now()
        turns = self._rows.values(
            among.over(sql.spending.LAST_TURNS), **among.values, now=now, within=DAY_SECONDS
        )
        return queue_rules.in_turns(waiting, {each[0]: each[1] for each in turns})

    def _starts(
        self, counted: Counted[Spending], waiting: Sequence[Waiting], typical: float | None
    ) -> dict[str, float]:
        """When requests are probably sent, as far as one quota decides it, by their ids."""
        quota, spending = counted
        ids = [
            each.submission_id
            for each in waiting
            if quota.workspaces is None or each.account in quota.workspaces
        ]
        running = [each.age for each in spending.in_flight() if is_in_flight(each)]
        ages = spending.submit_ages(MINUTE_SECONDS)
        starts = queue_rules.starts_in(len(ids), quota.limits, running, ages, typical)
        return {} if starts is None else dict(zip(ids, starts, strict=True))

    def _dispatch(
        self, record: Record, estimate: float | None, quotas: Sequence[Quota]
    ) -> Record | None:
        order = order_of(record)
        if order is None:
            self._end(record, queue_rules.NO_ORDER)
            return None
        lookups = rules.lookups(record.account, order.wanted)
        now = self._session.now()
        if equal := self._equal_requests.find(record.account, lookups, now, queued=False):
            # Only a server of a version without a queue can have paid for it meanwhile.
            id = equal.record.public_id
            self._end(record, f"An equal request was sent in the meantime: its id is {id}.")
            return None
        self._session.before_payment()
        charges = self._rows.charges(record.account)
        price = expected_price(estimate, order.wanted, charges)
        asked = [quota.agreed_to(order.agreed) for quota in quotas]
        try:
            limited = self._counted(record.workspace, asked)
            quota_rules.check(limited, now, price.credits, price.why)
        except NoRoom:
            return None
        except (LimitReached, PriceRose) as refusal:
            self._end(record, f"When its turn came, it was refused. {refusal.what}")
            return None
        sent = queue_rules.dispatched(record, self._session.me, now, price.credits)
        return self._rows.save(record, sent)

    def _end(self, record: Record, why: str) -> Record:
        now = self._session.now()
        return self._rows.save(record, rules.concluded(record, State.NOT_SENT, why, now))

    def _counted(self, workspace: Workspace, quotas: Sequence[Quota]) -> list[Counted[Spending]]:
        now = self._session.now()
        return counted(self._rows, workspace, quotas, now, counts_queue=False)
