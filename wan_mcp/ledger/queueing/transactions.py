"""`Queue` on every engine. Each method is one transaction and runs in one thread.

The methods are documented in `contract.Queue`.
"""

from dataclasses import replace

from wan_mcp.ledger import rules, spending_limits
from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.contract import Fenced
from wan_mcp.ledger.equal_requests import EqualRequests
from wan_mcp.ledger.expected_price import expected_price
from wan_mcp.ledger.queueing import rules as queue_rules
from wan_mcp.ledger.queueing.contract import Next, Place
from wan_mcp.ledger.queueing.order import order_of
from wan_mcp.ledger.record import WITHDRAWN, Record, State
from wan_mcp.ledger.rows import Rows, Spending
from wan_mcp.ledger.session import Session
from wan_mcp.ledger.spending_limits import (
    MINUTE_SECONDS,
    LimitReached,
    NoRoom,
    PriceRose,
    SpendingLimits,
    is_in_flight,
)


class QueueTransactions:
    """The queued requests of all accounts, as one process uses them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rows = Rows(session)
        self._equal_requests = EqualRequests(self._rows)

    def waiting(self, account: str) -> list[Record]:
        return self._rows.find(sql.queue.QUEUED_JOBS, account=account)

    def next(self, account: str, limits: SpendingLimits) -> Next | None:
        first = self._rows.first(sql.queue.FIRST_QUEUED, account=account)
        if first is None or limits.read_only:  # another server may send it
            return None
        now = self._session.now()
        return Next(first, queue_rules.wait_for_room(limits, now, self._spending(account)))

    def places(
        self, account: str, limits: SpendingLimits, typical: float | None
    ) -> dict[str, Place]:
        waiting = [id for (id,) in self._rows.values(sql.queue.QUEUED_IDS, account=account)]
        if not waiting:
            return {}
        spending = self._spending(account)
        running = [each.age for each in spending.in_flight() if is_in_flight(each)]
        ages = spending.submit_ages(MINUTE_SECONDS)
        starts = queue_rules.starts_in(len(waiting), limits, running, ages, typical)
        return {
            id: Place(ahead + 1, None if starts is None else starts[ahead])
            for ahead, id in enumerate(waiting)
        }

    def dispatch(
        self, record: Record, estimate: float | None, limits: SpendingLimits
    ) -> Record | None:
        with self._session.transaction(record.account):
            first = self._rows.first(sql.queue.FIRST_QUEUED, account=record.account)
            if first is None or first.submission_id != record.submission_id:
                return None
            return self._dispatch(first, estimate, limits)

    def put_back(self, record: Record) -> Record:
        with self._session.transaction(record.account):
            known = self._rows.record(record.submission_id)
            may_enter = rules.may_enter(known, State.QUEUED, self._session.me)
            if record.queued_until is None or not may_enter:
                raise Fenced(f"Request {known.submission_id} is {known.state}: it was not unsent.")
            return self._rows.save(known, queue_rules.put_back(known, record))

    def cancel(self, record: Record, only_if_alone: bool) -> Record:
        with self._session.transaction(record.account):
            known = self._rows.record(record.submission_id)
            if known.state is not State.QUEUED:
                raise Fenced(f"Request {known.submission_id} is not queued any more.")
            name = rules.joined_name(known.submission_id)
            if only_if_alone and self._rows.values(sql.coordination.KEY, account=name):
                raise Fenced(f"Others wait for request {known.submission_id}.")
            return self._end(known, WITHDRAWN)

    def end_all(self, account: str, why: str) -> list[Record]:
        with self._session.transaction(account):
            return [self._end(record, why) for record in self.waiting(account)]

    # The methods below run inside the transaction of a method above.

    def _dispatch(
        self, record: Record, estimate: float | None, limits: SpendingLimits
    ) -> Record | None:
        order = order_of(record)
        if order is None:
            self._end(record, queue_rules.NO_ORDER)
            return None
        lookups = rules.lookups(record.account, order.wanted)
        now = self._session.now()
        if equal := self._equal_requests.find(record.account, lookups, now, queued=False):
            # Only a server of a version without a queue pays for what is queued.
            id = equal.record.public_id
            self._end(record, f"An equal request was sent in the meantime: its id is {id}.")
            return None
        self._session.before_payment()
        charges = self._rows.charges(record.account)
        price = expected_price(estimate, order.wanted, charges)
        limits = replace(limits, agreed=order.agreed)
        try:
            spending = self._spending(record.account)
            spending_limits.check(limits, now, price.credits, spending, price.why)
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

    def _spending(self, account: str) -> Spending:
        return Spending(self._rows, account, self._session.now(), counts_queue=False)
