"""The workspaces on a wallet, and whether what is known of their users is still right.

The people of a team change while servers work. What a server knows of them may be older than the
lock of the wallet, for which it had to wait, so it is checked again under that lock.
"""

from collections.abc import Collection

from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.contract import QuotasChanged
from wan_mcp.ledger.rows import Rows, read
from wan_mcp.ledger.session import Read
from wan_mcp.ledger.wallets.quotas import Quota, versions
from wan_mcp.ledger.wallets.workspace import Workspace

_VERSION: Read = read(sql.coordination.PEOPLE_VERSION)


def names_asked(workspace: Workspace) -> list[Read]:
    """The reads of `names_of_wallet`; none if the workspace has its wallet to itself."""
    asked = read(sql.coordination.WORKSPACES, shared_wallet=workspace.wallet)
    return [] if workspace.is_alone else [asked]


def version_asked(quotas: Collection[Quota]) -> list[Read]:
    """The reads of `require_current`; none if the limits are not those of people."""
    return [_VERSION] if versions(quotas) else []


def require_current(rows: Rows, quotas: Collection[Quota]) -> None:
    """Check, in a transaction for a wallet, that these limits are still in force.

    Raises:
        QuotasChanged: the user may have another wallet or team now, or other limits.
    """
    known = versions(quotas)
    if known and known != {int(version) for (version,) in rows.values_of(_VERSION)}:
        raise QuotasChanged


def names_of_wallet(rows: Rows, workspace: Workspace) -> frozenset[str]:
    """All names on the wallet of a workspace. In a transaction for the wallet, none is added."""
    found = [name for asked in names_asked(workspace) for (name,) in rows.values_of(asked)]
    return frozenset([workspace.wallet, *found])


def register(rows: Rows, workspace: Workspace) -> None:
    """Record that a workspace is on its wallet, in the transaction of its first record."""
    if workspace.name not in names_of_wallet(rows, workspace):
        rows.note(
            sql.coordination.INSERT_WORKSPACE,
            shared_wallet=workspace.wallet,
            workspace=workspace.name,
        )
