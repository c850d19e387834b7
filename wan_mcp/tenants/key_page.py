"""The page on which users store PixelDojo keys of their own, and who can use it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from wan_mcp.tenants.caller import MAKE, ByToken, Caller


@dataclass(frozen=True)
class KeyPage:
    """The page of a server.

    Attributes:
        url: its public address.
        issuers: the authorization servers at which people can sign in there, each with what the
            page calls it. Everybody else shows who they are by a token of this program.
    """

    url: str
    issuers: Mapping[str, str] = field(default_factory=dict)

    def is_for(self, caller: Caller) -> bool:
        """Whether a caller can show on the page who they are, and may buy."""
        how = caller.signed_in
        return MAKE in caller.scopes and (isinstance(how, ByToken) or how.issuer in self.issuers)
