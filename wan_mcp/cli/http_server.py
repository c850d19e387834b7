"""The command `http`, from the moment when the rest of the program may be imported."""

from collections.abc import Callable
from typing import NoReturn

from wan_mcp.front_desk.health import HealthDesk
from wan_mcp.server import RunningServer, build_server
from wan_mcp.settings import Settings
from wan_mcp.transports.http import run_http
from wan_mcp.transports.shutdown import lingering


def serve(
    settings: Settings, *, host: str, desk: HealthDesk, announce: Callable[[str], None]
) -> NoReturn:
    """Serve until a signal, then end the process.

    Args:
        host: the name under which the desk listens.
        desk: listens already.
        announce: gets the URL once clients can connect.
    """
    running = RunningServer()
    run_http(
        build_server(settings, running=running),
        host=host,
        announce=announce,
        deadlines=lingering(settings.drain_seconds),
        desk=desk,
        service=running,
    )
