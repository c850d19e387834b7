"""The owners of the jobs in a ledger."""

from typing import NamedTuple

from wan_mcp.tenants.administration.acts import Operator

_LIST = b"""
SELECT o.name, u.id, u.name, t.name, w.name, w.account
FROM user_workspaces o JOIN users u ON u.id = o.user_id
JOIN wallet_keys w ON w.account = o.wallet LEFT JOIN teams t ON t.id = u.team_id
WHERE (%(user)s::text IS NULL OR u.id = %(user)s)
    AND (%(wallet)s::text IS NULL OR w.account = %(wallet)s)
UNION ALL SELECT account, NULL, NULL, NULL, name, account FROM wallet_keys
WHERE %(user)s::text IS NULL AND (%(wallet)s::text IS NULL OR account = %(wallet)s)
"""


class Owner(NamedTuple):
    """The owner of the jobs in one workspace.

    Attributes:
        account: the name under which the ledger has them.
        user_id, user: the id and the name; None for what belongs to a wallet and to no user.
        team: the name of the user's team now; None for none.
        wallet: the name of the wallet that paid.
        wallet_account: the name of the wallet in the ledger.
    """

    account: str
    user_id: str | None
    user: str | None
    team: str | None
    wallet: str | None
    wallet_account: str


def owners(operator: Operator, user: str | None = None, wallet: str | None = None) -> list[Owner]:
    """The owner of every workspace that there ever was.

    Args:
        user: only those of the user with this id; None for all.
        wallet: only those of the wallet with this account; None for all.
    """
    return [Owner(*row) for row in operator.rows(_LIST, user=user, wallet=wallet)]
