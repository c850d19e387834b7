"""How much of each spending limit is used, as it is shown to users and operators."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from wan_mcp.ledger.record import State
from wan_mcp.ledger.spending_limits import (
    DAY_SECONDS,
    MAX_NAMED,
    MINUTE_SECONDS,
    UNKNOWN_IN_FLIGHT_SECONDS,
    FreesAt,
    Spending,
    SpendingLimits,
    frees_in,
    is_in_flight,
)


class LimitUse(NamedTuple):
    """One limit and how much of it is used.

    Attributes:
        setting: the environment variable that holds it.
        limit: its value, in the unit of what it limits; None for no limit.
        used: how much of it is used; None if that is not known, or the limit is about one job.
        frees_at: when the first part of what is used becomes free again; None if not known.
        job_ids: the jobs that use it until they end.
        whose: whose limit it is, see `wallets.quotas.Quota`; "" for the operator's setting.
    """

    setting: str
    limit: float | None
    used: float | None = None
    frees_at: FreesAt | None = None
    job_ids: tuple[str, ...] = ()
    whose: str = ""


def usage(limits: SpendingLimits, now: datetime, spending: Spending) -> list[LimitUse]:
    """Each limit, and how much of it is used, counted as `check` counts it."""
    per_job, per_day, in_flight, per_minute, *queue = settings_of(limits)
    paid, without_price = spending.paid()
    unpriced = (spending.highest_price() if without_price else 0.0) or limits.credits_per_day or 0.0
    payments = [age for age, credits in spending.payments(unpriced) if credits]
    running = [each for each in spending.in_flight() if is_in_flight(each)]
    unknown = [each.age for each in running if each.state == State.UNKNOWN]
    ages = spending.submit_ages(MINUTE_SECONDS)
    return [
        per_job,
        per_day._replace(
            used=paid + without_price * unpriced,
            frees_at=_oldest_leaves(now, DAY_SECONDS, payments),
        ),
        in_flight._replace(
            used=len(running),
            frees_at=_oldest_leaves(now, UNKNOWN_IN_FLIGHT_SECONDS, unknown),
            job_ids=tuple([each.id for each in running if each.id][:MAX_NAMED]),
        ),
        per_minute._replace(used=len(ages), frees_at=_oldest_leaves(now, MINUTE_SECONDS, ages)),
        *(each._replace(used=spending.queued().requests) for each in queue),
    ]


def settings_of(limits: SpendingLimits) -> list[LimitUse]:
    """Each limit without its use; that of the queue only if there is a queue."""
    queue = [LimitUse("WAN_MCP_MAX_QUEUED", limits.queued)] if limits.queued else []
    return [
        LimitUse("WAN_MCP_MAX_CREDITS_PER_JOB", limits.credits_per_job),
        LimitUse("WAN_MCP_MAX_CREDITS_PER_DAY", limits.credits_per_day),
        LimitUse("WAN_MCP_MAX_IN_FLIGHT", limits.in_flight),
        LimitUse("WAN_MCP_MAX_SUBMITS_PER_MINUTE", limits.submits_per_minute),
        *queue,
    ]


def _oldest_leaves(now: datetime, window: float, ages: Sequence[float]) -> FreesAt | None:
    return frees_in(now, max(window - max(ages), 0.0) if ages else None)
