"""What the users of a team have spent."""

from typing import NamedTuple

from wan_mcp.ledger.record import FREE_OF_CHARGE
from wan_mcp.ledger.statements.columns import states
from wan_mcp.ledger.statements.spending import PRICE
from wan_mcp.tenants.administration.acts import Operator
from wan_mcp.tenants.audit import NOW

_LIST = f"""
SELECT u.id, u.name, t.name, w.name, COUNT(*), COALESCE(SUM({PRICE}), 0.0)::float8,
    COALESCE(SUM({PRICE}) FILTER (WHERE credit_cost IS NULL), 0.0)::float8,
    COUNT(*) FILTER (WHERE COALESCE(credit_cost, estimate) IS NULL)
FROM jobs JOIN user_workspaces o ON o.name = jobs.account
JOIN users u ON u.id = o.user_id JOIN wallet_keys w ON w.account = o.wallet
LEFT JOIN teams t ON t.id = u.team_id
WHERE digest IS NOT NULL AND state NOT IN {states(FREE_OF_CHARGE)}
    AND jobs.created_at > {NOW} - %(days)s * 86400.0
GROUP BY u.id, t.name, w.name ORDER BY 6 DESC, u.name, u.id
""".encode()


class Spent(NamedTuple):
    """What one user has spent on one wallet.

    Attributes:
        user_id, user: the id and the name.
        team: the name of the user's team now; None for none.
        wallet: its name.
        jobs: how many may have cost something.
        credits: what they cost, or are expected to.
        expected: the part of it that PixelDojo has not confirmed.
        unpriced: how many have no known price.
    """

    user_id: str
    user: str
    team: str | None
    wallet: str
    jobs: int
    credits: float
    expected: float
    unpriced: int


def spending(operator: Operator, days: float) -> list[Spent]:
    """What each user has spent in the last `days` days, the highest sum first."""
    return [Spent(*row) for row in operator.rows(_LIST, days=days)]
