"""What a job will probably cost: the higher of PixelDojo's model page and the last real charge.

The page may be out of date, or name the price of another kind of job. If a limit in credits relied
on the page alone, jobs could cost many times what the operator allows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from wan_mcp.errors import WanError
from wan_mcp.ledger.fingerprint import DEFAULTS, Arguments
from wan_mcp.ledger.limit_use import LimitUse
from wan_mcp.ledger.spending_limits import NOTHING_QUEUED, LimitReached, Queued
from wan_mcp.models import PublishedPrice, Replacement
from wan_mcp.wording import counted

Page = Callable[[int, str], float | None]
"""The price on the model page, in credits, of a job by its seconds and lines; None if none."""

SEARCHED_JOBS = 50
"""How many of the newest charges are searched for that of a similar job (ours)."""


class Charge(NamedTuple):
    """The charge for one job.

    Attributes:
        arguments: what was asked for, as the record has it.
        credits: what PixelDojo charged, above 0.
    """

    arguments: Arguments
    credits: float


@dataclass(frozen=True)
class ExpectedPrice:
    """The two sources of the price of a new job, in credits.

    Attributes:
        named: the price on the model page; None if it cannot be read.
        charged: what PixelDojo charged for the last job like this one; None if there was none.
        doubt: why the job may cost more than both, in a sentence; "" if nothing suggests that.
    """

    named: float | None
    charged: float | None = None
    doubt: str = ""

    @property
    def credits(self) -> float | None:
        """The expected price; None if the page names none, which stays unknown."""
        return None if self.named is None else max(self.named, self.charged or 0.0)

    @property
    def up_to(self) -> float | None:
        """The most that the job costs, as far as anything shows; None if that is not known."""
        return None if self.doubt else self.credits

    @property
    def why(self) -> str:
        """Why a price other than that on the page counts, in a sentence; "" if none does."""
        if self.named is None or self.charged is None or self.charged <= self.named:
            return ""
        return (
            f"The last job like this one cost {counted(self.charged, 'credit')}, although "
            f"PixelDojo's model page names {counted(self.named, 'credit')}: the higher price "
            "counts."
        )


def expected_price(
    named: float | None, wanted: Replacement, charges: Iterable[Charge]
) -> ExpectedPrice:
    """The expected price of a request.

    If no job of the same kind was charged, the last one that was neither longer nor had more lines
    counts: a larger job costs at least as much (assumed).

    Args:
        named: the price on the model page; None if it cannot be read.
        charges: of the account, newest first.
    """
    kind = _Kind.of(wanted.model_dump(exclude_none=True))
    smaller: float | None = None
    for charge in charges:
        other = _Kind.of(charge.arguments)
        if other == kind:
            return ExpectedPrice(named, charge.credits)
        if smaller is None and other.is_within(kind):
            smaller = charge.credits
    return ExpectedPrice(named, smaller)


def price_up_to(page: Page, wanted: Replacement, charges: Iterable[Charge]) -> ExpectedPrice:
    """The expected price of a request, and why it may be too low as an upper limit.

    If the last job of some size cost more than the page names for that size, the page is out of
    date. Then only a later charge of a job like this one says what this one costs. The same holds
    if a smaller job, for which the page names nothing, cost more than it names for this one.

    Args:
        charges: of the account, newest first.
    """
    charges = list(charges)
    kind = _Kind.of(wanted.model_dump(exclude_none=True))
    expected = expected_price(page(kind.seconds, str(kind.lines)), wanted, charges)
    if expected.named == 0:
        return replace(expected, doubt=_NAMES_ZERO)
    newest: set[_Kind] = set()
    for charge in charges if expected.named is not None else ():
        other = _Kind.of(charge.arguments)
        if other == kind:
            break
        if other in newest or other.options != kind.options:
            continue
        newest.add(other)
        named, of_which = page(other.seconds, str(other.lines)), "for it"
        if named is None and other.is_within(kind):
            named, of_which = expected.named, "for this larger one"
        if named is not None and charge.credits > named + _EQUAL:
            return replace(expected, doubt=_too_low(other, charge.credits, named, of_which))
    return expected


_EQUAL = 1e-6
"""Two prices that differ by no more credits than this count as equal."""
_NAMES_ZERO = "PixelDojo's model page names 0 credits, which is hardly the price of a paid job."


def _too_low(other: "_Kind", cost: float, named: float, of_which: str) -> str:
    return (
        f"The last job of {other.seconds} s at {other.lines} lines cost "
        f"{counted(cost, 'credit')}, although PixelDojo's model page names "
        f"{counted(named, 'credit')} {of_which}: the page may be out of date, and this job may "
        "cost more than it names."
    )


@dataclass(frozen=True)
class Totals:
    """The purchases, certain and possible, of an account with this ledger.

    Attributes:
        jobs: the number of requests, without those that bought nothing.
        day_credits: the cost of those of the last 24 hours, as PixelDojo named it.
        credits: the cost of all of them, as PixelDojo named it.
        without_cost: how many have no cost that PixelDojo named; they are in neither sum.
    """

    jobs: int
    day_credits: float
    credits: float
    without_cost: int


class Balance(NamedTuple):
    """The account's credits, as an answer to a submit reported them."""

    credits: float
    at: datetime


@dataclass(frozen=True)
class AccountCredits:
    """What the ledger knows about the credits of an account.

    Attributes:
        spent: what was spent.
        balance: the last one that was reported; None if there was none lately.
        limits: each limit, and how much of it is used.
        refusal: why a job of the price in question would be refused now; None if it would not.
        queued: what waits in the queue; its credits are reserved.
        would_wait: whether such a job would be queued now.
    """

    spent: Totals
    balance: Balance | None
    limits: Sequence[LimitUse]
    refusal: LimitReached | None
    queued: Queued = NOTHING_QUEUED
    would_wait: bool = False


@dataclass(frozen=True)
class CreditReport:
    """What is known about the credits of an account, before a job is bought.

    Attributes:
        wanted: the job in question; only its size matters.
        page: the price on the model page.
        price: what the job will probably cost.
        limits: each limit; how much of it is used only if `credits` is known.
        key_problem: why the key is not known to be accepted; None if it is accepted.
        credits: what the ledger knows; None if there is no key, or the ledger cannot be read.
        ledger_problem: why the ledger cannot be read.
    """

    wanted: Replacement
    page: PublishedPrice
    price: ExpectedPrice
    limits: Sequence[LimitUse]
    key_problem: WanError | None = None
    credits: AccountCredits | None = None
    ledger_problem: WanError | None = None


@dataclass(frozen=True)
class _Kind:
    """All that the price of a job may depend on (assumed: its size and speed, not its inputs)."""

    seconds: int
    lines: int
    options: tuple[object, object]

    @classmethod
    def of(cls, arguments: Arguments) -> "_Kind":
        full = DEFAULTS | arguments
        options = (full["go_fast"], full.get("frames_per_second"))
        return cls(int(full.get("seconds", 0)), int(full["resolution"]), options)

    def is_within(self, other: "_Kind") -> bool:
        """Whether a job of the other kind is no smaller."""
        smaller = self.seconds <= other.seconds and self.lines <= other.lines
        return smaller and self.options == other.options
