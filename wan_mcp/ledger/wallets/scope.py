"""Whose records a statement reads: those of one workspace, of several, or of a whole wallet."""

import json
from collections.abc import Callable, Mapping, Set
from typing import NamedTuple

from wan_mcp.ledger.statements.dialects import (
    Statement,
    of_several,
    of_wallet,
    of_wallet_and_several,
)
from wan_mcp.ledger.wallets.workspace import Workspace


class Scope(NamedTuple):
    """Whose records a statement reads.

    Attributes:
        over: turns a statement about one workspace into the one about these.
        values: names them in the values of that statement.
    """

    over: Callable[[Statement], Statement]
    values: Mapping[str, object]


def wallet_scope(wallet: str) -> Scope:
    """Every workspace of a wallet, and what belongs to nobody there."""
    return Scope(of_wallet, {"account": wallet})


def whole_wallet(workspace: Workspace) -> Scope:
    """Every workspace on the wallet of this one, which may have it to itself."""
    return one(workspace.name) if workspace.is_alone else wallet_scope(workspace.wallet)


def one(workspace: str) -> Scope:
    """One workspace."""
    return Scope(_the_same, {"account": workspace})


def some(workspaces: Set[str]) -> Scope:
    """These workspaces."""
    if len(workspaces) == 1:
        return one(*workspaces)
    return Scope(of_several, _accounts(workspaces))


def with_wallet(workspace: Workspace, others: Set[str]) -> Scope:
    """Those of `whole_wallet`, and these workspaces."""
    whole = whole_wallet(workspace)
    if not others:
        return whole
    if workspace.is_alone:
        return some(others | {workspace.name})
    return Scope(of_wallet_and_several, {**whole.values, **_accounts(others)})


def _accounts(workspaces: Set[str]) -> Mapping[str, object]:
    return {"accounts": json.dumps(sorted(workspaces))}


def _the_same(statement: Statement) -> Statement:
    return statement
