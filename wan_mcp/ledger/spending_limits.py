"""How much may be spent: the rule itself, without a store.

A claim calls `check` inside the transaction that inserts its record. Outside of it, two claims at
the same moment could both take the last free place.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, Self

from wan_mcp.errors import SOON_SECONDS, Code, Figures, Refused
from wan_mcp.ledger.record import State
from wan_mcp.wording import counted, is_or_are, number, was_or_were


@dataclass(frozen=True)
class SpendingLimits:
    """The operator's limits for each account; None means no limit. No tool argument changes them.

    Attributes:
        credits_per_job: a more expensive job is refused, and so is a job whose price is not known.
        credits_per_day: credits within a sliding window of 24 hours, across restarts.
        in_flight: jobs at the same time.
        submits_per_minute: paid requests within 60 seconds.
        agreed: credits that this one job may cost without asking the person (again).
        read_only: whether no job may be bought at all.
        queued: requests that may wait for the limits of `in_flight` and `submits_per_minute`; with
            0, these two refuse. None is for limits beside others that say how many may wait.
    """

    credits_per_job: float | None = None
    credits_per_day: float | None = 200
    in_flight: int | None = 3
    submits_per_minute: int | None = 6
    agreed: float | None = None
    read_only: bool = False
    queued: int | None = 0


@dataclass(frozen=True)
class FreesAt:
    """When a limit will allow the same call, without a change of the setting.

    Attributes:
        seconds: the time until then.
        at: the date, UTC.
    """

    seconds: float
    at: datetime

    def __str__(self) -> str:
        # Both are rounded up, so that a call at the given time is never too early.
        if self.seconds <= SOON_SECONDS:
            return f"There is room again in {max(math.ceil(self.seconds), 1)} s."
        minute = self.at + timedelta(minutes=1, microseconds=-1)
        return f"There is room again at {minute:%Y-%m-%d %H:%M} UTC."


class LimitReached(Refused):
    """A limit of the operator does not allow the paid call. Nothing was sent.

    Args:
        setting: the environment variable that holds the limit.
        limit: its value.
        used: how much of it is used; for the limit per job, the estimate of this job, if any.
        frees_at: when the limit will allow the call, if that is known.
        next_step: what the caller can do now, if something helps before that.
        blocking_job_ids: the jobs that use it up.
        whose: whose limit it is, see `wallets.quotas.Quota`; "" for the operator's setting.
    """

    code = Code.LIMIT_REACHED
    advice = (
        "Tell the user. Only the operator of this server can change the setting; no argument can. "
        "check_credits shows each limit."
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
        whose: str = "",
    ) -> None:
        when = "" if frees_at is None else f" {frees_at}"
        step = next_step if frees_at is None else _after_waiting(frees_at, setting, whose)
        origin = f"This limit is {whose}." if whose else f"The setting is {setting}."
        super().__init__(
            f"{what}{when} {origin}",
            next_step=step,
            retry_after=None if frees_at is None else frees_at.seconds,
        )
        self.retry_safe = frees_at is not None and frees_at.seconds <= SOON_SECONDS
        self.blocking_job_ids = tuple(blocking_job_ids)
        self.figures = Figures(setting, limit, used, self.blocking_job_ids)
        self.setting = setting
        self.limit = limit
        self.used = used
        self.frees_at = frees_at
        self.whose = whose
        self._what = what

    def of(self, whose: str) -> Self:
        """The same refusal, by a limit of somebody's instead of a setting of the operator."""
        if not whose:
            return self
        ids = self.blocking_job_ids
        return type(self)(
            self._what,
            setting=self.setting,
            limit=self.limit,
            used=self.used,
            frees_at=self.frees_at,
            next_step=f"{_free_places(ids) if ids else 'Tell the user.'} {_RAISED_BY}",
            blocking_job_ids=ids,
            whose=whose,
        )


class NoRoom(LimitReached):
    """A limit has no room now and will have some: the request may be queued instead."""


class PriceRose(Refused):
    """The expected price rose above what needs no (further) question. Nothing was sent."""

    code = Code.PRICE_ROSE
    retry_safe = True
    usual_wait = 1.0
    advice = "Repeat the same call: the user is then asked about the higher price."


_RAISED_BY = "Only an administrator of this server can raise the limit; no argument can."


def _after_waiting(frees_at: FreesAt, setting: str, whose: str) -> str:
    if frees_at.seconds <= SOON_SECONDS:
        return "Repeat the same call then."
    raised = f"Only the operator of this server can make it possible sooner, by raising {setting}."
    return f"Tell the user, and repeat the same call then. {_RAISED_BY if whose else raised}"


