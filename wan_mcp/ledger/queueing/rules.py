"""The decisions about queued requests: pure functions, without a store."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from heapq import heapify, heapreplace
from typing import Protocol, TypeVar

from wan_mcp.ledger.queueing.order import Order
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.rules import QUEUE_SECONDS
from wan_mcp.ledger.spending_limits import (
    MAX_NAMED,
    MINUTE_SECONDS,
    LimitReached,
    NoRoom,
    Spending,
    SpendingLimits,
)
from wan_mcp.ledger.wallets import quotas
from wan_mcp.ledger.wallets.quotas import Counted
from wan_mcp.wording import counted, is_or_are

NO_ORDER = "What it was to be made of is not in the ledger any more."


def must_wait(
    counted: Sequence[Counted[Spending]],
    everybody: Spending,
    now: datetime,
    estimate: float | None,
    why: str = "",
) -> bool:
    """Whether one more job has to be queued. It cannot overtake what is queued already.

    Args:
        everybody: what counts for the whole wallet. Others that are queued there may be waiting for
            the next free place, which must not be taken from them.
        estimate, why: as for `quotas.check`.

    Raises:
        LimitReached: it is refused, and not queued either.
        PriceRose: the person has not agreed to this price.
    """
    queued = everybody.queued().requests
    may_queue = all(quota.limits.queued != 0 for quota, _ in counted)
    if not may_queue or not queued:
        try:
            quotas.check(counted, now, estimate, why)
        except NoRoom:
            if not may_queue:
                raise
        else:
            return False
    quotas.check([_in_credits(each) for each in counted], now, estimate, why)
    for quota, spending in counted:
        own = queued if spending is everybody else spending.queued().requests
        most = quota.limits.queued
        if most is not None and own >= most:
            raise _is_full(most, own, spending).of(quota.whose)
    return True


def _in_credits(counted: Counted[Spending]) -> Counted[Spending]:
    # With a limit of 0, waiting does not help: there would never be room.
    given = counted.quota.limits
    in_flight = None if given.in_flight else given.in_flight
    a_minute = None if given.submits_per_minute else given.submits_per_minute
    limits = replace(given, in_flight=in_flight, submits_per_minute=a_minute)
    return counted._replace(quota=replace(counted.quota, limits=limits))


def _is_full(limit: int, queued: int, spending: Spending) -> LimitReached:
    running = [each.id for each in spending.in_flight() if each.id]
    return LimitReached(
        f"At most {counted(limit, 'request')} may be queued, and {queued} {is_or_are(queued)}.",
        setting="WAN_MCP_MAX_QUEUED",
        limit=limit,
        used=queued,
        next_step="Call wait_for_job for a job of the queue (list_jobs shows them), then repeat "
        "the same call; cancel_job makes room at once. Only the operator of this server can raise "
        "WAN_MCP_MAX_QUEUED.",
        blocking_job_ids=running[:MAX_NAMED],
    )


def wait_for_room(counted: Sequence[Counted[Spending]], now: datetime) -> float | None:
    """Seconds until another request may be sent; 0 for now, None if a job has to end first."""
    try:
        quotas.check([_of_room(each) for each in counted], now, None)
    except LimitReached as reached:
        return None if reached.frees_at is None else reached.frees_at.seconds
    return 0.0


def _of_room(counted: Counted[Spending]) -> Counted[Spending]:
    limits = counted.quota.limits
    of_room = SpendingLimits(None, None, limits.in_flight, limits.submits_per_minute)
    return counted._replace(quota=replace(counted.quota, limits=of_room))


class InQueue(Protocol):
    """A queued request of a workspace."""

    @property
    def account(self) -> str: ...


T = TypeVar("T", bound=InQueue)


def in_turns(waiting: Sequence[T], last_turns: Mapping[str, float]) -> list[T]:
    """The queued requests of a wallet in the order in which they are sent.

    Its workspaces take turns: first the one whose last turn is longest ago. Each one's requests
    keep their order.

    Args:
        waiting: in the order in which they were put in the queue.
        last_turns: when each workspace has last sent something, in seconds since 1970.
    """
    queues: dict[str, deque[T]] = {}
    for each in waiting:
        queues.setdefault(each.account, deque()).append(each)
    turns = deque(sorted(queues.values(), key=lambda own: last_turns.get(own[0].account, 0.0)))
    order: list[T] = []
    while turns:
        own = turns.popleft()
        order.append(own.popleft())
        if own:
            turns.append(own)
    return order


def queued(record: Record, order: Order) -> Record:
    """A new record as it is put in the queue."""
    until = record.created_at + timedelta(seconds=QUEUE_SECONDS)
    entered = {"queued_at": record.created_at, "queued_until": until, "queued_request": str(order)}
    return record.model_copy(update={"state": State.QUEUED, **entered})


def dispatched(record: Record, me: str, now: datetime, estimate: float | None) -> Record:
    """A queued record whose turn it is. The limits count it from now on, as if made just now."""
    cleared = {"error": None, "ended_at": None}
    taken = {"owner": me, "created_at": now, "estimate": estimate}
    return record.model_copy(update={"state": State.INTENT, **taken, **cleared})


def put_back(known: Record, claimed: Record) -> Record:
    """A record that is proven unsent, in the queue again, at the place that it had.

    Args:
        known: the record as it is stored now.
        claimed: the same as it was when its turn came.
    """
    names = ("queued_until", "queued_request", "arguments")
    restored = {name: getattr(claimed, name) for name in names}
    return known.model_copy(update={"state": State.QUEUED, "sent_at": None, **restored})


def latest(starts: Sequence[float | None]) -> float | None:
    """The last of these times; None if one of them is not known."""
    known = [each for each in starts if each is not None]
    return max(known, default=None) if len(known) == len(starts) else None


def starts_in(
    count: int,
    limits: SpendingLimits,
    running: Sequence[float],
    submitted: Sequence[float],
    typical: float | None,
) -> list[float] | None:
    """Seconds until each of the first queued requests is probably sent; None without a clue.

    Args:
        count: how many of them.
        running: how many seconds each job in flight has been running.
        submitted: the ages of the requests of the last minute, in seconds, oldest first.
        typical: seconds that a job of this account takes; None if that is not known.
    """
    places = limits.in_flight
    if places == 0 or limits.submits_per_minute == 0:
        return None
    if places is not None and typical is None:
        return None
    lasts = typical or 0.0
    free_at = [0.0] * max((places or 0) - len(running), 0)
    free_at += sorted(max(lasts - age, 0.0) for age in running)[-places:] if places else []
    heapify(free_at)
    sent_at = [-age for age in submitted]
    for _ in range(count):
        at = free_at[0] if free_at else 0.0
        most = limits.submits_per_minute
        if most is not None and len(sent_at) >= most:
            at = max(at, sent_at[-most] + MINUTE_SECONDS)
        sent_at.append(max(at, 0.0))
        if free_at:
            heapreplace(free_at, at + lasts)
    return sent_at[len(submitted) :]
