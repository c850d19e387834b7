"""The decisions about queued requests: pure functions, without a store."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from heapq import heapify, heapreplace

from wan_mcp.ledger import spending_limits
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
from wan_mcp.wording import counted, is_or_are

NO_ORDER = "What it was to be made of is not in the ledger any more."


def must_wait(
    limits: SpendingLimits,
    now: datetime,
    estimate: float | None,
    spending: Spending,
    why: str = "",
) -> bool:
    """Whether one more job has to be queued. It cannot overtake what is queued already.

    Args:
        estimate, why: as for `spending_limits.check`.

    Raises:
        LimitReached: it is refused, and not queued either.
        PriceRose: the person has not agreed to this price.
    """
    queued = spending.queued().requests
    if not limits.queued or not queued:
        try:
            spending_limits.check(limits, now, estimate, spending, why)
        except NoRoom:
            if not limits.queued:
                raise
        else:
            return False
    in_credits = replace(limits, in_flight=None, submits_per_minute=None)
    spending_limits.check(in_credits, now, estimate, spending, why)
    if queued >= limits.queued:
        raise _is_full(limits.queued, queued, [each.id for each in spending.in_flight()])
    return True


def _is_full(limit: int, queued: int, running: Sequence[str]) -> LimitReached:
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


def wait_for_room(limits: SpendingLimits, now: datetime, spending: Spending) -> float | None:
    """Seconds until another request may be sent; 0 for now, None until a job has ended."""
    of_room = SpendingLimits(None, None, limits.in_flight, limits.submits_per_minute)
    try:
        spending_limits.check(of_room, now, None, spending)
    except LimitReached as reached:
        return None if reached.frees_at is None else reached.frees_at.seconds
    return 0.0


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