DAY_SECONDS = 86_400.0
MINUTE_SECONDS = 60.0
UNKNOWN_IN_FLIGHT_SECONDS = 3_600.0
"""How long an unknown outcome counts as a job in flight (ours: four times the longest job that is
expected). Without this end, three lost answers would block the account for ever. As spending, an
unknown outcome counts for the whole day."""
MAX_NAMED = 5
"""How many of the jobs in flight the error text names."""
_ROUNDING = 1e-6
"""The rounding error that a sum of fractions may have, in credits."""


class InFlightJob(NamedTuple):
    """A live record.

    Attributes:
        state: a `State`, or the same word as a plain string; the two are equal.
        age: seconds since the record was created; negative if the clock was set back since then.
        id: the id that callers use, see `Record.public_id`; "" for a job of another user, whose id
            is not revealed.
    """

    state: str
    age: float
    id: str


class Queued(NamedTuple):
    """The queued requests of an account.

    Attributes:
        credits: what those with a known price will cost together.
        without_price: how many have none.
    """

    requests: int
    credits: float
    without_price: int


NOTHING_QUEUED = Queued(0, 0.0, 0)


class Spending(Protocol):
    """The account's requests in the ledger, except those that are proven not sent, oldest first.

    A record that a wrong clock dated in the future counts in a window of the same length before
    its date.
    """

    def highest_price(self) -> float:
        """The highest charge or estimate of any job of the account; 0 if none is known."""

    def paid(self) -> tuple[float, int]:
        """Credits spent or reserved in 24 hours, and the number of jobs without a known price.

        What is queued is reserved in full.
        """

    def payments(self, unpriced: float) -> Sequence[tuple[float, float]]:
        """The age in seconds and the credits of each job of `paid`.

        Args:
            unpriced: the credits of a job without a known price.
        """

    def in_flight(self) -> Sequence[InFlightJob]:
        """The live records of the last 24 hours."""

    def queued(self) -> Queued:
        """The queued requests that count in `paid`."""

    def submit_ages(self, within: float) -> Sequence[float]:
        """The age in seconds of each request of the last `within` seconds."""


def check(
    limits: SpendingLimits,
    now: datetime,
    estimate: float | None,
    spending: Spending,
    why: str = "",
) -> None:
    """Refuse one more job if it would exceed a limit.

    For the limit per day, a job of unknown price counts as the most expensive job that this
    account has had. If there was none, it counts as the whole limit: then one such job is allowed,
    and PixelDojo's answer to it contains the price.

    Args:
        estimate: credits of the new job; None if the price is not known.
        why: why that is not the price on PixelDojo's model page, in a sentence; "" if it is.

    Raises:
        LimitReached: names the first limit that the job would exceed.
        NoRoom: the only limits in the way are those that a queued request may wait for.
        PriceRose: the person has not agreed to this price.
    """
    if limits.read_only:
        what = "This server is read-only: it starts no paid jobs, so nothing was sent."
        raise LimitReached(what, setting="WAN_MCP_READ_ONLY", limit=0, used=None)
    _per_job(limits.credits_per_job, estimate, why)
    _per_day(limits.credits_per_day, now, estimate, spending, why)
    _in_flight(limits.in_flight, spending)
    _per_minute(limits.submits_per_minute, now, spending)
    # Last: the person is not asked about a job that a limit refuses.
    _agreed(limits.agreed, estimate, why)


def _agreed(agreed: float | None, estimate: float | None, why: str) -> None:
    if agreed is None or estimate is None or estimate <= agreed + _ROUNDING:
        return
    raise PriceRose(
        f"At most {counted(agreed, 'credit')} may be spent on this job without another question, "
        f"and by now it is expected to cost {counted(estimate, 'credit')}, so nothing was sent."
        + _with_space(why)
    )


def _per_job(limit: float | None, estimate: float | None, why: str) -> None:
    if limit is None or (estimate is not None and estimate <= limit):
        return
    unknown = "has a price that is not known now"
    price = unknown if estimate is None else f"costs {number(estimate)}"
    raise LimitReached(
        f"At most {counted(limit, 'credit')} may be spent on one job, and this one {price}."
        + _with_space(why),
        setting="WAN_MCP_MAX_CREDITS_PER_JOB",
        limit=limit,
        used=estimate,
    )


