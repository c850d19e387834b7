"""Names whose requests are meant, and whose key pays for them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Workspace:
    """What one user sees of one wallet. A wallet is one PixelDojo key.

    The requests of a workspace are equal only to each other, and no other workspace finds or lists
    them. To PixelDojo they are all the wallet's. A user who shares a key with nobody has the only
    workspace of its wallet, and both have one name. A shared wallet has no workspace of its name:
    what is recorded under that name belongs to nobody, and counts for the wallet alone.

    Attributes:
        name: the name under which its records are kept.
        wallet: the name of the wallet.
    """

    name: str
    wallet: str

    @classmethod
    def of(cls, whose: "Whose") -> "Workspace":
        """The workspace itself; for a name, the only workspace of the wallet with that name."""
        return whose if isinstance(whose, Workspace) else cls(whose, whose)

    @property
    def is_alone(self) -> bool:
        """Whether it has its wallet to itself."""
        return self.name == self.wallet

    async def itself(self) -> "Workspace":
        """The workspace, for services that ask whose calls they work for."""
        return self


Whose = Workspace | str
"""A workspace, or the name of a wallet that belongs to one user alone."""
CallersWorkspace = Callable[[], Awaitable[Whose]]
"""The workspace for whose calls a service works. Its name may have to be read from the ledger."""
