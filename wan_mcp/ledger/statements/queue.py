"""Statements about queued requests. There are never many, and they have an index of their own."""

from wan_mcp.ledger.statements.columns import JOBS, MY_QUEUE, QUEUED_INDEX, queued
from wan_mcp.ledger.statements.dialects import Statement
from wan_mcp.ledger.statements.spending import PRICE

QUEUED_JOBS = queued()
_IDS = f"{MY_QUEUE} ORDER BY number"
QUEUED_IDS = Statement(
    f"SELECT handle, account FROM jobs {QUEUED_INDEX} {_IDS}",
    f"SELECT handle, account FROM jobs {_IDS}",
)
_FIRST = f"SELECT MIN(number) FROM jobs {{}} {MY_QUEUE} GROUP BY account"
FIRST_QUEUED = Statement(
    # Of each workspace.
    f"{JOBS} number IN ({_FIRST.format(QUEUED_INDEX)}) ORDER BY number",
    f"{JOBS} number IN ({_FIRST.format('')}) ORDER BY number",
)


def _costs(index: str) -> str:
    # Of each workspace.
    return (
        f"SELECT account, COUNT(*), COALESCE(SUM({PRICE}), 0.0), "
        "COUNT(*) - COUNT(COALESCE(credit_cost, estimate)) "
        f"FROM jobs {index} {MY_QUEUE} GROUP BY account"
    )


QUEUED_COSTS = Statement(_costs(QUEUED_INDEX), _costs(""))
