"""What jobs cost, by day and in total, as the spending limits count it."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple


class Price(NamedTuple):
    """The price of one job, in credits.

    Attributes:
        at: when it was requested.
        charged: what PixelDojo named; None if it named nothing.
        expected: what was expected before it was sent; None if that was not known.
    """

    at: datetime
    charged: float | None
    expected: float | None


@dataclass
class Spent:
    """The cost of some jobs.

    Attributes:
        credits: what PixelDojo named, and what was expected where it named nothing.
        expected: how much of that was only expected.
        unpriced: how many jobs have neither price. They are not part of the credits.
    """

    jobs: int = 0
    credits: float = 0.0
    expected: float = 0.0
    unpriced: int = 0

    def add(self, price: Price) -> None:
        """Count one more job. A negative price counts as 0."""
        self.jobs += 1
        known = price.expected if price.charged is None else price.charged
        if known is None:
            self.unpriced += 1
            return
        self.credits += max(known, 0.0)
        if price.charged is None:
            self.expected += max(known, 0.0)


@dataclass
class Totals:
    """The cost of some jobs, in total and on each day with a job, the newest day first."""

    in_all: Spent = field(default_factory=Spent)
    by_day: dict[date, Spent] = field(default_factory=dict)


def totals(prices: Iterable[Price], day_of: Callable[[datetime], date]) -> Totals:
    """Add up prices.

    Args:
        day_of: the day on which a moment falls where the user is.
    """
    in_all, days = Spent(), defaultdict[date, Spent](Spent)
    for price in prices:
        in_all.add(price)
        days[day_of(price.at)].add(price)
    return Totals(in_all, dict(sorted(days.items(), reverse=True)))
