"""The command `http`, from the moment when the rest of the program may be imported."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from wan_mcp.front_desk.health import HealthDesk
from wan_mcp.server import RunningServer, build_server
from wan_mcp.settings import Settings
from wan_mcp.tenants.key_page import KeyPage
from wan_mcp.transports.http import run_http
from wan_mcp.transports.listener import Listener, here
from wan_mcp.transports.operations.operators import Operators
from wan_mcp.transports.operations.port import listen_for_operators
from wan_mcp.transports.operations.proxies import Access
from wan_mcp.transports.own_key.site import KEY_PATH
from wan_mcp.transports.shutdown import lingering
from wan_mcp.transports.uploads import PATH

if TYPE_CHECKING:
    from wan_mcp.cli.team import People


def serve(
    settings: Settings, *, host: str, desk: HealthDesk, announce: Callable[[str], None]
) -> NoReturn:
    """Serve until a signal, then end the process.

    Args:
        host: the name under which the desk listens.
        desk: a desk that listens already.
        announce: called with the URL once clients can connect.

    Raises:
        BadSettings: people cannot sign in with these settings.
        OSError: the port for metrics cannot be used; the text is a sentence.
    """
    running = RunningServer()
    people = _people(settings)
    trust = people.sign_in.trust if people else None
    hosts = (*([trust.host] if trust else ()), *settings.allowed_hosts)
    access = Access(hosts, settings.allowed_origins, settings.trusted_proxies)
    operators = Operators(
        running, _own_port(settings), access, lambda: running.uploads, lambda: running.own_keys
    )
    port = desk.listener.getsockname()[1]
    public = trust.site if trust else public_address(settings.allowed_hosts, host, port)
    key_page = KeyPage(f"{public}{KEY_PATH}", trust.key_issuers if trust else {})
    directory = people.directory if people else None
    run_http(
        build_server(
            settings,
            running=running,
            upload_page=f"{public}{PATH}",
            people=directory,
            key_page=key_page if settings.personal_keys else None,
        ),
        host=host,
        announce=announce,
        deadlines=lingering(settings.drain_seconds),
        desk=desk,
        operators=operators,
        sign_in=people.sign_in if people else None,
    )


def _people(settings: Settings) -> "People | None":
    if settings.sign_in is None:
        return None
    from wan_mcp.cli.team import people_of  # it needs what only a team installs

    return people_of(settings)


def public_address(hosts: Sequence[str], host: str, port: int) -> str:
    """The address at which users reach this server.

    It is never taken from a request, whose sender could name any host.

    Args:
        hosts: the names under which a proxy of the operator reaches it, if there is one.
        host, port: where it listens.
    """
    if not hosts:
        return here(host, port)
    public = hosts[0]
    is_here = urlsplit(f"//{public}").hostname in ("localhost", "127.0.0.1", "::1")
    return f"{'http' if is_here else 'https'}://{public}"


def _own_port(settings: Settings) -> Listener | None:
    """The port for metrics; None if there is to be none. Raises OSError with a sentence."""
    if settings.metrics_port is None:
        return None
    if find_spec("prometheus_client") is None:
        raise OSError(
            "WAN_MCP_METRICS_PORT needs the extra metrics: pip install 'wan-mcp[metrics]'"
        )
    return listen_for_operators(settings.metrics_host, settings.metrics_port)
