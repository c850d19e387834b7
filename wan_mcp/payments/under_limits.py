"""Makes sure that a decision about limits uses the limits that are in force at that moment."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from wan_mcp.ledger.contract import QuotasChanged
from wan_mcp.ledger.queueing.contract import QuotasOf

T = TypeVar("T")

MOST_TRIES = 5
"""How often limits are read if they change each time before they can be used (ours)."""


async def under_limits(
    quotas_of: QuotasOf | None, workspace: str, work: Callable[..., Awaitable[T]]
) -> T:
    """Do work in the ledger that depends on the limits of a workspace.

    Args:
        quotas_of: reads the limits; None if all workspaces share those of the ledger.
        work: called with the limits as `quotas`. If they are outdated, it raises QuotasChanged
            before it does anything.

    Raises:
        NoKey: the user of the workspace may not use its wallet, or no longer.
        LedgerUnavailable: the limits cannot be read now.
        QuotasChanged: they have changed at each of MOST_TRIES tries. Nothing was done.
    """
    if quotas_of is None:
        return await work(quotas=())
    for _ in range(MOST_TRIES - 1):
        try:
            return await work(quotas=await quotas_of(workspace, fresh=True))
        except QuotasChanged:
            continue
    return await work(quotas=await quotas_of(workspace, fresh=True))
