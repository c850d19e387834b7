"""The names under which a wallet has records: its workspaces, and what belongs to nobody there."""

from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.rows import Rows, read
from wan_mcp.ledger.session import Read
from wan_mcp.ledger.wallets.workspace import Workspace


def names_asked(workspace: Workspace) -> list[Read]:
    """The reads of `names_of_wallet`; none if the workspace has its wallet to itself."""
    asked = read(sql.coordination.WORKSPACES, shared_wallet=workspace.wallet)
    return [] if workspace.is_alone else [asked]


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
