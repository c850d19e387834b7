"""The command `http` up to the moment when it listens. The rest of the program comes after."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn

from wan_mcp.front_desk.health import HealthDesk
from wan_mcp.transports.listener import LOOPBACK, Listener, listen

if TYPE_CHECKING:
    from wan_mcp.settings import Settings

NEEDS = {"WAN_MCP_LEDGER_URL": "ledger_url", "WAN_MCP_KEY_RING_FILE": "key_ring"}
"""The variables that must be set if people sign in, and their attributes in the settings."""


def serve_http(
    host: str, port: int, read: Callable[[], "Settings"], announce: Callable[[str], None]
) -> NoReturn:
    """Serve until a signal, then end the process.

    Args:
        host: one of LOOPBACK; if people sign in, also an IP address of this machine.
        read: reads the settings, which takes a while.
        announce: called with the URL once clients can connect.

    Raises:
        BadSettings: a setting cannot be used.
        OSError: the port cannot be used, or the host is not an address; the text is a sentence.
    """
    desk = HealthDesk(_listening(host, port, read))
    desk.start()  # before the imports that take long
    settings = read()
    if settings.sign_in is not None or settings.personal_keys:
        require_complete(settings, host)
    from wan_mcp.cli.http_server import serve

    serve(settings, host=host, desk=desk, announce=announce)


def require_complete(settings: "Settings", host: str) -> None:
    """Raises BadSettings if people cannot sign in with these settings at this host."""
    from wan_mcp.settings import BadSettings
    from wan_mcp.settings.service import TOKENS

    if settings.sign_in is None:
        raise BadSettings(
            "WAN_MCP_PERSONAL_KEYS: users have keys of their own only where WAN_MCP_SIGN_IN is set"
        )
    for name, field in NEEDS.items():
        if not getattr(settings, field).get_secret_value():
            raise BadSettings(f"WAN_MCP_SIGN_IN: people can sign in only where {name} is set too")
    if host not in LOOPBACK and settings.sign_in == TOKENS and not settings.allowed_hosts:
        raise BadSettings(
            "WAN_MCP_ALLOWED_HOSTS: other computers reach this server by a name, which has to be "
            "set here: a request under any other name is refused"
        )
    if find_spec("psycopg") is None:
        raise BadSettings(
            "WAN_MCP_SIGN_IN needs the extra postgres: pip install 'wan-mcp[postgres]'"
        )


def _listening(host: str, port: int, read: Callable[[], "Settings"]) -> Listener:
    if host in LOOPBACK:
        return listen(host, port)
    if read().sign_in is None:
        raise OSError(
            "Other computers may connect only where people sign in: set WAN_MCP_SIGN_IN, or "
            f"use one of {', '.join(LOOPBACK)} as --host."
        )
    return listen(host, port, anywhere=True)
