"""Statements about queued requests. There are never many, and they have an index of their own."""

from wan_mcp.ledger.statements.columns import MY_QUEUE, QUEUED_INDEX, queued
from wan_mcp.ledger.statements.dialects import Statement
from wan_mcp.ledger.statements.spending import PRICE

QUEUED_JOBS = queued()
FIRST_QUEUED = queued(limit=1)
"""The dispatcher reads it every second."""
_IDS = f"{MY_QUEUE} ORDER BY number"
QUEUED_IDS = Statement(
    f"SELECT handle FROM jobs {QUEUED_INDEX} {_IDS}", f"SELECT handle FROM jobs {_IDS}"
)


def _costs(index: str) -> str:
    return (
        f"SELECT COUNT(*), COALESCE(SUM({PRICE}), 0.0), "
        f"COUNT(*) - COUNT(COALESCE(credit_cost, estimate)) FROM jobs {index} {MY_QUEUE}"
    )


QUEUED_COSTS = Statement(_costs(QUEUED_INDEX), _costs(""))