def _per_day(
    limit: float | None,
    now: datetime,
    estimate: float | None,
    spending: Spending,
    why: str,
) -> None:
    if limit is None:
        return
    used, without_price = spending.paid()
    # The highest price is read only if it is needed, because it takes all records of the account.
    highest = spending.highest_price() if without_price or estimate is None else 0.0
    unpriced = highest or limit
    price = unpriced if estimate is None else estimate
    used += without_price * unpriced
    if limit and used + price <= limit + _ROUNDING:
        return
    needed = used + price - limit
    frees_at = frees_in(now, _day_frees_in(spending.payments(unpriced), needed) if limit else None)
    if limit and without_price and not highest and price <= limit:
        raise _waits_for_a_price(limit, without_price, frees_at, used)
    raise LimitReached(
        f"At most {counted(limit, 'credit')} may be spent in 24 hours: {number(used)} "
        f"{is_or_are(used)} used up or reserved, and this job counts as {number(price)}."
        + _with_space(why),
        setting="WAN_MCP_MAX_CREDITS_PER_DAY",
        limit=limit,
        used=used,
        frees_at=frees_at,
    )


def _waits_for_a_price(
    limit: float, jobs: int, latest: FreesAt | None, used: float
) -> LimitReached:
    """The refusal while a job counts as the whole limit, which ends once its price is known."""
    at_the_latest = "" if latest is None else f" If it never does: {latest}"
    return LimitReached(
        f"At most {counted(limit, 'credit')} may be spent in 24 hours, and the price of "
        f"{counted(jobs, 'earlier job')} is not known yet: each counts as the whole limit until "
        "PixelDojo says what it costs.",
        setting="WAN_MCP_MAX_CREDITS_PER_DAY",
        limit=limit,
        used=used,
        next_step="Call list_jobs: repeat the same call once it shows a job with its credits."
        + at_the_latest,
    )


def _with_space(sentence: str) -> str:
    return f" {sentence}" if sentence else ""


def _day_frees_in(paid: Sequence[tuple[float, float]], needed: float) -> float | None:
    """Seconds until enough old jobs leave the window; None if the new job alone costs too much."""
    for age, credits in paid:
        needed -= credits
        if needed <= _ROUNDING:
            return DAY_SECONDS - age
    return None


def _in_flight(limit: int | None, spending: Spending) -> None:
    if limit is None:
        return
    running = [each.id for each in spending.in_flight() if is_in_flight(each)]
    if len(running) < limit:
        return
    named = [id for id in running if id][:MAX_NAMED]
    refusal = NoRoom if limit else LimitReached
    raise refusal(
        f"At most {counted(limit, 'job')} may be in flight at once, and {len(running)} "
        f"{is_or_are(len(running))}.",
        setting="WAN_MCP_MAX_IN_FLIGHT",
        limit=limit,
        used=len(running),
        next_step=_look_at(named) if named else None,
        blocking_job_ids=named,
    )


def _look_at(ids: Sequence[str]) -> str:
    raised = "Only the operator of this server can raise WAN_MCP_MAX_IN_FLIGHT."
    return f"{_free_places(ids)} {raised}"


def _free_places(ids: Sequence[str]) -> str:
    # While nobody waits for a job, the poller reads it rarely. A call frees the place sooner.
    return (
        f"Call get_job_status for {', '.join(ids)}: that frees the place of a job that has ended. "
        "If none has ended, call wait_for_job for one. Then repeat the same call."
    )


def is_in_flight(live: InFlightJob) -> bool:
    return live.state != State.UNKNOWN or abs(live.age) < UNKNOWN_IN_FLIGHT_SECONDS


def _per_minute(limit: int | None, now: datetime, spending: Spending) -> None:
    if limit is None:
        return
    ages = spending.submit_ages(MINUTE_SECONDS)
    if len(ages) < limit:
        return
    refusal = NoRoom if limit else LimitReached
    raise refusal(
        f"At most {counted(limit, 'paid request')} may be sent a minute, and {len(ages)} "
        f"{was_or_were(len(ages))}.",
        setting="WAN_MCP_MAX_SUBMITS_PER_MINUTE",
        limit=limit,
        used=len(ages),
        frees_at=frees_in(now, MINUTE_SECONDS - ages[-limit] if limit else None),
    )


def frees_in(now: datetime, seconds: float | None) -> FreesAt | None:
    return None if seconds is None else FreesAt(seconds, now + timedelta(seconds=seconds))
