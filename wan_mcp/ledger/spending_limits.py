"""How much may be spent: the rule itself, without a database.

An engine calls `check` inside the transaction that inserts the row; outside of it two claims at
once could both find room for one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from wan_mcp.errors import SOON_SECONDS, Figures, Refused
from wan_mcp.ledger.record import State
from wan_mcp.wording import counted, is_or_are, number, was_or_were


@dataclass(frozen=True)
class SpendingLimits:
    """What the operator allows, per account; None switches a cap off. No tool argument comes here.

    Attributes:
        credits_per_job: refused above that; also refused when the price cannot be had.
        credits_per_day: over a sliding 24 hours, across restarts.
        in_flight: jobs at once.
        submits_per_minute: paid requests in 60 s.
    """

    credits_per_job: float | None = None
    credits_per_day: float | None = 200
    in_flight: int | None = 3
    submits_per_minute: int | None = 6


@dataclass(frozen=True)
class FreesAt:
    """When a cap lets the same call through by itself.

    Attributes:
        seconds: how long that takes.
        at: when that is.
    """

    seconds: float
    at: datetime

    def __str__(self) -> str:
        # Both are rounded up: a call at the time told must not come too early.
        if self.seconds <= SOON_SECONDS:
            return f"There is room again in {max(math.ceil(self.seconds), 1)} s."
        minute = self.at + timedelta(minutes=1, microseconds=-1)
        return f"There is room again at {minute:%Y-%m-%d %H:%M} UTC."


class LimitReached(Refused):
    """A cap of the operator stands against the paid call; nothing was sent.

    Args:
        setting: the environment variable that holds the cap.
        limit: its value.
        used: how much of it is used up; for the cap per job, this job's estimate if there is one.
        frees_at: when enough of it frees up, if that is known.
        next_step: another way out than the setting, where there is one.
        blocking_job_ids: the jobs that use it up.
    """

    code = "limit_reached"
    advice = (
        "Tell the user. Only the operator of this server can change the setting; no argument can."
    )

    def __init__(
        self,
        what: str,
        *,
        setting: str,
        limit: float,
        used: float | None,
        frees_at: FreesAt | None = None,
        next_step: str | None = None,
        blocking_job_ids: Sequence[str] = (),
    ) -> None:
        when = "" if frees_at is None else f" {frees_at}"
        step = next_step if frees_at is None else _once_there_is(frees_at, setting)
        super().__init__(
            f"{what}{when} The setting is {setting}.",
            next_step=step,
            retry_after=None if frees_at is None else frees_at.seconds,
        )
        self.retry_safe = frees_at is not None and frees_at.seconds <= SOON_SECONDS
        self.figures = Figures(setting, limit, used, tuple(blocking_job_ids))
        self.setting = setting
        self.limit = limit
        self.used = used
        self.frees_at = frees_at


def _once_there_is(frees_at: FreesAt, setting: str) -> str:
    if frees_at.seconds <= SOON_SECONDS:
        return "Repeat the same call then."
    return (
        "Tell the user, and repeat the same call then. Sooner only the operator of this server can "
        f"help, by raising {setting}."
    )


DAY_SECONDS = 86_400.0
MINUTE_SECONDS = 60.0
UNKNOWN_IN_FLIGHT_SECONDS = 3_600.0
"""How long an unknown outcome counts as a job in flight (ours: four times the longest job planned
for). For longer, three lost answers would lock the account for good. As spent it counts all day."""
MAX_NAMED = 5
"""How many of the jobs in flight a refusal names."""
_CENT = 1e-6


class InFlightJob(NamedTuple):
    """A live row.

    Attributes:
        state: a `State`, or its plain word: they compare the same.
        age: seconds since it was written; below 0 when the clock was set back since.
        id: the one to tell a caller.
    """

    state: str
    age: float
    id: str


class Spending(Protocol):
    """The account's submits that were made here and are not proven unsent, oldest first.

    A row dated in the future counts for each window as long before its date as after.
    """

    def highest_price(self) -> float:
        """The most that a job ever cost or was estimated at; 0 when none is known."""

    def paid(self) -> tuple[float, int]:
        """Credits spent or reserved in 24 hours, and how many more jobs have no known price."""

    def payments(self, unpriced: float) -> Sequence[tuple[float, float]]:
        """The age and the credits of each job of `paid`, `unpriced` for those without a price."""

    def in_flight(self) -> Sequence[InFlightJob]:
        """What is live, of 24 hours."""

    def submit_ages(self, within: float) -> Sequence[float]:
        """Seconds since each submit of that many seconds."""


def check(
    limits: SpendingLimits, now: datetime, estimate: float | None, spending: Spending
) -> None:
    """Whether one more job fits under every cap.

    A job of unknown price counts against the day as the dearest job this account ever had; while
    there was none, as the whole day's allowance: so one is let through, and tells the price.

    Args:
        estimate: credits of the new job, None when the price cannot be had.

    Raises:
        LimitReached: the first cap that it breaks.
    """
    _per_job(limits.credits_per_job, estimate)
    _per_day(limits.credits_per_day, now, estimate, spending)
    _in_flight(limits.in_flight, spending)
    _per_minute(limits.submits_per_minute, now, spending)


def _per_job(limit: float | None, estimate: float | None) -> None:
    if limit is None or (estimate is not None and estimate <= limit):
        return
    unknown = "has a price that cannot be had now"
    price = unknown if estimate is None else f"costs {number(estimate)}"
    raise LimitReached(
        f"At most {counted(limit, 'credit')} may be spent on one job, and this one {price}.",
        setting="WAN_MCP_MAX_CREDITS_PER_JOB",
        limit=limit,
        used=estimate,
    )


def _per_day(
    limit: float | None,
    now: datetime,
    estimate: float | None,
    spending: Spending,
) -> None:
    if limit is None:
        return
    used, without_price = spending.paid()
    # The dearest of all times is not looked for without need: an account only grows.
    unpriced = (spending.highest_price() or limit) if without_price or estimate is None else 0.0
    price = unpriced if estimate is None else estimate
    used += without_price * unpriced
    if limit and used + price <= limit + _CENT:
        return
    needed = used + price - limit
    raise LimitReached(
        f"At most {counted(limit, 'credit')} may be spent in 24 hours: {number(used)} "
        f"{is_or_are(used)} used up or reserved, and this job counts as {number(price)}.",
        setting="WAN_MCP_MAX_CREDITS_PER_DAY",
        limit=limit,
        used=used,
        frees_at=_frees_at(
            now, _day_frees_in(spending.payments(unpriced), needed) if limit else None
        ),
    )


def _day_frees_in(paid: Sequence[tuple[float, float]], needed: float) -> float | None:
    """Seconds until enough of the oldest left the window; None when the job alone is too dear."""
    for age, credits in paid:
        needed -= credits
        if needed <= _CENT:
            return DAY_SECONDS - age
    return None


def _in_flight(limit: int | None, spending: Spending) -> None:
    if limit is None:
        return
    running = [each.id for each in spending.in_flight() if _counts(each)]
    if len(running) < limit:
        return
    raise LimitReached(
        f"At most {counted(limit, 'job')} may be in flight at once, and {len(running)} "
        f"{is_or_are(len(running))}.",
        setting="WAN_MCP_MAX_IN_FLIGHT",
        limit=limit,
        used=len(running),
        next_step=_landing(running[:MAX_NAMED]) if running else None,
        blocking_job_ids=running[:MAX_NAMED],
    )


def _landing(ids: Sequence[str]) -> str:
    # The poller looks only now and then while nobody waits: a look frees the place sooner.
    return (
        f"Call get_job_status for {', '.join(ids)}: a look at a job that has ended frees its "
        "place. If none has, call wait_for_job for one. Then repeat the same call. Only the "
        "operator of this server can raise WAN_MCP_MAX_IN_FLIGHT."
    )


def _counts(live: InFlightJob) -> bool:
    return live.state != State.UNKNOWN or abs(live.age) < UNKNOWN_IN_FLIGHT_SECONDS


def _per_minute(limit: int | None, now: datetime, spending: Spending) -> None:
    if limit is None:
        return
    ages = spending.submit_ages(MINUTE_SECONDS)
    if len(ages) < limit:
        return
    raise LimitReached(
        f"At most {counted(limit, 'paid request')} may be sent a minute, and {len(ages)} "
        f"{was_or_were(len(ages))}.",
        setting="WAN_MCP_MAX_SUBMITS_PER_MINUTE",
        limit=limit,
        used=len(ages),
        frees_at=_frees_at(now, MINUTE_SECONDS - ages[-limit] if limit else None),
    )


def _frees_at(now: datetime, seconds: float | None) -> FreesAt | None:
    return None if seconds is None else FreesAt(seconds, now + timedelta(seconds=seconds))
