"""What the ledger knows about the credits of a workspace."""

from collections.abc import Sequence
from datetime import datetime

from wan_mcp.ledger.expected_price import AccountCredits
from wan_mcp.ledger.limit_use import usage
from wan_mcp.ledger.queueing.rules import must_wait
from wan_mcp.ledger.rows import Rows
from wan_mcp.ledger.spending_limits import LimitReached
from wan_mcp.ledger.wallets.counting import counted, spending_of, whole
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.ledger.wallets.workspace import Workspace


def account_credits(
    rows: Rows,
    workspace: Workspace,
    estimate: float | None,
    quotas: Sequence[Quota],
    now: datetime,
) -> AccountCredits:
    """What was spent, the balance, and whether the limits allow a job of that price now."""
    limited = counted(rows, workspace, quotas, now)
    everybody = whole(rows, workspace, limited, now)
    own = everybody
    if not workspace.is_alone:
        own = spending_of(rows, workspace, frozenset({workspace.name}), now)
    refusal, waits = None, False
    try:
        waits = must_wait(limited, everybody, now, estimate)
    except LimitReached as reached:
        refusal = reached
    return AccountCredits(
        spent=own.totals(),
        # The balance is that of the key: the newest answer to any of its users names it.
        balance=everybody.balance(),
        limits=[
            use._replace(whose=quota.whose)
            for quota, spending in limited
            for use in usage(quota.limits, now, spending)
            if not quota.whose or use.limit is not None  # "no limit" is listed once
        ],
        refusal=refusal,
        queued=own.queued(),
        would_wait=waits,
    )
