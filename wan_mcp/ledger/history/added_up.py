"""The total cost of the ended jobs of each account, stored so that a list need not read them all.

A server adds a job to the totals some time after its end. Until then, and after each later change,
even by a server of a version that keeps no totals, the job is in the index `uncounted`, and a
reader of the totals adds the difference. So the totals are exact at any moment.
"""

import json

from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.rows import Rows
from wan_mcp.ledger.session import Session

MOST_AT_ONCE = 250
"""How many jobs of one account one transaction adds up (ours): payments and the first call wait
for it. After an update of a server with a long history, this many are added every half minute."""
NO_COST = -1e300
"""What a job counts as if PixelDojo has not named its cost, see `columns.COUNTS_AS`."""


def add_up(session: Session) -> None:
    """Add the jobs that ended since the last time to the totals, if there are any."""
    rows = Rows(session)
    for (account,) in rows.values(sql.spending.WITH_UNCOUNTED):
        with session.transaction(account, patient=False):
            _add_up(rows, account)


def _add_up(rows: Rows, account: str) -> None:
    found = rows.values(sql.spending.UNCOUNTED, account=account, limit=MOST_AT_ONCE)
    before = [counted for _, _, counted in found if counted is not None]
    now = [counts for _, counts, _ in found if counts is not None]
    rows.write(sql.spending.MARK_COUNTED, numbers=json.dumps([number for number, _, _ in found]))
    rows.write(
        sql.spending.ADD_TO_TOTALS,
        account=account,
        jobs=len(now) - len(before),
        credits=_credits(now) - _credits(before),
        without_cost=now.count(NO_COST) - before.count(NO_COST),
    )


def _credits(counted: list[float]) -> float:
    return sum(each for each in counted if each != NO_COST)
