"""What the commands need if people sign in."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wan_mcp.settings import BadSettings, Settings
from wan_mcp.tenants.keys import BadKeyRing, KeyRing
from wan_mcp.transports.sign_in.sign_in import SignIn
from wan_mcp.transports.sign_in.trust import Trust, read_trust

if TYPE_CHECKING:
    from wan_mcp.tenants.directory import StoredDirectory


class People(NamedTuple):
    """Who may call a server.

    Attributes:
        directory: knows the users.
        sign_in: how they sign in.
    """

    directory: "StoredDirectory"
    sign_in: SignIn


def people_of(settings: Settings) -> People:
    """Who may call. No connection is made yet.

    Raises:
        BadSettings: a setting is missing, or cannot be used.
    """
    from wan_mcp.tenants.directory import StoredDirectory  # it needs the extra postgres

    ring = ring_of(settings)
    directory = StoredDirectory(settings.ledger_url.get_secret_value(), ring)
    return People(directory, SignIn(directory, trust_of(settings), ring.derived("page for keys")))


def ring_of(settings: Settings) -> KeyRing:
    """The key ring. Raises BadSettings if it cannot be used."""
    try:
        return KeyRing.read(settings.key_ring.get_secret_value())
    except BadKeyRing as exc:
        raise BadSettings(str(exc)) from None


def trust_of(settings: Settings) -> Trust | None:
    """Whom the operator trusts; None if only this program's own tokens count.

    Raises:
        BadSettings: the operator's file cannot be used.
    """
    if not isinstance(settings.sign_in, Path):
        return None
    try:
        return read_trust(settings.sign_in)
    except ValueError as exc:
        raise BadSettings(f"WAN_MCP_SIGN_IN: {exc}") from None
