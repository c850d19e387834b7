"""Which jobs of a list are takes of one order: calls that differ in nothing but their seed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from wan_mcp.models import JobStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wan_mcp.ledger.status import JobView

NO_TAKES = frozenset({JobStatus.NOT_SENT, JobStatus.REFUSED})
"""A request with one of these statuses bought nothing, so there is nothing to choose."""


class Take(NamedTuple):
    """One of several takes; the names of the fields are those of `JobLine`.

    Attributes:
        order: names the order, see `fingerprint.order_of`.
        take: its number among these takes, the oldest being 1.
        takes: how many there are.
    """

    order: str
    take: int
    takes: int


def takes_of(views: Sequence[JobView]) -> list[Take | None]:
    """For each job which take of its order it is; None if it is the only one.

    Args:
        views: newest first.
    """
    orders = [_order(view) for view in views]
    counts = Counter(orders)
    left = counts.copy()
    takes: list[Take | None] = []
    for order in orders:
        count = counts[order]
        takes.append(Take(order, left[order], count) if order is not None and count > 1 else None)
        left[order] -= 1
    return takes


def _order(view: JobView) -> str | None:
    from wan_mcp.ledger.fingerprint import order_of  # not needed before the first list

    record = view.record
    return None if record is None or view.status in NO_TAKES else order_of(record.arguments)
