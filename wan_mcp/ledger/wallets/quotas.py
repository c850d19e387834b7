"""Several limits at once, as of a user, their team and their wallet: the tightest one refuses.

Pure functions, without a store. A claim calls them inside its transaction, as it does `check`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import inf
from typing import Generic, NamedTuple, TypeVar

from wan_mcp.ledger import spending_limits
from wan_mcp.ledger.spending_limits import (
    LimitReached,
    NoRoom,
    PriceRose,
    Spending,
    SpendingLimits,
)


@dataclass(frozen=True)
class Quota:
    """Limits, and whose requests count against them.

    Two claims on one wallet never overlap, and neither do two with one name in `across`, so they
    never pass a limit together.

    Attributes:
        whose: whose limits they are, as the end of a sentence about a limit: "your own", "of the
            team Blue". "" for the settings of the operator.
        workspaces: the workspaces whose requests count; None for the whole wallet.
        across: a name of these limits, if the workspaces may be of several wallets; "" otherwise.
        as_of: the version of the people for which all of this is right; None if there are none.
    """

    limits: SpendingLimits
    whose: str = ""
    workspaces: frozenset[str] | None = None
    across: str = ""
    as_of: int | None = None

    def agreed_to(self, agreed: float | None) -> "Quota":
        """The same for one job that may cost `agreed` credits without another question."""
        if agreed is None:
            return self
        return replace(self, limits=replace(self.limits, agreed=agreed))


def across_wallets(quotas: Iterable[Quota]) -> list[str]:
    """The locks that a claim takes besides that of its wallet, in the order that all claims use."""
    return sorted({quota.across for quota in quotas if quota.across})


def versions(quotas: Iterable[Quota]) -> set[int]:
    """The versions of the people for which these limits are right; empty if there are none."""
    return {quota.as_of for quota in quotas if quota.as_of is not None}


S = TypeVar("S", bound=Spending, covariant=True)


class Counted(NamedTuple, Generic[S]):
    """A quota, and what counts against it."""

    quota: Quota
    spending: S


def check(
    counted: Iterable[Counted[Spending]], now: datetime, estimate: float | None, why: str = ""
) -> None:
    """Refuse one more job if it would exceed any of the limits.

    Args:
        counted: the nearest first; of two that are equally tight, the nearer one refuses.
        estimate, why: as for `spending_limits.check`.

    Raises:
        LimitReached: the tightest one. It says whose limit it is.
        NoRoom: the only limits in the way are those that a queued request may wait for.
        PriceRose: no limit is in the way, but the person has not agreed to this price.
    """
    refusals: list[LimitReached] = []
    rose: PriceRose | None = None
    for quota, spending in counted:
        try:
            spending_limits.check(quota.limits, now, estimate, spending, why)
        except LimitReached as reached:
            refusals.append(reached.of(quota.whose))
        except PriceRose as question:
            rose = question
    if refusals:
        raise tightest(refusals)
    if rose is not None:
        raise rose


def tightest(refusals: Sequence[LimitReached]) -> LimitReached:
    """The refusal that lasts longest. One that a queued request may wait for comes last."""
    return max(refusals, key=_tightness)


def _tightness(reached: LimitReached) -> tuple[bool, float]:
    lasts = inf if reached.frees_at is None else reached.frees_at.seconds
    return not isinstance(reached, NoRoom), lasts
