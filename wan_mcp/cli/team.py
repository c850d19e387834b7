"""What the command `http` needs for people who sign in."""

from pathlib import Path
from typing import NamedTuple

from wan_mcp.settings import BadSettings, Settings
from wan_mcp.tenants.directory import StoredDirectory
from wan_mcp.tenants.keys import BadKeyRing, KeyRing
from wan_mcp.transports.sign_in.sign_in import SignIn
from wan_mcp.transports.sign_in.trust import Trust, read_trust


class People(NamedTuple):
    """Who may call a server.

    Attributes:
        directory: who they are.
        sign_in: how they say so.
    """

    directory: StoredDirectory
    sign_in: SignIn


def people_of(settings: Settings) -> People:
    """Who may call. Nothing is connected to yet.

    Raises:
        BadSettings: a setting is missing, or cannot be used.
    """
    try:
        ring = KeyRing.read(settings.key_ring.get_secret_value())
    except BadKeyRing as exc:
        raise BadSettings(str(exc)) from None
    directory = StoredDirectory(settings.ledger_url.get_secret_value(), ring)
    return People(directory, SignIn(directory, _trust(settings)))


def _trust(settings: Settings) -> Trust | None:
    if not isinstance(settings.sign_in, Path):
        return None
    try:
        return read_trust(settings.sign_in)
    except ValueError as exc:
        raise BadSettings(f"WAN_MCP_SIGN_IN: {exc}") from None
