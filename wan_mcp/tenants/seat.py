"""What a caller works with: a workspace, the PixelDojo key that pays for it, and its limits."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from wan_mcp.errors import NoKey
from wan_mcp.tenants.limits import Kind, Limits


@dataclass(frozen=True)
class Seat:
    """What one user has: a workspace on a wallet.

    Attributes:
        workspace: its name: the account of the user's jobs in the ledger. It never changes.
        wallet: the account of the wallet, whose PixelDojo key all of its workspaces share.
        user, team: the ids; the team is None for a user without one.
        team_name: the name of the team; "" without one.
        api_base: the root URL of PixelDojo's API.
        api_key: the key. It is not shown when the seat is.
        is_own: whether the wallet is the user's own, and not that of the team.
        limits: those of the user, the team and the wallet; each has to allow a job.
        of_user: every workspace of this user, whose jobs count against the limits of the user.
        of_team: every workspace of the users of the team, for those of the team.
        as_of: the version of the people at which all of this was so: see `Quota.as_of`.
    """

    workspace: str
    wallet: str
    user: str
    team: str | None
    team_name: str
    api_base: str
    api_key: str = field(repr=False)
    is_own: bool
    limits: Mapping[Kind, Limits]
    of_user: Set[str]
    of_team: Set[str]
    as_of: int


@dataclass(frozen=True)
class WalletKey:
    """The key of a wallet, for work that goes on while none of its users calls.

    Attributes:
        wallet: its account.
        api_base: the root URL of PixelDojo's API.
        api_key: the key. It is not shown when this is.
    """

    wallet: str
    api_base: str
    api_key: str = field(repr=False)


class NoWallet(NoKey):
    """The caller has no wallet, so nothing can be bought or read for them."""

    step_by = None
    advice = (
        "Tell the user: the operator of this server has to give a PixelDojo key to them or to "
        "their team (`wan-mcp admin wallet add`). Never ask for a key in the conversation."
    )

    def name_page(self, page: str) -> None:
        """Say that the user can store a key of their own.

        Args:
            page: the address of the page for it.
        """
        self.key_page = page
        self.next_step = (
            f"Tell the user to store their own PixelDojo key at {page}, and call again when they "
            "say that it is stored. They sign in on the page, or bring their token of this server. "
            "Never ask for a key or a token in the conversation."
        )


class WalletClosed(NoKey):
    """The key of the caller's wallet cannot be opened on this server."""

    step_by = None
    advice = (
        "Tell the user: the operator of this server has to look at its key ring "
        "(`wan-mcp admin wallet list` says what is wrong). Nothing was charged."
    )


def workspace_of(user: str, wallet: str) -> str:
    """The name of a user's workspace on a wallet. It never changes."""
    return f"{wallet}/{user}"


def user_of(workspace: str) -> str:
    """The id of the user whose workspace it is."""
    return workspace.rpartition("/")[2]


def purpose_of(wallet: str, api_base: str) -> str:
    """What a wallet's key is sealed for: it opens in no other wallet, and for no other address."""
    return f"wan-mcp wallet\n{wallet}\n{api_base}"
