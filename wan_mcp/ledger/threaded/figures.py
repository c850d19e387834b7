"""The figures of a ledger that operators see."""

from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import Account
from wan_mcp.ledger.threaded.ledger import ThreadedLedger
from wan_mcp.logs.facts import Figures


async def missing(ledger: ThreadedLedger) -> dict[str, str]:
    """What the ledger lacks so that a payment can be recorded, in a sentence; empty if nothing."""
    try:
        await ledger.require_usable()
    except LedgerUnavailable as failure:
        return {"ledger": failure.what}
    return {}


async def of_all(ledger: ThreadedLedger) -> Figures:
    """What the ledger knows of the jobs of all wallets together, without their credits."""
    try:
        return Figures(known=True, jobs=await ledger.job_counts())
    except LedgerUnavailable:
        return Figures()


async def figures(ledger: ThreadedLedger, account: Account) -> Figures:
    """The figures, with the credits of one wallet; only the limit if the ledger cannot be read."""
    limit = ledger.limits.credits_per_day
    try:
        name = await account()
        credits = await ledger.credits(name, None)
        unsaved = await ledger.coordination.unsaved(name)
        return Figures(
            known=True,
            jobs=await ledger.job_counts(),
            videos_to_save=len(unsaved),
            credits_spent_day=credits.spent.day_credits,
            credits_limit_day=limit,
            credits_balance=credits.balance.credits if credits.balance else None,
        )
    except LedgerUnavailable:
        return Figures(credits_limit_day=limit)
